//! The configuration of a training as a TOML file: a key for each option of `train`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use neocog_base::file::{read_at_most, replace, text_of};
use neocog_base::program;
use neocog_data::DataSource;
use neocog_tensor::{Context as _, Error, Result};
use neocog_train::TrainConfig;
use toml::{Table, Value};

use crate::commands::bench::old_spelling::first_positional;

/// The table with what a run was, which is not read again.
const RUN: &str = "run";

/// Maximum size of a file.
const MAX_BYTES: u64 = 16 << 20;

/// Options that a file cannot have: they are about the file, or the program.
const NOT_IN_A_FILE: [&str; 5] = ["config", "write-config", "help", "version", "threads"];

/// Adds the options of the file that `train --config FILE` names to a command line; options that it has already win. Other command
/// lines are returned unchanged.
///
/// # Errors
/// When the file cannot be read or is not TOML, or a key is not an option of `train`: the message suggests similar ones.
pub fn expand(program: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(train) = program.find_subcommand("train") else { return Ok(arguments) };
    let Some(command) = first_positional(&arguments, 1, &[program]) else { return Ok(arguments) };
    if arguments[command] != "train" {
        return Ok(arguments);
    }
    let Some(path) = value_of(&arguments[command..], "config") else { return Ok(arguments) };
    let location = || path.display().to_string();
    let has_network = first_positional(&arguments, command + 1, &[program, train]).is_some()
        || is_given(&arguments[command..], "spec");
    let mut added = Vec::new();
    for (key, value) in read(&path)? {
        let key = key.replace('_', "-");
        if key == RUN {
            continue;
        }
        if key == "network" {
            if !has_network {
                added.push(text(&key, &value).context(location)?);
            }
            continue;
        }
        let option = find(train, &key).context(location)?;
        // An option of the command line also wins over those that it excludes.
        let is_excluded = train.get_arguments().any(|other| {
            let excludes = |a: &Arg, b: &Arg| {
                train.get_arg_conflicts_with(a).iter().any(|excluded| excluded.get_id() == b.get_id())
            };
            other.get_long().is_some_and(|name| is_given(&arguments[command..], name))
                && (excludes(option, other) || excludes(other, option))
        });
        if !is_given(&arguments[command..], &key) && !is_excluded {
            let options = spelled(option, &key, &value).context(location)?;
            check_values(train, &options).context(location)?;
            added.extend(options);
        }
    }
    let end = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    arguments.splice(end..end, added.into_iter().map(OsString::from));
    Ok(arguments)
}

fn read(path: &Path) -> Result<Table> {
    let text = read_at_most(path, MAX_BYTES)
        .and_then(text_of)
        .map_err(|e| Error::io(format!("cannot read the configuration {}", path.display()), e))?;
    text.parse::<Table>()
        .map_err(|e| Error::format("not a TOML file").with_source(e).context(path.display().to_string()))
}

/// Checks that values are valid in themselves, so that the error names the file.
fn check_values(train: &Command, options: &[String]) -> Result<()> {
    let arguments = std::iter::once("train").chain(options.iter().map(String::as_str));
    match train.clone().try_get_matches_from(arguments) {
        Err(e) if matches!(e.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) => {
            let text = e.to_string();
            let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            let text = lines.collect::<Vec<_>>().join(" ");
            Err(Error::invalid_argument(text.strip_prefix("error: ").unwrap_or(&text)))
        }
        _ => Ok(()),
    }
}

fn find<'a>(train: &'a Command, key: &str) -> Result<&'a Arg> {
    let known = || {
        train
            .get_arguments()
            .filter_map(Arg::get_long)
            .filter(|name| !NOT_IN_A_FILE.contains(name))
            .chain(["network"])
    };
    match train.get_arguments().find(|argument| argument.get_long() == Some(key)) {
        Some(argument) if !NOT_IN_A_FILE.contains(&key) => Ok(argument),
        _ => Err(Error::not_found("option of train", key, known())),
    }
}

/// The options that a key stands for.
fn spelled(option: &Arg, key: &str, value: &Value) -> Result<Vec<String>> {
    let takes_value = option.get_action().takes_values();
    // A value that may be left out.
    let may_be_bare = !takes_value || option.get_num_args().is_some_and(|range| range.min_values() == 0);
    let is_append = matches!(option.get_action(), ArgAction::Append);
    match value {
        Value::Boolean(true) if may_be_bare => Ok(vec![format!("--{key}")]),
        Value::Boolean(false) if key == "nesterov" => Ok(vec![format!("--{key}=false")]),
        Value::Boolean(false) if may_be_bare => Ok(Vec::new()),
        _ if !takes_value => {
            Err(Error::invalid_argument(format!("{key} is true or false, not {}", value.type_str())))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| text(key, value)).collect::<Result<_>>()?;
            if is_append && option.get_value_delimiter().is_none() {
                return Ok(values.iter().map(|value| format!("--{key}={value}")).collect());
            }
            Ok(vec![format!("--{key}={}", values.join(","))])
        }
        _ => Ok(vec![format!("--{key}={}", text(key, value)?)]),
    }
}

