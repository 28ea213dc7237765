//! `compare`: several training runs beside each other.

use std::path::PathBuf;

use neocog_base::program;
use neocog_insight::compare::{self, RunSummary};
use neocog_insight::{Run, report};
use neocog_tensor::{Error, Result};
use neocog_viz::save;
use serde::Serialize;

use crate::help::examples;
use crate::output::{self, thousands};
use crate::outputs;
use crate::register_command;

/// Compare training runs.
///
/// Prints a table with a row for each run: the best accuracy on the part that its best epoch was selected on, with the loss and the
/// training accuracy of that epoch, speed and time.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog compare runs/lenet-digits runs/lenet_bn-digits
  neocog compare runs/* --to comparison.html
  neocog compare runs/* --to accuracy.png"))]
struct Args {
    /// Directories of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write the table and a chart to an HTML page, or the chart to an SVG or PNG image.
    #[arg(long, value_name = "FILE.html|.svg|.png")]
    to: Option<PathBuf>,
    /// Print one JSON object per run.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    run: String,
    network: &'a str,
    data: &'a str,
    part: &'a str,
    epochs: u64,
    finished: bool,
    best_acc: Option<f64>,
    best_epoch: Option<u64>,
    loss: Option<f64>,
    train_acc: Option<f64>,
    parameters: u64,
    images_per_s: Option<f64>,
    seconds: f64,
}

#[derive(Clone, Copy)]
enum Output {
    Html,
    Svg,
    Png,
}

register_command!("compare", 42, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let output = args.to.as_deref().map(format_of).transpose()?;
    if args.to.is_some() {
        output::go_on_without_reader();
    }
    let mut runs = Vec::new();
    for path in &args.runs {
        let run = Run::open(path)?;
        for note in &run.notes {
            output::note(format_args!("warning: {}: {note}", path.display()));
        }
        runs.push(run);
    }
    let summaries = runs.iter().map(RunSummary::new).collect::<Result<Vec<_>>>()?;
    if args.json {
        for (run, path) in summaries.iter().zip(&args.runs) {
            output::json(&json_row(run, path.display().to_string()))?;
        }
    } else {
        print(&args.runs, &summaries)?;
    }
    if let Some((output, path)) = output.zip(args.to.as_deref()) {
        match output {
            Output::Html => report::write(path, &compare::render(&runs)?)?,
            Output::Svg => report::write(path, &compare::chart(&runs).svg())?,
            Output::Png => save(&compare::chart(&runs).draw(), path)?,
        }
        output::note(format_args!("wrote {}", program::quoted_path(path)));
    }
    Ok(())
}

/// The kind of file that the end of a name asks for.
fn format_of(path: &std::path::Path) -> Result<Output> {
    outputs::check([], [path])?;
    match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm") => Ok(Output::Html),
        Some("svg") => Ok(Output::Svg),
        Some("png") => Ok(Output::Png),
        _ => Err(Error::invalid_argument(format!(
            "the end of {} is none of .html, .svg and .png, so the kind of file is not known",
            path.display()
        ))),
    }
}

fn print(paths: &[PathBuf], runs: &[RunSummary]) -> Result<()> {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = runs.iter().zip(paths).map(|(run, path)| {
        [
            path.display().to_string(),
            run.network.clone(),
            format!("{} ({})", run.data, run.part),
            format!("{}{}", run.epochs, if run.finished { "" } else { ", not finished" }),
            optional(run.best.map(|(accuracy, _)| format!("{accuracy:.4}"))),
            optional(run.best.map(|(_, epoch)| epoch.to_string())),
            optional(run.eval_loss.map(|loss| format!("{loss:.4}"))),
            optional(run.train_acc.map(|accuracy| format!("{accuracy:.4}"))),
            thousands(run.parameters),
            optional(run.images_per_s.map(|speed| format!("{speed:.0}"))),
            format!("{:.1} s", run.seconds),
        ]
    });
    let head = [
        "run",
        "network",
        "data",
        "epochs",
        "best acc",
        "in epoch",
        "loss",
        "train acc",
        "parameters",
        "images/s",
        "time",
    ];
    let right = [false, false, false, true, true, true, true, true, true, true, true];
    output::line(output::table(head, right, rows.collect()))
}

fn json_row(run: &RunSummary, path: String) -> JsonRow<'_> {
    JsonRow {
        run: path,
        network: &run.network,
        data: &run.data,
        part: run.part,
        epochs: run.epochs,
        finished: run.finished,
        best_acc: run.best.map(|(accuracy, _)| accuracy),
        best_epoch: run.best.map(|(_, epoch)| epoch),
        loss: run.eval_loss,
        train_acc: run.train_acc,
        parameters: run.parameters,
        images_per_s: run.images_per_s,
        seconds: run.seconds,
    }
}
