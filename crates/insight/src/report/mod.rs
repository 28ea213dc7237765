//! The report of a run: one HTML page that needs no other file.

mod evaluation;
mod options;
pub(crate) mod page;

use std::time::{Duration, Instant};

use maud::{Markup, html};
use neocog_base::text::count;
use neocog_base::text::thousands;
use neocog_base::{Error, Result};
use neocog_data::{Part, Split};
use neocog_layers::Builder;
use neocog_layers::summary::{Summary, summarize};
use neocog_tensor::{Device, Shape};
use neocog_train::schedule::ScheduleStep;
use neocog_train::{Checkpoint, EpochReport};
use neocog_viz::{AxisScale, Chart};

use crate::run::Run;
use evaluation::Evaluated;
use page::{duration, facts, figure, table, text, time};

pub use options::ReportOptions;
pub use page::write;

/// A finished report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The page.
    pub html: String,
    /// Why the predictions are missing, if they are.
    pub missing: Option<String>,
}

/// Makes the report of a run. `data` is its data set, or why it is not there: then the report says so and lacks predictions.
///
/// # Errors
/// When the network of the run cannot be built, or the device fails.
pub fn render(run: &Run, data: Result<&Split, &Error>, options: &ReportOptions) -> Result<Report> {
    let config = &run.last.config;
    let summary = summary_of(&run.last)?;
    let mut warnings = run.notes.clone();
    let evaluated = match data {
        _ if run.history().is_empty() => Err("no epoch is finished".to_string()),
        Err(e) => Err(format!("the data set cannot be read: {e}")),
        Ok(data) => {
            if let Some(changed) = config.environment.data_difference(data) {
                warnings.push(format!(
                    "The data set has changed since the training ({changed}): what follows about predictions is of other images."
                ));
            }
            let stop = stop_after(options.time_limit);
            match Evaluated::new(run, data, options, &stop) {
                Ok(Some(evaluated)) => Ok(evaluated),
                Ok(None) => {
                    Err("the run was stopped, and the evaluation would have taken too long".to_string())
                }
                Err(e) => Err(format!("the network cannot be evaluated: {e}")),
            }
        }
    };
    let missing = evaluated.as_ref().err().cloned();
    let title = format!("{} on {}", config.network, config.data);
    let body = html! {
        h1 { (title) }
        (status(run, &warnings))
        (cards(run, &summary, evaluated.as_ref().ok()))
        (curves(run))
        @match &evaluated {
            Ok(evaluated) => { (evaluated.sections()?) }
            Err(reason) => {
                h2 { "Predictions" }
                p.warning { "There are no predictions in this report: " (reason) "." }
            }
        }
        (epochs(run))
        (network(run, &summary))
        (configuration(run)?)
        (machine(run, &options.device))
    };
    Ok(Report { html: page::page(&title, &body), missing })
}

fn stop_after(limit: Option<Duration>) -> impl Fn() -> bool {
    let start = Instant::now();
    move || limit.is_some_and(|limit| start.elapsed() > limit)
}

/// Summarizes the network of a checkpoint.
pub(crate) fn summary_of(checkpoint: &Checkpoint) -> Result<Summary> {
    let [c, h, w] = checkpoint.input;
    let input = Shape::new(&[1, c, h, w])?;
    summarize(&*Builder::new(&Device::Meta, 0).build(&checkpoint.spec()?, &input)?, &input)
}

/// The part that is evaluated after each epoch.
pub(crate) fn part_name(run: &Run) -> &'static str {
    run.last.config.selected_on.unwrap_or(Part::Test).name()
}

fn status(run: &Run, warnings: &[String]) -> Markup {
    html! {
        p.status {
            @if run.is_finished() { "Finished: " } @else { "Not finished: " }
            (run.progress()) "."
        }
        @for warning in warnings { p.warning { (warning) } }
    }
}

