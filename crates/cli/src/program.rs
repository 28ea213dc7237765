//! A program: all commands that are linked in, under one name.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Arg, ArgMatches, value_parser};
use neocog_base::program::{quoted, set_invocation, set_name};
use neocog_base::{Error, ErrorKind, Result};
use neocog_train::ranks::started_together;

use crate::command::{CommandEntry, commands};
use crate::commands::bench::old_spelling::benchmark_first;
use crate::commands::train::config_file;
use crate::conv_algorithm;
use crate::help::examples;
use crate::interrupt;
use crate::output;
use crate::threads;

/// A program with all commands that are linked into it.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     neocog_cli::Program::new("vision").version("1.0.0").about("Train our networks").main()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    invocation: Option<String>,
    version: &'static str,
    about: &'static str,
}

/// Runs the command line of this process; help and messages use the name by which the program was called.
///
/// # Exit codes
/// 0 after success, 1 after an error, 2 for an invalid command line, 130 when Ctrl-C, SIGTERM or SIGHUP stopped it.
pub fn main() -> ExitCode {
    Program::from_args().main()
}

impl Program {
    /// Creates a program that help and messages call `name`: what starts it in a shell, such as `neocog` or `cargo xtask`.
    pub fn new(name: impl Into<String>) -> Self {
        Program {
            name: name.into(),
            invocation: None,
            version: env!("CARGO_PKG_VERSION"),
            about: "Train, evaluate and inspect convolutional networks",
        }
    }

    /// Creates a program with the name by which this process was called. Help uses the file name; commands to copy from
    /// messages start with the path, if it was called by one. Both are quoted for a shell where they need it.
    pub fn from_args() -> Self {
        let called = std::env::args_os().next().unwrap_or_default();
        let called = called.to_string_lossy();
        let name = Path::new(&*called).file_name().map_or("neocog".into(), |name| name.to_string_lossy());
        let name = name.strip_suffix(".exe").unwrap_or(&name);
        let mut program = Program::new(quoted(name));
        if called.contains(std::path::MAIN_SEPARATOR) {
            program.invocation = Some(quoted(&called));
        }
        program
    }

    /// Sets the version that `--version` prints, in place of neocog's.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// Sets the first line of `--help`.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Runs the command line of this process; see [`main`](fn@main) for the exit codes.
    pub fn main(&self) -> ExitCode {
        set_name(&self.name);
        if let Some(invocation) = &self.invocation {
            set_invocation(invocation);
        }
        match self.run() {
            Ok(code) => code,
            Err(e) => {
                output::note(format_args!("error: {e}"));
                ExitCode::FAILURE
            }
        }
    }

    fn run(&self) -> Result<ExitCode> {
        interrupt::report_file_size_limit();
        interrupt::report_abort();
        neocog_base::file::forget_outputs();
        let commands = commands()?;
        let program = PROGRAM.get_or_init(|| self.clap(&commands));
        let arguments = config_file::expand(program, benchmark_first(program, std::env::args_os()))?;
        let matches = match program.clone().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(e) if e.use_stderr() => e.exit(),
            Err(help) => return print(&help),
        };
        let selected = matches.subcommand().and_then(|(name, arguments)| {
            Some((commands.iter().find(|command| command.name == name)?, arguments))
        });
        let Some((command, arguments)) = selected else {
            return Err(Error::invalid_argument("no command given; --help lists them"));
        };
        if let Some(processes) = started_together().filter(|count| *count > 1 && command.name != "train") {
            output::usage_error(format_args!(
                "{} runs in one process, but {processes} were started together; only `train` uses several",
                command.name
            ));
        }
        // The command runs on a thread of the pool, so that work too small to share starts without waking another thread.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads::number(&matches)).build();
        let pool = pool.map_err(threads::cannot_start)?;
        threads::check_memory()?;
        if let Err(e) = conv_algorithm::check().and_then(|()| neocog_tensor::check_instruction_set()) {
            output::usage_error(e);
        }
        let code = pool.install(|| (command.run)(arguments)).map_err(|e| with_remedy(e, arguments))?;
        conv_algorithm::report(command.name)?;
        Ok(code)
    }

    fn clap(&self, commands: &[CommandEntry]) -> clap::Command {
        let threads = Arg::new("threads")
            .long("threads")
            .global(true)
            .display_order(900)
            .value_name("N")
            .value_parser(value_parser!(u32).range(1..=1024))
            .help("Number of compute threads [default: all cores]");
        clap::Command::new(self.name.clone())
            .bin_name(self.name.clone())
            .version(self.version)
            .about(self.about)
            .long_about(format!("{}\n\n{CONVENTIONS}", self.about))
            .after_help(examples(EXAMPLES))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .arg(threads)
            .subcommands(commands.iter().map(|command| with_negative_numbers((command.build)())))
    }
}

