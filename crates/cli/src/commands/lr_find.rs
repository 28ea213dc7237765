//! `lr-find`: a learning rate for a training, by a range test.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command};
use neocog_insight::report;
use neocog_tensor::Result;
use neocog_train::{LrPoint, LrRange, TrainConfig, steepest_lr};
use neocog_viz::{AxisScale, Chart, save};
use serde::Serialize;

use super::train;
use crate::arguments::{non_negative, steps};
use crate::help::examples;
use crate::interrupt::{INTERRUPTED, stop_on_signal};
use crate::output;
use crate::outputs;
use crate::register_command;

/// Options of `train` that are not about a single step.
const NOT_OF_A_STEP: [&str; 22] = [
    "config",
    "write_config",
    "epochs",
    "lr",
    "schedule",
    "warm_up",
    "final_test",
    "out",
    "keep",
    "time_budget",
    "log_every",
    "overwrite",
    "save_every",
    "schedule_from_here",
    "allow_different",
    "resume",
    "ema",
    "swa",
    "early_stopping",
    "ui",
    "tensorboard",
    "tensorboard_add",
];

#[derive(Debug, clap::Args)]
struct LrFindArgs {
    #[command(flatten)]
    train: train::Args,
    /// Learning rate of the first step.
    #[arg(long, value_name = "RATE", default_value_t = 1e-6, value_parser = non_negative)]
    min_lr: f64,
    /// Learning rate of the last step.
    #[arg(long, value_name = "RATE", default_value_t = 10.0, value_parser = non_negative)]
    max_lr: f64,
    /// Number of steps.
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = steps)]
    steps: usize,
    /// Write a chart of the losses, an SVG or PNG image.
    #[arg(long, value_name = "FILE.svg|.png")]
    to: Option<PathBuf>,
}

#[derive(Serialize)]
struct JsonRow {
    lr: f64,
    loss: f64,
    smoothed_loss: f64,
}

register_command!("lr-find", 32, LrFindArgs, run, build command, with matches);

fn command() -> Command {
    let mut command = LrFindArgs::augment_args(Command::new("lr-find"));
    for id in NOT_OF_A_STEP.into_iter().chain(["tensorboard_interval"]) {
        command = command.mut_arg(id, |argument| argument.hide(true));
    }
    command
        .mut_arg("json", |argument| argument.help("Print one JSON object per step"))
        .about("Find a learning rate: train with one that grows from step to step, and look at the loss")
        .long_about(
            "Find a learning rate: train with one that grows from step to step, and look at the loss.\n\nThe network, the data and the \
             options of a step are those of `train`. A learning rate at which the loss falls fastest is a good first try; the test ends \
             when the loss has grown to four times its least value. Nothing of the training is kept.",
        )
        .after_help(examples(
            "Examples:
  neocog lr-find lenet
  neocog lr-find resnet --data fashion-mnist --optimizer sgd --momentum 0.9 --to lr.png
  neocog lr-find lenet --steps 300 --min-lr 1e-5 --max-lr 1 --json",
        ))
}

/// Ends the program if an option of `train` is given that has no meaning here.
fn check_given(matches: &ArgMatches) {
    let given = |id: &&&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = NOT_OF_A_STEP.iter().find(given) {
        output::usage_error(format!(
            "lr-find has no option --{}; it belongs to `train`",
            id.replace('_', "-")
        ));
    }
}

/// Runs the command.
fn run(args: &LrFindArgs, matches: &ArgMatches) -> Result<ExitCode> {
    check_given(matches);
    if let Some(file) = &args.to {
        outputs::check([], [file.as_path()])?;
    }
    let range = LrRange { min: args.min_lr, max: args.max_lr, steps: args.steps };
    range.check()?;
    let (mut trainer, data) = train::prepare(&args.train)?;
    trainer.set_workers(args.train.workers);
    let stop = stop_on_signal()?;
    let points = trainer.find_lr(&data, &range, &stop)?;
    if args.train.json {
        for &LrPoint { lr, loss, smoothed } in &points {
            output::json(&JsonRow { lr, loss, smoothed_loss: smoothed })?;
        }
    }
    let found = steepest_lr(&points);
    let text = match (found, points.last()) {
        _ if stop.load(Ordering::Relaxed) => {
            format!(
                "stopped after {} of {} steps, too few to tell a learning rate",
                points.len(),
                range.steps
            )
        }
        (Some(lr), Some(last)) => format!(
            "the loss falls fastest at a learning rate of {lr:.1e}: try --lr {lr:.1e}; {} steps, from {:.1e} to {:.1e}",
            points.len(),
            range.min,
            last.lr
        ),
        _ => "the loss does not fall at any learning rate of the range".to_string(),
    };
    if let Some(file) = &args.to {
        let chart = chart(&points, trainer.config(), &text);
        if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            report::write(file, &chart.svg())?;
        } else {
            output::image_format(file);
            save(&chart.draw(), file)?;
        }
        output::note(format_args!("chart: {}", file.display()));
    }
    if args.train.json {
        output::note(format_args!("{text}"));
    } else {
        output::line(text)?;
    }
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn chart(points: &[LrPoint], config: &TrainConfig, found: &str) -> Chart {
    let at = |value: fn(&LrPoint) -> f64| points.iter().map(move |point| (point.lr.log10(), value(point)));
    let title =
        format!("Learning rates of {} on {}, {}", config.network, config.data, config.optimizer.kind.name());
    Chart::new(title, "log10 of the learning rate", "loss", AxisScale::Linear)
        .note(found)
        .line("loss", at(|point| point.loss))
        .line("average", at(|point| point.smoothed))
}
