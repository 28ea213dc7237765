//! Schedules as text: for people, and on the command line.

use std::fmt;
use std::str::FromStr;

use neocog_base::text::count;
use neocog_tensor::{Context as _, Error, Result};

use super::{Decay, OneCycle, Phase, Plateau, Schedule};

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.warm_up > 0 {
            write!(f, "linear warm-up for {}, then ", count(self.warm_up, "step"))?;
        }
        match &self.decay {
            Decay::Step { epochs: 1, factor } => write!(f, "multiplied by {factor} every epoch"),
            Decay::Step { epochs, factor } => write!(f, "multiplied by {factor} every {epochs} epochs"),
            Decay::Cosine { floor } => write!(f, "cosine decay to {floor}"),
            other => write!(f, "{other}"),
        }
    }
}

/// The text that [`Decay::from_str`] parses.
impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = |epochs: &Option<u64>| epochs.map_or(String::new(), |n| format!(",epochs={n}"));
        match self {
            Decay::Constant => write!(f, "constant"),
            Decay::Step { epochs, factor } => write!(f, "step:epochs={epochs},factor={factor:?}"),
            Decay::Cosine { floor } => write!(f, "cosine:floor={floor:?}"),
            Decay::Linear { start, end, epochs: n } => {
                write!(f, "linear:start={start:?},end={end:?}{}", epochs(n))
            }
            Decay::MultiStep { epochs, factor } => {
                let epochs: Vec<String> = epochs.iter().map(u64::to_string).collect();
                write!(f, "multi-step:epochs={},factor={factor:?}", epochs.join("/"))
            }
            Decay::Exponential { factor } => write!(f, "exponential:factor={factor:?}"),
            Decay::Polynomial { power, epochs: n } => write!(f, "polynomial:power={power:?}{}", epochs(n)),
            Decay::CosineRestarts { epochs, multiplier, floor } => {
                write!(f, "cosine-restarts:epochs={epochs},multiplier={multiplier},floor={floor:?}")
            }
            Decay::OneCycle(cycle) => {
                let OneCycle { rise, div_factor, final_div_factor, linear, three_phase, momentum } = cycle;
                write!(f, "one-cycle:rise={rise:?},div={div_factor:?},final-div={final_div_factor:?}")?;
                write!(f, ",linear={linear},three-phase={three_phase},momentum=")?;
                match momentum {
                    Some([low, high]) => write!(f, "{low:?}/{high:?}"),
                    None => write!(f, "none"),
                }
            }
            Decay::Plateau(plateau) => {
                let Plateau { factor, patience, threshold, absolute, cooldown, floor, eps, accuracy } =
                    plateau;
                let metric = if *accuracy { "accuracy" } else { "loss" };
                write!(f, "plateau:factor={factor:?},patience={patience},threshold={threshold:?}")?;
                write!(
                    f,
                    ",absolute={absolute},cooldown={cooldown},floor={floor:?},eps={eps:?},metric={metric}"
                )
            }
            Decay::Product(parts) => {
                let parts: Vec<String> = parts.iter().map(Decay::to_string).collect();
                write!(f, "{}", parts.join(" * "))
            }
            Decay::Sequence(phases) => {
                let phases = phases.iter().map(|phase| match phase.epochs {
                    Some(epochs) => format!("{} for {epochs}", phase.decay),
                    None => phase.decay.to_string(),
                });
                write!(f, "{}", phases.collect::<Vec<_>>().join(" then "))
            }
        }
    }
}

impl FromStr for Decay {
    type Err = Error;

    /// As [`Decay::parse`], for a run of one epoch.
    fn from_str(text: &str) -> Result<Self> {
        Decay::parse(text, 1)
    }
}

impl Decay {
    /// The names that [`Decay::parse`] knows.
    pub const NAMES: [&'static str; 10] = [
        "constant",
        "step",
        "multi-step",
        "linear",
        "exponential",
        "polynomial",
        "cosine",
        "cosine-restarts",
        "one-cycle",
        "plateau",
    ];

    /// Parses a name with parameters, such as `multi-step:epochs=10/15,factor=0.2`; a product of several, `linear * exponential`; or a
    /// sequence, `constant for 5 then cosine`. What the text leaves out is PyTorch's default or, where a number of epochs is needed, a
    /// third of the `epochs` of the run.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, with similar ones; `InvalidArgument` for parameters that are unknown or out of range.
    pub fn parse(text: &str, epochs: u64) -> Result<Self> {
        let phases: Vec<&str> = text.split(" then ").collect();
        let decay = if let [one] = *phases {
            product(one, epochs)?
        } else {
            Decay::Sequence(phases.into_iter().map(|text| phase(text, epochs)).collect::<Result<_>>()?)
        };
        decay.check()?;
        Ok(decay)
    }
}