/// The value of an option as text.
fn text(key: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(format!("{number:?}")),
        Value::Boolean(truth) => Ok(truth.to_string()),
        Value::Array(_) | Value::Table(_) | Value::Datetime(_) => Err(Error::invalid_argument(format!(
            "{key} is a string, a number, or true or false, not a value of the kind {}",
            value.type_str()
        ))),
    }
}

/// Whether an option is among the arguments, with or without a value.
fn is_given(arguments: &[OsString], name: &str) -> bool {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    let spelling = format!("--{name}");
    options.filter_map(|argument| argument.to_str()).any(|argument| {
        argument == spelling || argument.strip_prefix(&spelling).is_some_and(|rest| rest.starts_with('='))
    })
}

/// The value of an option among the arguments.
fn value_of(arguments: &[OsString], name: &str) -> Option<PathBuf> {
    let spelling = format!("--{name}");
    let at = arguments.iter().position(|argument| {
        argument.to_str().is_some_and(|text| text == spelling || text.starts_with(&format!("{spelling}=")))
    })?;
    match arguments[at].to_str()?.split_once('=') {
        Some((_, value)) => Some(value.into()),
        None => arguments.get(at + 1).map(PathBuf::from),
    }
}

/// Returns the options that were given, on the command line or in a file, as a table.
pub fn given(command: &Command, matches: &ArgMatches) -> Table {
    let mut table = Table::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_long().filter(|name| !NOT_IN_A_FILE.contains(name)) else { continue };
        let id = argument.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if !argument.get_action().takes_values() {
            table.insert(name.to_string(), Value::Boolean(true));
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        let mut values: Vec<Value> = values.map(|value| typed(&value.to_string_lossy())).collect();
        let value = match values.len() {
            1 if !matches!(argument.get_action(), ArgAction::Append) => values.remove(0),
            _ => Value::Array(values),
        };
        table.insert(name.to_string(), value);
    }
    table
}

/// A number or truth value as such, other text as a string.
fn typed(text: &str) -> Value {
    match (text.parse::<i64>(), text.parse::<f64>(), text.parse::<bool>()) {
        (Ok(number), _, _) if number.to_string() == text => Value::Integer(number),
        (_, Ok(number), _) if number.is_finite() && text.starts_with(|c: char| c.is_ascii_digit()) => {
            Value::Float(number)
        }
        (_, _, Ok(truth)) => Value::Boolean(truth),
        _ => Value::String(text.to_string()),
    }
}

/// Writes a run to a file that `train --config` reads: the options that were given, the values that they leave to the recipe, and a
/// table with what the run depends on besides.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, given: &Table, config: &TrainConfig) -> Result<()> {
    let mut table = Table::new();
    let integer =
        |number: u64| i64::try_from(number).map_or(Value::String(number.to_string()), Value::Integer);
    if !given.contains_key("spec") {
        table.insert("network".into(), Value::String(config.network.clone()));
    }
    table.insert("data".into(), Value::String(data_path(&config.data)));
    table.insert("epochs".into(), integer(config.epochs));
    // With --accumulate, the batches that are added.
    let batches = if given.contains_key("accumulate") { config.shards } else { 1 };
    table.insert("batch".into(), integer((config.batch / batches) as u64));
    table.insert("lr".into(), Value::Float(config.optimizer.lr));
    table.insert("schedule".into(), Value::String(config.schedule.decay.to_string()));
    table.insert("warm-up".into(), integer(config.schedule.warm_up));
    table.insert("seed".into(), integer(config.seed));
    for (name, value) in given {
        if !table.contains_key(name) && !["out", "overwrite", "resume", "json"].contains(&name.as_str()) {
            table.insert(name.clone(), value.clone());
        }
    }
    let mut run = Table::new();
    let environment = &config.environment;
    let known = [
        ("version", Some(env!("CARGO_PKG_VERSION").to_string())),
        ("data-sha256", environment.data.clone()),
        ("device", environment.device.clone()),
        ("device-name", environment.device_name.clone()),
        ("instruction-set", environment.simd.clone()),
        ("optimizer", Some(config.optimizer.kind.name().to_string())),
        ("system", Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
        ("host", std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty())),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            run.insert(name.into(), Value::String(value));
        }
    }
    run.insert("threads".into(), integer(rayon::current_num_threads() as u64));
    let cannot_write = |e| Error::io(format!("cannot write the configuration {}", path.display()), e);
    let text = format!("{table}\n[{RUN}]\n{run}");
    replace(path, |file| {
        writeln!(
            file,
            "# A training: `{}` repeats it; options on the command line win.",
            program::command("train --config FILE")
        )?;
        file.write_all(text.as_bytes())
    })
    .map_err(cannot_write)
}

