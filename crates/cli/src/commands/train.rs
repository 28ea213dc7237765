//! `train`: training, from the start or from a checkpoint.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args as _};
use neocog_base::program;
use neocog_data::Split;
use neocog_data::catalog::DEFAULT_ROOT;
use neocog_tensor::{Device, Error, Result};
use neocog_train::{CheckpointDir, Environment, FitOutcome, NoProgress, Ranks, SaveEvery, Trainer};

use crate::interrupt::{INTERRUPTED, stop_on_signal};
use crate::output;
use crate::outputs;
use crate::register_command;

mod args;
mod begin;
pub mod config_file;
mod final_test;
mod live;
mod log;
mod options;
mod parts;
mod progress;
mod report;
mod summary;
mod transforms;

pub use args::Args;
pub use begin::prepare;

use args::SAVE_EVERY;
use begin::{resume, start};
use log::Logged;
use parts::CACHE;
use progress::Report;
pub use report::REPORT;
use summary::{note_exchange, print_configuration, result};

register_command!("train", 30, Args, run, build command, with matches);

fn command() -> clap::Command {
    Args::augment_args(clap::Command::new("train"))
}

/// Runs the command.
fn run(args: &Args, matches: &ArgMatches) -> Result<ExitCode> {
    let ranks = Ranks::from_environment()?;
    output::set_silent(!ranks.is_first());
    let _guard = AbortOnPanic(&ranks);
    train(args, matches, &ranks).inspect_err(|e| fail(&ranks, e))
}

/// Ends all ranks when one of them panics.
struct AbortOnPanic<'a>(&'a Ranks);

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(101);
        }
    }
}

/// Ends all ranks if there are several. An error that all of them have is reported by the first.
fn fail(ranks: &Ranks, e: &Error) {
    if ranks.size() == 1 {
        return;
    }
    if ranks.is_first() {
        output::note(format_args!("error: {e}"));
    } else {
        std::thread::sleep(Duration::from_secs(2));
        output::set_silent(false);
        let host = ranks.host().map_or(String::new(), |host| format!(" on {host}"));
        output::note(format_args!("error in process {} of {}{host}: {e}", ranks.rank(), ranks.size()));
    }
    ranks.abort(1);
}