/// Writes help or a version to standard output; a reader that has gone is no error.
fn print(help: &clap::Error) -> Result<ExitCode> {
    match help.print().and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write to standard output", e))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Makes `--epochs -1` an invalid value of the option instead of an unknown option `-1`.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let takes_value = argument.get_action().takes_values() && !argument.is_positional();
            argument.allow_negative_numbers(takes_value)
        })
        .mut_subcommands(with_negative_numbers)
}

/// Adds the options of the command that reduce its memory to an out-of-memory error.
fn with_remedy(e: Error, arguments: &ArgMatches) -> Error {
    if e.kind() != ErrorKind::OutOfMemory {
        return e;
    }
    let mut arguments = arguments;
    while let Some((_, inner)) = arguments.subcommand() {
        arguments = inner;
    }
    let has = |name: &str| arguments.try_contains_id(name).is_ok();
    let remedy = if has("batch") {
        "try a smaller --batch"
    } else if has("threads") {
        "smaller inputs or fewer --threads need less memory"
    } else {
        return e;
    };
    Error::new(ErrorKind::OutOfMemory, format!("{e}; {remedy}"))
}

static PROGRAM: OnceLock<clap::Command> = OnceLock::new();

/// The running program with all its commands, as clap describes it, under the name of its file, for completion scripts and
/// manual pages.
///
/// # Errors
/// As [`commands`]; when the name of the file has characters that these cannot hold.
pub fn description() -> Result<clap::Command> {
    let program = match PROGRAM.get() {
        Some(program) => program.clone(),
        None => Program::new("neocog").clap(&commands()?),
    };
    let name = file_name(program.get_name())?.to_string();
    Ok(program.name(name.clone()).bin_name(name))
}

/// The name of the file of a program that is called `name` in a shell.
fn file_name(name: &str) -> Result<&str> {
    // `cargo xtask` runs the binary `xtask`.
    let file = name.strip_prefix("cargo ").unwrap_or(name);
    if file.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Ok(file);
    }
    Err(Error::invalid_argument(format!(
        "a program called {name} cannot have completions and manual pages; rename it: letters, digits, '_', '-' and '.'"
    )))
}

const CONVENTIONS: &str = "Results are written to standard output, progress and messages to standard error. \
    Exit codes: 0 success; 1 error, with a message `error: ...` on standard error; 2 invalid command line or environment variable; 130 stopped by \
    Ctrl-C, SIGTERM or SIGHUP, for trainings, searches and lr-find: a training after its checkpoint was written, once it has begun. Other commands \
    are ended by the signal itself (a shell says 130, 143 or 129), and leave no part of a file.";

const EXAMPLES: &str = "Examples:
  neocog train                                  train lenet on the embedded digits
  neocog fetch-data fashion-mnist
  neocog train lenet_bn --data fashion-mnist
  neocog train lenet_bn --data fashion-mnist --device opencl
  neocog predict runs/lenet_bn-fashion-mnist/best.ckpt shoe.png";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::new("neocog").clap(&commands().unwrap()).debug_assert();
    }

    /// A constant between a doc comment and its struct takes the text away.
    #[test]
    fn every_command_and_option_has_a_description() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Program::new("neocog").clap(&commands().unwrap()));
    }

    #[test]
    fn the_description_has_a_name_of_one_word() {
        let commands = commands().unwrap();
        let _ = PROGRAM.set(Program::new("cargo xtask").clap(&commands));
        assert_eq!(description().unwrap().get_bin_name(), Some("xtask"));
        assert_eq!(file_name("neocog-0.2").unwrap(), "neocog-0.2");
        let e = file_name("'my neocog'").unwrap_err().to_string();
        assert!(e.starts_with("a program called 'my neocog' cannot have"), "{e}");
    }
}