/// The most important numbers.
fn cards(run: &Run, summary: &Summary, evaluated: Option<&Evaluated>) -> Markup {
    let part = part_name(run);
    let mut cards: Vec<(String, Markup)> = Vec::new();
    if let Some((best, last)) = run.best_epoch().zip(run.history().last()) {
        cards.push((format!("{part} accuracy, best (epoch {})", best.epoch), percent(best.eval_acc)));
        cards.push((format!("{part} accuracy, last epoch"), percent(last.eval_acc)));
        cards.push(("training accuracy, last epoch".into(), percent(last.train_acc)));
    }
    if let Some(evaluated) = evaluated {
        // Another part than that of the accuracies above, if one was asked for.
        let of_part = if evaluated.part() == part { String::new() } else { format!("{} ", evaluated.part()) };
        if !of_part.is_empty() {
            cards.push((format!("{of_part}accuracy"), percent(evaluated.accuracy())));
        }
        cards.push((format!("{of_part}macro F1 score"), text(format!("{:.4}", evaluated.macro_f1()))));
        cards.push((format!("{of_part}calibration error (ECE)"), text(format!("{:.4}", evaluated.ece()))));
    }
    cards.push(("parameters".into(), text(thousands(summary.parameters as u64))));
    cards.push(("training time".into(), time(duration(seconds(run.history())))));
    html! { div.cards { @for (name, value) in cards { div { b { (value) } small { (name) } } } } }
}

/// Loss, accuracy and learning rate over the epochs.
fn curves(run: &Run) -> Markup {
    let history = run.history();
    let part = part_name(run);
    let series = |value: fn(&EpochReport) -> f64| history.iter().map(move |e| (e.epoch as f64, value(e)));
    let loss = Chart::new("Loss for each epoch", "epoch", "loss", AxisScale::Linear)
        .line("training", series(|e| e.train_loss))
        .line(part, series(|e| e.eval_loss));
    let accuracy = Chart::new("Accuracy for each epoch", "epoch", "accuracy", AxisScale::Linear)
        .line("training", series(|e| e.train_acc))
        .line(part, series(|e| e.eval_acc));
    html! {
        h2 { "Curves" }
        @if history.is_empty() {
            p { "No epoch is finished: there are no curves yet." }
        } @else {
            div.charts {
                (figure("Loss: mean cross-entropy. That of the training images is measured while the network learns.", &loss))
                (figure("Accuracy", &accuracy))
                @if let Some(rate) = learning_rate(run) {
                    (figure("Learning rate, as the schedule of the configuration gives it", &rate))
                }
            }
        }
    }
}

/// The learning rate of the finished steps.
fn learning_rate(run: &Run) -> Option<Chart> {
    const POINTS: u64 = 400;
    let config = &run.last.config;
    let steps_per_epoch = run.steps_per_epoch()?;
    let steps = run.last.position.step;
    let rate = |step: u64| {
        let at = ScheduleStep { step, steps_per_epoch, epochs: config.epochs };
        (step as f64 / steps_per_epoch as f64, config.optimizer.lr * config.schedule.lr_factor(at))
    };
    let points =
        (0..steps).step_by(steps.div_ceil(POINTS).max(1) as usize).chain(steps.checked_sub(1)).map(rate);
    let chart =
        Chart::new("Learning rate of each step", "finished epochs", "learning rate", AxisScale::Linear);
    Some(chart.line(config.optimizer.kind.name(), points))
}

/// A row for each epoch.
fn epochs(run: &Run) -> Markup {
    let part = part_name(run);
    let head = [
        "epoch",
        "training loss",
        "training accuracy",
        &format!("{part} loss"),
        &format!("{part} accuracy"),
        "images/s",
        "time",
    ];
    let row = |epoch: &EpochReport| {
        vec![
            text(epoch.epoch),
            text(format!("{:.4}", epoch.train_loss)),
            text(format!("{:.4}", epoch.train_acc)),
            text(format!("{:.4}", epoch.eval_loss)),
            text(format!("{:.4}", epoch.eval_acc)),
            time(format!("{:.0}", epoch.images_per_s)),
            time(duration(epoch.seconds)),
        ]
    };
    html! {
        h2 { "Epochs" }
        @if run.history().is_empty() { p { "No epoch is finished." } }
        @else { (table(&head, true, run.history().iter().map(row))) }
    }
}

