//! Progress of a training: a live view or a progress bar on a terminal, and a line or a JSON object per epoch.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use neocog_data::Part;
use neocog_tensor::Result;
use neocog_train::{AverageReport, BatchReport, EpochReport, Progress, Trainer};
use serde::Serialize;

use super::live::Live;
use crate::output;

/// The interval of progress lines where there is no progress bar.
const INTERVAL: Duration = Duration::from_secs(30);

/// How the progress is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ui {
    /// Curves and messages on the whole screen.
    Live,
    /// A progress bar.
    Bar,
    /// Lines, as where standard error is not a terminal.
    Plain,
}

impl Ui {
    /// The value of the option.
    pub fn name(self) -> &'static str {
        match self {
            Ui::Live => "live",
            Ui::Bar => "bar",
            Ui::Plain => "plain",
        }
    }
}

/// Reports the progress of a training.
pub struct Report {
    json: bool,
    epochs: u64,
    /// The part that is evaluated after each epoch.
    part: Part,
    live: Option<Live>,
    bar: Option<ProgressBar>,
    has_bar: bool,
    last_line: Instant,
    /// The metrics of the averaged network in the epoch that is reported next.
    average: Option<AverageReport>,
    /// The first error of writing an epoch, which `finish` returns.
    written: Result<()>,
}

impl Report {
    /// Creates a report for a training whose checkpoints are in `folder`.
    ///
    /// # Errors
    /// When the terminal cannot be set for the live view.
    pub fn new(json: bool, ui: Ui, trainer: &Trainer, part: Part, folder: &Path) -> Result<Self> {
        let live = if ui == Ui::Live { Live::open(trainer, part, folder.to_path_buf())? } else { None };
        Ok(Report {
            json,
            epochs: trainer.config().epochs,
            part,
            has_bar: live.is_none() && ui != Ui::Plain && std::io::stderr().is_terminal(),
            live,
            bar: None,
            last_line: Instant::now(),
            average: None,
            written: Ok(()),
        })
    }

    /// Closes the live view, or removes the progress bar.
    ///
    /// # Errors
    /// When an epoch could not be written.
    pub fn finish(mut self) -> Result<()> {
        self.clear();
        self.live = None;
        self.written
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// An epoch as a line of JSON: the metrics are called after the part that they are of.
#[derive(Serialize)]
struct JsonRow {
    epoch: u64,
    train_loss: f64,
    train_acc: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_acc: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_acc: Option<f64>,
    images_per_s: f64,
    seconds: f64,
    /// Of the averaged network, on the same part.
    #[serde(skip_serializing_if = "Option::is_none")]
    average_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_acc: Option<f64>,
}

impl JsonRow {
    fn new(report: &EpochReport, part: Part, average: Option<AverageReport>) -> Self {
        let (loss, acc) = (Some(report.eval_loss), Some(report.eval_acc));
        let (val, test) =
            if part == Part::Test { ((None, None), (loss, acc)) } else { ((loss, acc), (None, None)) };
        JsonRow {
            epoch: report.epoch,
            train_loss: report.train_loss,
            train_acc: report.train_acc,
            val_loss: val.0,
            val_acc: val.1,
            test_loss: test.0,
            test_acc: test.1,
            images_per_s: report.images_per_s,
            seconds: report.seconds,
            average_loss: average.map(|average| average.loss),
            average_acc: average.map(|average| average.acc),
        }
    }
}

impl Progress for Report {
    fn warning(&mut self, text: &str) {
        self.clear();
        output::note(format_args!("warning: {text}"));
    }

    fn batch(&mut self, report: &BatchReport) {
        let sums = report.sums;
        if let Some(live) = &mut self.live {
            live.batch(report);
        } else if self.has_bar {
            let bar = self.bar.get_or_insert_with(|| {
                let style =
                    ProgressStyle::with_template("epoch {prefix} {bar:30} {pos}/{len} {msg} ({eta} left)");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                ProgressBar::new(report.batches as u64)
                    .with_style(style)
                    .with_prefix(format!("{}/{}", report.epoch, self.epochs))
            });
            bar.set_position(report.batch as u64);
            if sums.images > 0 {
                bar.set_message(format!(
                    "loss {:.4} acc {:.4} {:.0} images/s",
                    sums.mean_loss(),
                    sums.accuracy(),
                    sums.images_per_second()
                ));
            }
        } else if self.last_line.elapsed() > INTERVAL {
            self.last_line = Instant::now();
            output::note(format_args!(
                "epoch {}/{} batch {}/{}: loss {:.4} acc {:.4} {:.0} images/s",
                report.epoch,
                self.epochs,
                report.batch,
                report.batches,
                sums.mean_loss(),
                sums.accuracy(),
                sums.images_per_second()
            ));
        }
    }

    fn average(&mut self, report: &AverageReport) {
        self.average = Some(*report);
    }

    fn epoch(&mut self, report: &EpochReport) {
        self.clear();
        self.last_line = Instant::now();
        let average = self.average.take();
        if let Some(live) = &mut self.live {
            live.epoch(report);
        }
        let mut text = format!(
            "epoch {}/{}: train loss {:.4} acc {:.4}, {} loss {:.4} acc {:.4}, {:.0} images/s, {:.1} s",
            report.epoch,
            self.epochs,
            report.train_loss,
            report.train_acc,
            self.part,
            report.eval_loss,
            report.eval_acc,
            report.images_per_s,
            report.seconds
        );
        if let Some(average) = average {
            text += &format!(", averaged loss {:.4} acc {:.4}", average.loss, average.acc);
        }
        let written = if self.json {
            output::note(format_args!("{text}"));
            output::json(&JsonRow::new(report, self.part, average))
        } else {
            output::line(text)
        };
        if self.written.is_ok() {
            self.written = written;
        }
    }
}
