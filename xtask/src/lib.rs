//! `cargo xtask`: trains, evaluates and inspects the networks, and checks the project.
//!
//! [`main`] is the whole program: a crate with layers or networks of its own makes a command line that knows them by
//! calling it (`tests/plugin/examples/cli.rs`).

mod commands;
mod input_size;
mod output;
mod pictures;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use neocog_tensor::{Error, Result};

/// Trains, evaluates and inspects convolutional networks, and checks the project.
///
/// Results go to standard output, progress to standard error. The exit code is 0 when all went well, 1 after an error
/// (`error: …` on standard error), 2 for options that are not understood, 130 when Ctrl-C stopped a training.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  cargo xtask train                                  lenet on the digits that are compiled in
  cargo xtask fetch-data fashion-mnist
  cargo xtask train lenet_bn --data fashion-mnist
  cargo xtask train lenet_bn --data fashion-mnist --device opencl
  cargo xtask predict runs/lenet_bn-fashion-mnist/best.ckpt shoe.png
  cargo xtask test                                   all checks of the project")]
struct Cli {
    /// How many threads compute; all cores if absent.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    FetchData(commands::fetch_data::Args),
    Data(commands::data::Args),
    Train(Box<commands::train::Args>),
    Eval(commands::eval::Args),
    Predict(commands::predict::Args),
    Export(commands::export::Args),
    Import(commands::import::Args),
    Spec(commands::spec::Args),
    Summary(commands::summary::Args),
    Layers(commands::layers::Args),
    Lesson(commands::lesson::Args),
    Devices(commands::devices::Args),
    Bench(commands::bench::Args),
    Golden(commands::golden::Args),
    Test(commands::test::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(e) => {
            output::note(format_args!("error: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Everything runs on a thread of the pool: work that is too small to share then starts at once.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads(cli.threads)?).build();
    let pool = pool.map_err(|e| Error::argument("cannot start the threads").with_source(e))?;
    pool.install(|| match cli.command {
        Command::FetchData(args) => commands::fetch_data::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Data(args) => commands::data::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Predict(args) => commands::predict::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Export(args) => commands::export::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Import(args) => commands::import::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Spec(args) => commands::spec::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Summary(args) => commands::summary::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Layers(args) => commands::layers::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Lesson(args) => commands::lesson::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Devices(args) => commands::devices::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => commands::bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Golden(args) => commands::golden::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Test(args) => commands::test::run(&args).map(|()| ExitCode::SUCCESS),
    })
}

fn threads(asked: Option<usize>) -> Result<usize> {
    const MOST: usize = 1024;
    match asked {
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        Some(n) if (1..=MOST).contains(&n) => Ok(n),
        Some(n) => Err(Error::argument(format!("--threads must be from 1 to {MOST}, not {n}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_threads_are_an_error() {
        assert!(threads(Some(0)).is_err());
        assert!(threads(None).unwrap() >= 1);
    }
}