fn phase(text: &str, epochs: u64) -> Result<Phase> {
    let Some((decay, number)) = text.split_once(" for ") else {
        return Ok(Phase { decay: product(text, epochs)?, epochs: None });
    };
    let number = number.trim();
    let number =
        number.strip_suffix("epochs").or_else(|| number.strip_suffix("epoch")).unwrap_or(number).trim();
    let epochs = number.parse().map_err(|_| {
        Error::invalid_argument(format!("expected a number of epochs after `for`, found {number:?}"))
    })?;
    Ok(Phase { decay: product(decay, epochs)?, epochs: Some(epochs) })
}

fn product(text: &str, epochs: u64) -> Result<Decay> {
    let parts: Vec<&str> = text.split('*').collect();
    match *parts {
        [one] => single(one.trim(), epochs),
        _ => Ok(Decay::Product(
            parts.into_iter().map(|text| single(text.trim(), epochs)).collect::<Result<_>>()?,
        )),
    }
}

fn single(text: &str, epochs: u64) -> Result<Decay> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let name = name.trim();
    let mut given = Parameters::parse(rest).context(|| format!("schedule {name}"))?;
    let third = epochs.div_ceil(3).max(1);
    let decay = match name {
        "constant" => Decay::Constant,
        "step" => Decay::Step { epochs: given.take("epochs", third)?, factor: given.take("factor", 0.1)? },
        "multi-step" => Decay::MultiStep {
            epochs: given.list("epochs")?.unwrap_or_else(|| vec![third, 2 * third]),
            factor: given.take("factor", 0.1)?,
        },
        "linear" => Decay::Linear {
            start: given.take("start", 1.0)?,
            end: given.take("end", 0.0)?,
            epochs: given.optional("epochs")?,
        },
        "exponential" => Decay::Exponential { factor: given.take("factor", 0.95)? },
        "polynomial" => {
            Decay::Polynomial { power: given.take("power", 1.0)?, epochs: given.optional("epochs")? }
        }
        "cosine" => Decay::Cosine { floor: given.take("floor", 0.0)? },
        "cosine-restarts" => Decay::CosineRestarts {
            epochs: given.take("epochs", third)?,
            multiplier: given.take("multiplier", 1)?,
            floor: given.take("floor", 0.0)?,
        },
        "one-cycle" => Decay::OneCycle(one_cycle(&mut given)?),
        "plateau" => Decay::Plateau(plateau(&mut given)?),
        _ => return Err(Error::not_found("schedule", name, Decay::NAMES)),
    };
    given.finish().context(|| format!("schedule {name}"))?;
    Ok(decay)
}

fn one_cycle(given: &mut Parameters<'_>) -> Result<OneCycle> {
    let usual = OneCycle::default();
    let momentum = match given.optional::<String>("momentum")?.as_deref() {
        None => usual.momentum,
        Some("none") => None,
        Some(text) => {
            let invalid = || {
                Error::invalid_argument(format!(
                    "momentum is LOW/HIGH, such as 0.85/0.95, or none, not {text:?}"
                ))
            };
            let (low, high) = text.split_once('/').ok_or_else(invalid)?;
            Some([low.parse().map_err(|_| invalid())?, high.parse().map_err(|_| invalid())?])
        }
    };
    Ok(OneCycle {
        rise: given.take("rise", usual.rise)?,
        div_factor: given.take("div", usual.div_factor)?,
        final_div_factor: given.take("final-div", usual.final_div_factor)?,
        linear: given.take("linear", usual.linear)?,
        three_phase: given.take("three-phase", usual.three_phase)?,
        momentum,
    })
}

fn plateau(given: &mut Parameters<'_>) -> Result<Plateau> {
    let usual = Plateau::default();
    let accuracy = match given.optional::<String>("metric")?.as_deref() {
        None | Some("loss") => false,
        Some("accuracy") => true,
        Some(other) => return Err(Error::not_found("metric", other, ["loss", "accuracy"])),
    };
    Ok(Plateau {
        factor: given.take("factor", usual.factor)?,
        patience: given.take("patience", usual.patience)?,
        threshold: given.take("threshold", usual.threshold)?,
        absolute: given.take("absolute", usual.absolute)?,
        cooldown: given.take("cooldown", usual.cooldown)?,
        floor: given.take("floor", usual.floor)?,
        eps: given.take("eps", usual.eps)?,
        accuracy,
    })
}

