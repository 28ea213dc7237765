//! The file of a search: which trainings there are.

use std::path::Path;

use neocog_base::random::Random;
use neocog_tensor::{Context as _, Error, Result};
use toml::{Table, Value};

/// The tables of the file that are not options of `train`.
const TABLES: [&str; 3] = ["sweep", "values", "ranges"];
const SETTINGS: [&str; 5] = ["method", "runs", "seed", "first-epochs", "keep"];
/// Most trainings of a search.
const MOST: usize = 10_000;

/// How trainings are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// All combinations of the values.
    Grid,
    /// Combinations that are drawn at random.
    Random,
    /// As random, but all start with few epochs, and only a share of the best goes on, with more. K. Jamieson, A. Talwalkar,
    /// "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
    Halving { first_epochs: u64, keep: f64 },
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Options of all trainings, as for `train --config`.
    pub base: Table,
    pub method: Method,
    /// Number of epochs of a whole training, if the file gives it.
    pub epochs: Option<u64>,
    /// The options of each training that differ: pairs of names and values.
    pub trials: Vec<Vec<(String, Value)>>,
}

/// A range of numbers.
struct Range {
    min: f64,
    max: f64,
    is_log: bool,
    is_whole: bool,
}

impl Plan {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// `Format` when it is not TOML, `InvalidArgument` when a setting is unknown or out of range.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let location = || path.display().to_string();
        let table = text
            .parse::<Table>()
            .map_err(|e| Error::format("not a TOML file").with_source(e))
            .context(location)?;
        Self::of(table).context(location)
    }

    fn of(mut table: Table) -> Result<Self> {
        let [settings, values, ranges] = TABLES.map(|name| take_table(&mut table, name));
        let (settings, values, ranges) = (settings?, values?, ranges?);
        for name in settings.keys() {
            if !SETTINGS.contains(&name.as_str()) {
                return Err(Error::not_found("setting of [sweep]", name, SETTINGS));
            }
        }
        let values = values.into_iter().map(|(name, value)| Ok((named(&name), list(&name, value)?)));
        let values: Vec<(String, Vec<Value>)> = values.collect::<Result<_>>()?;
        let ranges = ranges.into_iter().map(|(name, value)| Ok((named(&name), range(&name, &value)?)));
        let ranges: Vec<(String, Range)> = ranges.collect::<Result<_>>()?;
        if let Some((name, _)) = ranges.iter().find(|(name, _)| values.iter().any(|(other, _)| other == name))
        {
            return Err(invalid(format!("{name} has both values and a range")));
        }
        if values.is_empty() && ranges.is_empty() {
            return Err(invalid(
                "there is nothing to search: add [values] or [ranges], such as lr = [0.01, 0.1] under [values]",
            ));
        }
        let text =
            |name: &str| settings.get(name).map(|value| value.as_str().unwrap_or_default().to_string());
        let whole = |name: &str, default: u64| match settings.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| invalid(format!("{name} is a whole number, not {value}"))),
        };
        let epochs = match table.get("epochs") {
            None => None,
            Some(value) => Some(
                value
                    .as_integer()
                    .and_then(|number| u64::try_from(number).ok())
                    .filter(|&epochs| epochs > 0)
                    .ok_or_else(|| invalid(format!("epochs is a whole number of at least 1, not {value}")))?,
            ),
        };
        let method = match text("method").as_deref().unwrap_or("grid") {
            "grid" => Method::Grid,
            "random" => Method::Random,
            "halving" => {
                let keep = settings.get("keep").map_or(Some(0.5), number);
                let keep = keep.filter(|keep| *keep > 0.0 && *keep < 1.0);
                let keep = keep.ok_or_else(|| invalid("keep is a number between 0 and 1"))?;
                let first_epochs = whole("first-epochs", 1)?;
                if first_epochs == 0 || epochs.is_none_or(|epochs| epochs < first_epochs) {
                    return Err(invalid("halving needs epochs, and first-epochs from 1 up to that number"));
                }
                Method::Halving { first_epochs, keep }
            }
            other => return Err(Error::not_found("method", other, ["grid", "random", "halving"])),
        };
        let trials = if method == Method::Grid {
            if let Some((name, _)) = ranges.first() {
                return Err(invalid(format!(
                    "a grid needs values: {name} has a range; use method = \"random\""
                )));
            }
            grid(&values)?
        } else {
            let runs = whole("runs", 0)?;
            if runs == 0 || runs > MOST as u64 {
                return Err(invalid(format!("runs, the number of trainings, is a number from 1 to {MOST}")));
            }
            let mut random = Random::stream(whole("seed", 0)?, "sweep");
            (0..runs).map(|_| draw(&mut random, &values, &ranges)).collect()
        };
        Ok(Plan { base: table, method, epochs, trials })
    }

    /// Returns the epochs of each round, and how many trainings take part in it.
    pub fn rounds(&self) -> Vec<(Option<u64>, usize)> {
        let Method::Halving { first_epochs, keep } = self.method else {
            return vec![(self.epochs, self.trials.len())];
        };
        let last = self.epochs.unwrap_or(first_epochs);
        let (mut epochs, mut runs) = (first_epochs as f64, self.trials.len());
        let mut rounds = Vec::new();
        while (epochs as u64) < last && runs > 1 {
            rounds.push((Some(epochs as u64), runs));
            epochs = (epochs / keep).max(epochs + 1.0);
            runs = ((runs as f64 * keep).ceil() as usize).clamp(1, runs - 1);
        }
        rounds.push((Some(last), runs));
        rounds
    }
}

