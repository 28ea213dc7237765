//! A program: all commands that are linked in, under one name.

use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, value_parser};
use neocog_base::{Error, Result, program};

use crate::command::{CommandEntry, commands};
use crate::commands::bench::old_spelling;
use crate::help::examples;
use crate::output;

/// A program with all commands that are linked into it.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    version: &'static str,
    about: &'static str,
}

/// Runs the command line of this process, under the name by which it was called.
pub fn main() -> ExitCode {
    let called = std::env::args().next().unwrap_or_default();
    let name = Path::new(&called).file_name().map_or("neocog".into(), |name| name.to_string_lossy());
    Program::new(name.trim_end_matches(".exe")).main()
}

impl Program {
    /// A program that hints and examples call `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Program {
            name: name.into(),
            version: env!("CARGO_PKG_VERSION"),
            about: "Trains, evaluates and inspects convolutional networks.",
        }
    }

    /// Sets the version that `--version` prints, in place of neocog's.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// Sets the one line that `--help` starts with.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Runs the command line of this process.
    pub fn main(&self) -> ExitCode {
        program::set_name(&self.name);
        match self.run() {
            Ok(code) => code,
            Err(e) => {
                output::note(format_args!("error: {e}"));
                ExitCode::FAILURE
            }
        }
    }

    fn run(&self) -> Result<ExitCode> {
        let commands = commands()?;
        let matches = self.clap(&commands).get_matches_from(old_spelling(std::env::args_os()));
        let Some((name, arguments)) = matches.subcommand() else {
            unreachable!("clap asks for a command");
        };
        let Some(command) = commands.iter().find(|command| command.name == name) else {
            unreachable!("clap knows the registered commands only");
        };
        // Everything runs on a thread of the pool: work that is too small to share then starts at once.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads(&matches)?).build();
        let pool = pool.map_err(|e| Error::invalid_argument("cannot start the threads").with_source(e))?;
        pool.install(|| (command.run)(arguments))
    }

    /// The program as clap describes it.
    fn clap(&self, commands: &[CommandEntry]) -> clap::Command {
        let threads = Arg::new("threads")
            .long("threads")
            .global(true)
            .value_name("N")
            .value_parser(value_parser!(usize))
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
            .subcommands(commands.iter().map(|command| (command.build)()))
    }
}

const CONVENTIONS: &str = "Results go to standard output, progress to standard error. The exit code is 0 after success, \
    1 after an error (`error: …` on standard error), 2 for a command line that is not understood, and 130 when Ctrl-C \
    stopped a training.";

const EXAMPLES: &str = "Examples:
  neocog train                                  lenet on the digits that are compiled in
  neocog fetch-data fashion-mnist
  neocog train lenet_bn --data fashion-mnist
  neocog train lenet_bn --data fashion-mnist --device opencl
  neocog predict runs/lenet_bn-fashion-mnist/best.ckpt shoe.png";

fn threads(matches: &ArgMatches) -> Result<usize> {
    const MOST: usize = 1024;
    match matches.get_one::<usize>("threads") {
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        Some(&n) if (1..=MOST).contains(&n) => Ok(n),
        Some(n) => Err(Error::invalid_argument(format!("--threads must be from 1 to {MOST}, not {n}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::new("neocog").clap(&commands().unwrap()).debug_assert();
    }
}
