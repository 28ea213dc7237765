//! `sweep`: a search for options of a training, by many trainings.

mod plan;
mod trials;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use neocog_base::file::{read_at_most, read_regular, replace, text_of};
use neocog_base::text::count;
use neocog_insight::{Run, compare, report};
use neocog_tensor::{Error, Result};
use serde::Serialize;

use crate::arguments::positive;
use crate::help::examples;
use crate::interrupt::{INTERRUPTED, stop_on_signal};
use crate::output;
use crate::register_command;
use plan::Plan;
use trials::{Status, Trials};

/// Search for good options of `train` by many trainings.
///
/// FILE is a TOML file with options of `train` as for `train --config`, and tables for those that differ. [values] has a list of
/// values for each option, [ranges] a smallest and a largest number, and [sweep] says how trainings are chosen: method = "grid"
/// takes all combinations of the values; "random" draws as many as runs says; "halving" draws them too, trains all for first-epochs
/// epochs, then only the best share keep for more, until the best have all epochs.
///
/// Each training has a directory in OUT. A search that was stopped goes on where it was when the command is repeated.
/// A training that failed is not tried again unless its file OUT/N.failed is removed. The exit code is 1 if all have failed.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog sweep sweep.toml
  neocog sweep sweep.toml --jobs 2 --out sweeps/lr

A file:
  network = \"lenet\"
  epochs = 20
  [sweep]
  method = \"halving\"
  runs = 16
  [values]
  optimizer = [\"sgd\", \"adam\"]
  [ranges]
  lr = { min = 1e-4, max = 1e-1, log = true }"))]
struct Args {
    /// TOML file of the search.
    file: PathBuf,
    /// Directory of the search [default: sweeps/FILE without its ending].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of trainings at the same time, which share the threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    jobs: usize,
    /// Print one JSON object per training, the best first.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    run: String,
    options: serde_json::Map<String, serde_json::Value>,
    epochs: u64,
    best_acc: Option<f64>,
    best_epoch: Option<u64>,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Maximum size of the description of a search.
const MAX_BYTES: u64 = 16 << 20;

register_command!("sweep", 34, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<ExitCode> {
    let text = read_at_most(&args.file, MAX_BYTES)
        .and_then(text_of)
        .map_err(|e| Error::io(format!("cannot read the search {}", args.file.display()), e))?;
    let plan = Plan::parse(&text, &args.file)?;
    let out = args.out.clone().unwrap_or_else(|| {
        Path::new("sweeps").join(args.file.file_stem().unwrap_or_else(|| "sweep".as_ref()))
    });
    open(&out, &text)?;
    let stop = stop_on_signal()?;
    let mut trials = Trials::new(&plan, &out)?;
    let rounds = plan.rounds();
    for (round, &(epochs, runs)) in rounds.iter().enumerate() {
        let best = trials.best(runs);
        output::note(format_args!(
            "round {} of {}: {}{}",
            round + 1,
            rounds.len(),
            count(best.len(), "training"),
            epochs.map_or(String::new(), |epochs| format!(" up to epoch {epochs}"))
        ));
        trials.run(&best, epochs, args.jobs, &stop)?;
        if stop.load(Ordering::Relaxed) {
            output::note(format_args!("stopped; the same command goes on"));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    print(&trials, args.json)?;
    let runs: Vec<Run> =
        trials.best(usize::MAX).iter().filter_map(|&i| Run::open(&trials.path(i)).ok()).collect();
    if !runs.is_empty() {
        let page = out.join("comparison.html");
        report::write(&page, &compare::render(&runs)?)?;
        output::note(format_args!("comparison: {}", page.display()));
    }
    let all_failed = trials.all().iter().all(|trial| matches!(trial.status, Status::Failed(_)));
    Ok(if all_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Creates the directory of a search, or checks that it is the same search's.
fn open(out: &Path, text: &str) -> Result<()> {
    let cannot = |e| Error::io(format!("cannot write to {}", out.display()), e);
    fs::create_dir_all(out).map_err(cannot)?;
    let copy = out.join("sweep.toml");
    match read_regular(&copy, MAX_BYTES).and_then(text_of) {
        Ok(old) if old == text => Ok(()),
        Ok(_) => Err(Error::invalid_argument(format!(
            "{} holds another search; choose another directory with --out",
            out.display()
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            replace(&copy, |file| std::io::Write::write_all(file, text.as_bytes())).map_err(cannot)
        }
        Err(e) => Err(cannot(e)),
    }
}

/// Prints all trainings, the best first.
fn print(trials: &Trials, json: bool) -> Result<()> {
    let order = trials.best(usize::MAX);
    if json {
        for &i in &order {
            let trial = &trials.all()[i];
            let summary = trial.summary();
            let options = trial
                .options
                .iter()
                .map(|(name, value)| (name.clone(), serde_json::to_value(value).unwrap_or_default()));
            output::json(&JsonRow {
                run: trials.path(i).display().to_string(),
                options: options.collect(),
                epochs: summary.epochs,
                best_acc: summary.best.map(|(acc, _)| acc),
                best_epoch: summary.best.map(|(_, epoch)| epoch),
                seconds: summary.seconds,
                error: trial.error(),
            })?;
        }
        return Ok(());
    }
    let rows = order.iter().map(|&i| {
        let trial = &trials.all()[i];
        let summary = trial.summary();
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        [
            trials.path(i).display().to_string(),
            trial.describe(),
            summary.epochs.to_string(),
            optional(summary.best.map(|(acc, _)| format!("{acc:.4}"))),
            optional(summary.best.map(|(_, epoch)| epoch.to_string())),
            format!("{:.1} s", summary.seconds),
            trial.error().unwrap_or_default().to_string(),
        ]
    });
    let head = ["run", "options", "epochs", "best acc", "in epoch", "time", ""];
    output::line(output::table(head, [false, false, true, true, true, true, false], rows.collect()))
}