fn take_table(table: &mut Table, name: &str) -> Result<Table> {
    match table.remove(name) {
        None => Ok(Table::new()),
        Some(Value::Table(inner)) => Ok(inner),
        Some(other) => {
            Err(invalid(format!("{name} is a table, not a value of the kind {}", other.type_str())))
        }
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::invalid_argument(text)
}

/// The name of an option.
fn named(key: &str) -> String {
    key.replace('_', "-")
}

fn number(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or_else(|| value.as_integer().map(|number| number as f64))
        .filter(|number| number.is_finite())
}

fn list(name: &str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) if !values.is_empty() => Ok(values),
        _ => Err(invalid(format!("the values of {name} are a list, such as [1, 2]"))),
    }
}

fn range(name: &str, value: &Value) -> Result<Range> {
    let form = || {
        invalid(format!("the range of {name} is a table such as {{ min = 1e-4, max = 1e-1, log = true }}"))
    };
    let table = value.as_table().ok_or_else(form)?;
    if table.keys().any(|key| !["min", "max", "log"].contains(&key.as_str())) {
        return Err(form());
    }
    let bound = |key: &str| table.get(key).and_then(number).ok_or_else(form);
    let (min, max) = (bound("min")?, bound("max")?);
    let is_log = table.get("log").map_or(Some(false), Value::as_bool).ok_or_else(form)?;
    if min >= max || is_log && min <= 0.0 {
        let least = if is_log { "above 0 and " } else { "" };
        return Err(invalid(format!("min of {name} must be {least}below max, not {min:?} and {max:?}")));
    }
    let is_whole = ["min", "max"].iter().all(|key| table.get(*key).is_some_and(Value::is_integer));
    Ok(Range { min, max, is_log, is_whole })
}

/// All combinations; the last option changes fastest.
fn grid(values: &[(String, Vec<Value>)]) -> Result<Vec<Vec<(String, Value)>>> {
    let count = values.iter().try_fold(1usize, |count, (_, list)| count.checked_mul(list.len()));
    if count.is_none_or(|count| count > MOST) {
        return Err(invalid(format!("the grid has more than {MOST} trainings")));
    }
    let mut trials = vec![Vec::new()];
    for (name, list) in values {
        let with = |trial: &Vec<(String, Value)>, value: &Value| {
            let mut trial = trial.clone();
            trial.push((name.clone(), value.clone()));
            trial
        };
        trials = trials.iter().flat_map(|trial| list.iter().map(move |value| with(trial, value))).collect();
    }
    Ok(trials)
}