fn network(run: &Run, summary: &Summary) -> Markup {
    let [c, h, w] = run.last.input;
    let head = ["layer", "kind", "output", "parameters", "multiply-adds"];
    let rows = summary.rows.iter().map(|row| {
        vec![
            text(if row.path.is_empty() { "-" } else { &row.path }),
            text(&row.label),
            text(row.output),
            text(thousands(row.parameters as u64)),
            text(thousands(row.multiply_adds)),
        ]
    });
    html! {
        h2 { "Network" }
        p {
            (run.last.config.network) ": input " (c) "×" (h) "×" (w) ", "
            (thousands(summary.parameters as u64)) " parameters, "
            (thousands(summary.multiply_adds)) " multiply-adds for an image."
        }
        (table(&head, true, rows))
    }
}

fn configuration(run: &Run) -> Result<Markup> {
    let config = &run.last.config;
    let json = serde_json::to_string_pretty(config)
        .map_err(|e| Error::format("cannot write the configuration as JSON").with_source(e))?;
    let rows = [
        ("data set", config.data.clone()),
        ("classes", run.last.class_names.len().to_string()),
        ("epochs", config.epochs.to_string()),
        ("batch size", config.batch.to_string()),
        ("optimizer", format!("{}, learning rate {:?}", config.optimizer.kind.name(), config.optimizer.lr)),
        ("schedule", config.schedule.to_string()),
        (
            "transforms",
            if config.transforms.is_empty() { "none".into() } else { config.transforms.to_string() },
        ),
        ("seed", config.seed.to_string()),
    ];
    Ok(html! {
        h2 { "Configuration" }
        (facts(rows.map(|(name, value)| (name.to_string(), text(value)))))
        h3 { "All values" }
        pre tabindex="0" { (json) }
    })
}

/// Where the run was trained, as far as the checkpoint tells, and where the report was made.
fn machine(run: &Run, device: &Device) -> Markup {
    let environment = &run.last.config.environment;
    let unknown = || "not known".to_string();
    let mut rows = vec![
        (
            "trained with".to_string(),
            text(environment.version.as_ref().map_or_else(unknown, |v| format!("neocog {v}"))),
        ),
        (
            "trained on".to_string(),
            text(environment.device_name.clone().or(environment.device.clone()).unwrap_or_else(unknown)),
        ),
    ];
    if let Some(simd) = &environment.simd {
        rows.push(("instruction set".to_string(), text(simd)));
    }
    rows.push(("training time".to_string(), time(duration(seconds(run.history())))));
    if let Some(speed) = images_per_second(run.history()) {
        rows.push(("training speed".to_string(), time(format!("{speed:.0} images/s"))));
    }
    rows.push(("report made with".to_string(), text(format!("neocog {}", env!("CARGO_PKG_VERSION")))));
    rows.push(("report made on".to_string(), text(format!("{}, {device}", this_machine()))));
    html! { h2 { "Machine" } (facts(rows)) }
}

/// Describes the machine of this process.
fn this_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{}, {}, {os} {arch}", cpu.unwrap_or_else(|| "processor".into()), count(cores, "core"))
}

/// The training images per second over all epochs.
pub(crate) fn images_per_second(history: &[EpochReport]) -> Option<f64> {
    let images: f64 = history.iter().map(|epoch| epoch.images_per_s * epoch.seconds).sum();
    (!history.is_empty()).then(|| images / seconds(history).max(1e-9))
}

pub(crate) fn seconds(history: &[EpochReport]) -> f64 {
    history.iter().map(|epoch| epoch.seconds).sum()
}

pub(crate) fn percent(share: f64) -> Markup {
    text(format!("{:.2} %", 100.0 * share))
}
