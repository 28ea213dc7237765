//! Progress of a training: a progress bar on a terminal, and a line or a JSON object per epoch.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use neocog_tensor::Result;
use neocog_train::{BatchReport, EpochReport, Progress, TrainConfig};

use crate::output;

/// The interval of progress lines where there is no progress bar.
const INTERVAL: Duration = Duration::from_secs(30);

/// Reports the progress of a training.
pub struct Report {
    json: bool,
    epochs: u64,
    bar: Option<ProgressBar>,
    on_terminal: bool,
    last_line: Instant,
    /// The first error of writing an epoch, which `finish` returns.
    written: Result<()>,
}

impl Report {
    /// Creates a report for a training with `config`.
    pub fn new(json: bool, config: &TrainConfig) -> Self {
        Report {
            json,
            epochs: config.epochs,
            bar: None,
            on_terminal: std::io::stderr().is_terminal(),
            last_line: Instant::now(),
            written: Ok(()),
        }
    }

    /// Removes the progress bar.
    ///
    /// # Errors
    /// When an epoch could not be written.
    pub fn finish(mut self) -> Result<()> {
        self.clear();
        self.written
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

    fn epoch(&mut self, report: &EpochReport) {
        self.clear();
        self.last_line = Instant::now();
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
        if self.written.is_ok() {
            self.written = written;
        }
    }
}