/// The name of a data set, or the absolute path of a folder.
fn data_path(data: &str) -> String {
    match DataSource::find(data) {
        Ok(DataSource::Folder(_)) => {
            fs::canonicalize(data).map_or(data.to_string(), |path| path.display().to_string())
        }
        _ => data.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let train = Command::new("train")
            .arg(Arg::new("network"))
            .arg(Arg::new("config").long("config"))
            .arg(Arg::new("spec").long("spec"))
            .arg(Arg::new("lr").long("lr"))
            .arg(Arg::new("label-smoothing").long("label-smoothing"))
            .arg(Arg::new("group").long("lr-group").action(ArgAction::Append))
            .arg(
                Arg::new("flip")
                    .long("flip")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("0.5"),
            )
            .arg(Arg::new("drop-last").long("drop-last").action(ArgAction::SetTrue));
        Command::new("neocog").subcommand(train).subcommand(Command::new("eval"))
    }

    fn expanded(file: &str, line: &str) -> Result<String> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("a folder", e))?;
        let path = folder.path().join("run.toml");
        fs::write(&path, file).map_err(|e| Error::io("a file", e))?;
        let line = line.replace("FILE", &path.display().to_string());
        let arguments = line.split(' ').map(OsString::from).collect();
        let all = expand(&program(), arguments)?;
        let all: Vec<String> =
            all.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        Ok(all.join(" ").replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn options_of_the_file_are_added_and_those_of_the_command_line_win() {
        let file = "network = \"lenet\"\nlr = 0.5\nlabel_smoothing = 0.1\nflip = true\ndrop-last = true\n\
                    lr-group = [\"a=1\", \"b=2\"]\n[run]\nversion = \"1\"\n";
        assert_eq!(
            expanded(file, "neocog train --config FILE --lr 0.25").unwrap_or_default(),
            "neocog train --config FILE --lr 0.25 --drop-last --flip --label-smoothing=0.1 --lr-group=a=1 --lr-group=b=2 lenet"
        );
        assert_eq!(
            expanded(
                "network = \"lenet\"\nflip = 0.3\ndrop-last = false",
                "neocog train resnet --config=FILE"
            )
            .unwrap_or_default(),
            "neocog train resnet --config=FILE --flip=0.3"
        );
        assert_eq!(
            expanded("x", "neocog eval --config FILE").unwrap_or_default(),
            "neocog eval --config FILE"
        );
    }

    #[test]
    fn wrong_files_are_errors() {
        for (file, expected) in [
            (
                "labelsmoothing = 0.1",
                "there is no option of train named `labelsmoothing`; did you mean `label-smoothing`",
            ),
            ("config = \"a\"", "there is no option of train named `config`"),
            ("lr = [", "not a TOML file"),
            ("lr = 1979-05-27", "lr is a string, a number"),
            ("drop-last = 3", "drop-last is true or false, not integer"),
            ("[lr]\na = 1", "not a value of the kind table"),
        ] {
            let e = expanded(file, "neocog train --config FILE").unwrap_or_else(|e| e.to_string());
            assert!(e.contains(expected) && e.contains("run.toml"), "{file}: {e}");
        }
        let missing =
            expand(&program(), ["neocog", "train", "--config", "none.toml"].map(OsString::from).into());
        assert!(missing.is_err_and(|e| e.to_string().contains("cannot read the configuration none.toml")));
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(typed("3"), Value::Integer(3));
        assert_eq!(typed("1e-3"), Value::Float(1e-3));
        assert_eq!(typed("true"), Value::Boolean(true));
        assert_eq!(typed("18446744073709551615"), Value::Float(18_446_744_073_709_552_000.0));
        assert_eq!(typed("nan"), Value::String("nan".into()));
        assert_eq!(typed("cosine:floor=0.1"), Value::String("cosine:floor=0.1".into()));
    }
}
