//! The comparison of several runs.

use maud::{Markup, html};
use neocog_base::Result;
use neocog_base::text::thousands;
use neocog_viz::{AxisScale, Chart};

use crate::report::page::{duration, figure, page, table, text, time};
use crate::report::{images_per_second, part_name, percent, seconds, summary_of};
use crate::run::Run;

/// A run in a comparison.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunSummary {
    /// Name of the directory.
    pub name: String,
    /// Network.
    pub network: String,
    /// Data set.
    pub data: String,
    /// The part that the network is evaluated on after each epoch.
    pub part: &'static str,
    /// Number of finished epochs.
    pub epochs: u64,
    /// Whether all epochs are finished.
    pub finished: bool,
    /// The best accuracy on the part, and its epoch; `None` before the first epoch is finished.
    pub best: Option<(f64, u64)>,
    /// Loss on the part after the best epoch.
    pub eval_loss: Option<f64>,
    /// Training accuracy of the best epoch.
    pub train_acc: Option<f64>,
    /// Number of parameters.
    pub parameters: u64,
    /// Training images per second, over all epochs.
    pub images_per_s: Option<f64>,
    /// Duration of the training, in seconds.
    pub seconds: f64,
}

impl RunSummary {
    /// Summarizes a run.
    ///
    /// # Errors
    /// When its network cannot be built.
    pub fn new(run: &Run) -> Result<Self> {
        let best = run.best_epoch();
        Ok(RunSummary {
            name: run.name(),
            network: run.last.config.network.clone(),
            data: run.last.config.data.clone(),
            part: part_name(run),
            epochs: run.last.position.epoch,
            finished: run.is_finished(),
            best: best.map(|best| (best.eval_acc, best.epoch)),
            eval_loss: best.map(|epoch| epoch.eval_loss),
            train_acc: best.map(|epoch| epoch.train_acc),
            parameters: summary_of(&run.last)?.parameters as u64,
            images_per_s: images_per_second(run.history()),
            seconds: seconds(run.history()),
        })
    }
}

/// Returns a chart of the accuracy after each epoch, a line for each run. Runs of the same name are numbered.
pub fn chart(runs: &[Run]) -> Chart {
    let labels = labels(runs);
    let chart = Chart::new("Accuracy of the runs after each epoch", "epoch", "accuracy", AxisScale::Linear);
    runs.iter().zip(labels).fold(chart, |chart, (run, label)| {
        chart.line(label, run.history().iter().map(|epoch| (epoch.epoch as f64, epoch.eval_acc)))
    })
}

/// Makes a page with a table and a chart of the runs.
///
/// # Errors
/// When a network cannot be built.
pub fn render(runs: &[Run]) -> Result<String> {
    let summaries = runs.iter().map(RunSummary::new).collect::<Result<Vec<_>>>()?;
    let body = html! {
        h1 { "Comparison of " (runs.len()) " runs" }
        p { "Accuracies and loss are those of the best epoch, on the part that it was selected on." }
        (table_of(&summaries, &labels(runs)))
        h2 { "Accuracy" }
        (figure("Accuracy after each epoch", &chart(runs)))
    };
    Ok(page("Comparison of runs", &body))
}

fn table_of(summaries: &[RunSummary], labels: &[String]) -> Markup {
    let head = [
        "run",
        "network",
        "data",
        "epochs",
        "best accuracy",
        "epoch",
        "loss",
        "training accuracy",
        "parameters",
        "images/s",
        "time",
    ];
    let optional = |value: Option<Markup>| value.unwrap_or_else(|| text("-"));
    let rows = summaries.iter().zip(labels).map(|(run, label)| {
        vec![
            text(label),
            text(&run.network),
            text(format!("{} ({})", run.data, run.part)),
            text(format!("{}{}", run.epochs, if run.finished { "" } else { ", not finished" })),
            optional(run.best.map(|(accuracy, _)| percent(accuracy))),
            optional(run.best.map(|(_, epoch)| text(epoch))),
            optional(run.eval_loss.map(|loss| text(format!("{loss:.4}")))),
            optional(run.train_acc.map(percent)),
            text(thousands(run.parameters)),
            optional(run.images_per_s.map(|speed| time(format!("{speed:.0}")))),
            time(duration(run.seconds)),
        ]
    });
    table(&head, true, rows)
}

/// The names of the runs, with a number where they are the same.
fn labels(runs: &[Run]) -> Vec<String> {
    let names: Vec<String> = runs.iter().map(Run::name).collect();
    let label = |(i, name): (usize, &String)| {
        if names.iter().filter(|other| *other == name).count() > 1 {
            format!("{name} ({})", i + 1)
        } else {
            name.clone()
        }
    };
    names.iter().enumerate().map(label).collect()
}