fn draw(
    random: &mut Random,
    values: &[(String, Vec<Value>)],
    ranges: &[(String, Range)],
) -> Vec<(String, Value)> {
    let mut trial = Vec::with_capacity(values.len() + ranges.len());
    for (name, list) in values {
        let index = (f64::from(random.next_unit()) * list.len() as f64) as usize;
        trial.push((name.clone(), list[index.min(list.len() - 1)].clone()));
    }
    for (name, range) in ranges {
        let at = f64::from(random.next_unit());
        let number = if range.is_log {
            range.min * (range.max / range.min).powf(at)
        } else {
            range.min + (range.max - range.min) * at
        };
        let value = if range.is_whole {
            Value::Integer(number.round() as i64)
        } else {
            // Four digits can be typed again, and are enough.
            Value::Float(format!("{number:.3e}").parse().unwrap_or(number))
        };
        trial.push((name.clone(), value));
    }
    trial
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parse(text: &str) -> Result<Plan> {
        Plan::parse(text, Path::new("s.toml"))
    }

    #[test]
    fn a_grid_has_all_combinations() {
        let plan =
            parse("network = 'lenet'\nepochs = 3\n[values]\nlr = [0.1, 0.2]\nweight_decay = [0, 1e-4, 1e-3]")
                .unwrap();
        assert_eq!((plan.method, plan.trials.len()), (Method::Grid, 6));
        assert_eq!(plan.base.keys().collect::<Vec<_>>(), ["epochs", "network"]);
        let last: Vec<String> =
            plan.trials[5].iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(last, ["lr=0.2", "weight-decay=0.001"]);
        assert_eq!(plan.rounds(), [(Some(3), 6)]);
    }

    #[test]
    fn draws_are_within_their_ranges_and_the_same_for_a_seed() {
        let text = "[sweep]\nmethod = 'random'\nruns = 200\n[values]\noptimizer = ['sgd', 'adam']\n[ranges]\nbatch = { min = 8, max = 64 }\n\
                    lr = { min = 1e-4, max = 1e-1, log = true }";
        let plan = parse(text).unwrap();
        assert_eq!(plan, parse(text).unwrap());
        assert_ne!(plan.trials, parse(&text.replace("runs", "seed = 1\nruns")).unwrap().trials);
        let rates: Vec<f64> = plan.trials.iter().map(|trial| trial[2].1.as_float().unwrap()).collect();
        assert!(rates.iter().all(|lr| (1e-4..=1e-1).contains(lr)));
        // Half of them are below the middle of the logarithms.
        assert!((70..130).contains(&rates.iter().filter(|lr| **lr < 10f64.powf(-2.5)).count()));
        assert!(plan.trials.iter().all(|trial| (8..=64).contains(&trial[1].1.as_integer().unwrap())));
        assert!(plan.trials.iter().any(|trial| trial[0].1.as_str() == Some("sgd")));
    }

    #[test]
    fn halving_gives_the_best_more_epochs() {
        let text =
            "epochs = 8\n[sweep]\nmethod = 'halving'\nruns = 8\n[ranges]\nlr = { min = 0.1, max = 1.0 }";
        assert_eq!(parse(text).unwrap().rounds(), [(Some(1), 8), (Some(2), 4), (Some(4), 2), (Some(8), 1)]);
        let third = text.replace("runs = 8", "runs = 9\nkeep = 0.34\nfirst-epochs = 2");
        assert_eq!(parse(&third).unwrap().rounds(), [(Some(2), 9), (Some(5), 4), (Some(8), 2)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("lr = ", "s.toml: not a TOML file"),
            ("lr = 1", "there is nothing to search"),
            ("[sweep]\nmethods = 'grid'\n[values]\nlr = [1]", "did you mean `method`"),
            ("[sweep]\nmethod = 'gird'\n[values]\nlr = [1]", "did you mean `grid`"),
            ("[values]\nlr = 1", "the values of lr are a list"),
            ("[values]\nlr = []", "the values of lr are a list"),
            ("[ranges]\nlr = { min = 1, max = 2 }", "a grid needs values"),
            ("[sweep]\nmethod = 'random'\n[values]\nlr = [1]", "runs, the number of trainings"),
            (
                "[sweep]\nmethod = 'random'\nruns = 1\n[ranges]\nlr = { min = 0, max = 2, log = true }",
                "above 0 and below max",
            ),
            ("[sweep]\nmethod = 'random'\nruns = 1\n[ranges]\nlr = { low = 0 }", "is a table such as"),
            ("[sweep]\nmethod = 'halving'\nruns = 4\n[values]\nlr = [1]", "halving needs epochs"),
            ("[values]\nlr = [1]\n[ranges]\nlr = { min = 1, max = 2 }", "lr has both values and a range"),
            ("sweep = 3\n[values]\nlr = [1]", "sweep is a table"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(expected), "{text}: {e}");
        }
    }
}