/// Parameters `KEY=VALUE`, separated by commas.
struct Parameters<'a> {
    given: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let given = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::invalid_argument(format!(
                    "expected PARAMETER=VALUE, such as factor=0.1, found {pair:?}"
                ))
            })?;
            Ok((key.trim(), value.trim()))
        });
        Ok(Parameters { given: given.collect::<Result<_>>()?, known: Vec::new() })
    }

    fn optional<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>> {
        self.known.push(key);
        let Some(at) = self.given.iter().position(|(given, _)| *given == key) else { return Ok(None) };
        let (_, value) = self.given.remove(at);
        value.parse().map(Some).map_err(|_| {
            Error::invalid_argument(format!(
                "invalid value {value:?} for the parameter {key} of the schedule"
            ))
        })
    }

    fn take<T: FromStr>(&mut self, key: &'static str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    fn list(&mut self, key: &'static str) -> Result<Option<Vec<u64>>> {
        let Some(text) = self.optional::<String>(key)? else { return Ok(None) };
        let numbers = text.split('/').map(|number| number.trim().parse());
        numbers.collect::<Result<_, _>>().map(Some).map_err(|_| {
            Error::invalid_argument(format!(
                "the parameter {key} of the schedule is numbers such as 10/15, not {text:?}"
            ))
        })
    }

    /// Checks that nothing is left.
    fn finish(self) -> Result<()> {
        match self.given.first() {
            None => Ok(()),
            Some((key, _)) if self.known.contains(key) => {
                Err(Error::invalid_argument(format!("the parameter {key} is given twice")))
            }
            Some((key, _)) => Err(Error::not_found("parameter", key, self.known)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn texts_are_parsed_and_written() {
        for name in Decay::NAMES {
            let decay = Decay::parse(name, 30).unwrap();
            assert_eq!(decay.to_string().parse::<Decay>().unwrap(), decay, "{name}");
        }
        assert_eq!(Decay::parse("step", 31).unwrap(), Decay::Step { epochs: 11, factor: 0.1 });
        for text in [
            "exponential:factor=0.9 * linear:start=0.1,end=1.0,epochs=4",
            "constant for 5 then multi-step:epochs=3/7,factor=0.2 * polynomial:power=2.0 for 9 then cosine:floor=0.01",
            "one-cycle:rise=0.4,div=10.0,final-div=100.0,linear=true,three-phase=true,momentum=none",
            "plateau:factor=0.5,patience=2,threshold=0.01,absolute=true,cooldown=1,floor=0.001,eps=0.0,metric=accuracy",
        ] {
            assert_eq!(text.parse::<Decay>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_texts_are_errors() {
        for (text, expected) in [
            ("cosin", "there is no schedule named `cosin`; did you mean `cosine`"),
            ("step:factr=0.1", "schedule step: there is no parameter named `factr`; did you mean `factor`"),
            ("step:factor", "expected PARAMETER=VALUE"),
            ("step:factor=x", "invalid value \"x\" for the parameter factor"),
            ("step:factor=2", "the factor of the schedule must be from 0 to 1, not 2"),
            ("step:epochs=0", "cannot decay every 0 epochs"),
            ("step:factor=0.1,factor=0.2", "the parameter factor is given twice"),
            ("multi-step:epochs=5/3", "ascending numbers of at least 1, not [5, 3]"),
            ("multi-step:epochs=a", "numbers such as 10/15"),
            ("linear:start=-1", "the start of the schedule must be a finite, non-negative number, not -1"),
            ("polynomial:epochs=0", "the epochs of the schedule must be at least 1, not 0"),
            ("one-cycle:rise=2", "the rise of the schedule must be from 0 to 1"),
            ("one-cycle:momentum=1/2", "must be above 0 and below 1"),
            ("one-cycle:momentum=x", "LOW/HIGH"),
            ("one-cycle:div=0", "must be above 0, not 0"),
            ("plateau:factor=1", "at least 0 and below 1"),
            ("plateau:metric=acc", "there is no metric named `acc`; did you mean `accuracy`"),
            ("constant for x then cosine", "expected a number of epochs after `for`"),
            ("constant then cosine", "only the last part may leave out"),
            ("constant for 0 then cosine", "at least 1 epoch"),
            ("constant * step:factor=3", "part 2 of the schedule: the factor"),
        ] {
            let e = text.parse::<Decay>().unwrap_err().to_string();
            assert!(e.contains(expected), "{text}: {e}");
        }
    }
}
