//! Shows how a training goes: a bar on a terminal, a line for each epoch elsewhere, JSON where it is wanted.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use neocog_tensor::Result;
use neocog_train::{BatchReport, EpochReport, Progress, TrainConfig};

use crate::output;

/// How often a line tells about a long epoch where there is no bar.
const PATIENCE: Duration = Duration::from_secs(30);

/// The progress of a training.
pub struct Report {
    json: bool,
    epochs: u64,
    bar: Option<ProgressBar>,
    on_terminal: bool,
    last_word: Instant,
    /// What went wrong with the output; training goes on, and it is told at the end.
    failed: Result<()>,
}

impl Report {
    /// Nothing yet.
    pub fn new(json: bool, plan: &TrainConfig) -> Self {
        Report {
            json,
            epochs: plan.epochs,
            bar: None,
            on_terminal: std::io::stderr().is_terminal(),
            last_word: Instant::now(),
            failed: Ok(()),
        }
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// When a line could not be written.
    pub fn finish(mut self) -> Result<()> {
        self.clear();
        self.failed
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Report {
    fn batch(&mut self, report: &BatchReport) {
        let sums = report.sums;
        if self.on_terminal {
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
        } else if self.last_word.elapsed() > PATIENCE {
            self.last_word = Instant::now();
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

    fn epoch(&mut self, report: &EpochReport) {
        self.clear();
        self.last_word = Instant::now();
        let text = format!(
            "epoch {}/{}: train loss {:.4} acc {:.4}, test loss {:.4} acc {:.4}, {:.0} images/s, {:.1} s",
            report.epoch,
            self.epochs,
            report.train_loss,
            report.train_acc,
            report.test_loss,
            report.test_acc,
            report.images_per_s,
            report.seconds
        );
        let written = if self.json {
            output::note(format_args!("{text}"));
            output::json(report)
        } else {
            output::line(text)
        };
        if self.failed.is_ok() {
            self.failed = written;
        }
    }
}