/// Trains on one of the ranks.
fn train(args: &Args, matches: &ArgMatches, ranks: &Ranks) -> Result<ExitCode> {
    let given = config_file::given(&command(), matches);
    output::go_on_without_reader();
    if let Some(file) = &args.write_config {
        outputs::check(args.config.as_deref(), [file.as_path()])?;
    }
    let (mut trainer, data, folder) = match &args.resume {
        Some(file) => resume(args, file, ranks)?,
        None => start(args, ranks)?,
    };
    trainer.set_workers(args.workers);
    trainer.set_save_every(args.save_every);
    trainer.set_log_every(args.log_every);
    trainer.set_keep(args.keep);
    trainer.set_time_budget(args.time_budget);
    trainer.set_cache_bytes(args.cache.0);
    if args.final_test {
        parts::check_final_test(&data)?;
    }
    let stop = stop_on_signal()?;
    let Some(folder) = folder else {
        trainer.fit(&data, None, &mut NoProgress, &stop)?;
        return Ok(ExitCode::SUCCESS);
    };
    write_config(args, &given, &trainer, &data, &folder)?;

    if !folder.is_exclusive() {
        output::note(format_args!(
            "warning: the file system of {} has no locks: do not start another training there",
            folder.path().display()
        ));
    }
    print_configuration(&trainer, &data, &args.device.device);
    output::memory_need(&trainer.memory_need(&*data.train)?);
    let reason = trainer.reason(&*data.train)?;
    output::layer_by_layer(reason.clone());
    let start = Instant::now();
    let first_step = trainer.position().step;
    let (part, _) = data.evaluated()?;
    let mut report = Report::new(args.json, args.log.ui, &trainer, part, folder.path())?;
    let log = args.log.create(&trainer, &data)?;
    let mut logged = Logged { report: &mut report, log };
    let outcome = trainer.fit(&data, Some(&folder), &mut logged, &stop);
    if let Ok(FitOutcome::Finished) = outcome {
        logged.finish();
    }
    let written = report.finish();
    for file in folder.set_aside() {
        output::note(format_args!("kept what the resumed run replaces: {}", file.display()));
    }
    let outcome = outcome?;
    written?;
    note_exchange(&trainer, first_step);
    output::layer_by_layer(trainer.reason(&*data.train)?.filter(|found| Some(found) != reason.as_ref()));
    match outcome {
        FitOutcome::Finished => {
            let text = result(&trainer, &folder, start);
            if args.json {
                output::note(format_args!("{text}"));
            } else {
                output::line(text)?;
            }
            report::write(&folder, &data, args.device.device, args.workers, None);
            if args.final_test {
                final_test::run(&trainer, &data, &folder, &args.device.device, args.json)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        FitOutcome::Stopped(file) => {
            let position = trainer.position();
            let by_signal = stop.load(Ordering::Relaxed);
            output::note(format_args!(
                "{}stopped in epoch {} after batch {}; resume with: {}",
                if by_signal { "" } else { "the time is over: " },
                position.epoch + 1,
                position.batch,
                resume_command(args, file.as_deref(), ranks)
            ));
            let limit = if by_signal { report::SIGNAL_LIMIT } else { report::STOPPED_LIMIT };
            report::write(&folder, &data, args.device.device, args.workers, Some(limit));
            Ok(if by_signal { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
        }
    }
}

/// Writes the configuration of the run to its directory, and where the arguments ask for it.
fn write_config(
    args: &Args,
    given: &toml::Table,
    trainer: &Trainer,
    data: &Split,
    folder: &CheckpointDir,
) -> Result<()> {
    let own = folder.path().join(CheckpointDir::CONFIG);
    let own = args.resume.is_none().then_some(own);
    let mut config = trainer.config().clone();
    config.environment = Environment::of(data, &args.device.device)?;
    own.iter().chain(&args.write_config).try_for_each(|file| config_file::write(file, given, &config))
}

/// Returns the command that resumes this run: what the checkpoint does not hold is repeated.
fn resume_command(args: &Args, checkpoint: Option<&Path>, ranks: &Ranks) -> String {
    let mut text = "train".to_string();
    let mut add = |option: &str, value: String| {
        // A value that starts with a dash would pass for an option.
        let separator = if value.starts_with('-') { '=' } else { ' ' };
        text += &format!(" {option}{separator}{value}");
    };
    if let Some(checkpoint) = checkpoint {
        add("--resume", program::quoted_path(checkpoint));
    }
    if args.data_dir.data_dir != Path::new(DEFAULT_ROOT) {
        add("--data-dir", program::quoted_path(&args.data_dir.data_dir));
    }
    if args.device.device != Device::Cpu {
        add("--device", program::quoted(&args.device.device.to_string()));
    }
    if args.workers != 1 {
        add("--workers", args.workers.to_string());
    }
    if args.cache != CACHE {
        add("--cache", args.cache.to_string());
    }
    if args.keep != 0 {
        add("--keep", args.keep.to_string());
    }
    if let Some(time) = args.time_budget {
        add("--time-budget", SaveEvery::Time(time).to_string());
    }
    if args.log_every != 50 {
        add("--log-every", args.log_every.to_string());
    }
    if args.save_every != SAVE_EVERY {
        add("--save-every", args.save_every.to_string());
    }
    args.log.given().into_iter().for_each(|(option, value)| add(option, value));
    let threads = rayon::current_num_threads();
    if std::thread::available_parallelism().is_ok_and(|all| all.get() != threads) {
        add("--threads", threads.to_string());
    }
    if args.final_test {
        text += " --final-test";
    }
    if args.json {
        text += " --json";
    }
    if args.shard_optimizer {
        text += " --shard-optimizer";
    }
    let environment = ["NEOCOG_SIMD", "NEOCOG_CONV"].iter().filter_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(format!("{name}={} ", program::quoted(&value)))
    });
    let launcher = if ranks.size() == 1 { String::new() } else { format!("mpirun -np {} ", ranks.size()) };
    environment.collect::<String>() + &launcher + &program::command(text)
}
