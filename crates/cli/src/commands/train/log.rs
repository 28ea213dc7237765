//! The log of a training for TensorBoard, beside what is printed.

use std::path::PathBuf;

use neocog_autograd::Grads;
use neocog_base::program;
use neocog_data::Split;
use neocog_insight::{LogOptions, TensorBoardLog};
use neocog_layers::Layer;
use neocog_tensor::Result;
use neocog_train::{AverageReport, BatchReport, EpochReport, Predictions, Progress, Trainer};

use super::progress::Ui;
use crate::arguments::positive;

/// Number of steps between two reports for TensorBoard.
const INTERVAL: usize = 100;

/// Where a training is logged.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Progress on a terminal: live curves on the whole screen, a bar, or plain lines, as where there is no terminal.
    #[arg(long, value_enum, value_name = "HOW", default_value = "live")]
    pub ui: Ui,
    /// Write event files for TensorBoard to DIR: loss, accuracy, learning rate and speed, the configuration and the first augmented
    /// batch. A resumed training continues there.
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Number of steps between two reports for TensorBoard within an epoch.
    #[arg(long, value_name = "N", default_value_t = INTERVAL, value_parser = positive, requires = "tensorboard")]
    tensorboard_interval: usize,
    /// Also write, after each epoch, histograms of weights and gradients, or the confusion matrix as an image.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', requires = "tensorboard")]
    tensorboard_add: Vec<Addition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Addition {
    Histograms,
    Confusion,
}

impl Addition {
    fn name(self) -> &'static str {
        match self {
            Addition::Histograms => "histograms",
            Addition::Confusion => "confusion",
        }
    }
}

impl LogArgs {
    /// Starts the log that the arguments ask for.
    ///
    /// # Errors
    /// Those of [`TensorBoardLog::create`].
    pub fn create(&self, trainer: &Trainer, data: &Split) -> Result<Option<TensorBoardLog>> {
        let options = LogOptions::new()
            .interval(self.tensorboard_interval as u64)
            .histograms(self.tensorboard_add.contains(&Addition::Histograms))
            .confusion_matrix(self.tensorboard_add.contains(&Addition::Confusion));
        self.tensorboard.as_ref().map(|dir| TensorBoardLog::create(dir, trainer, data, options)).transpose()
    }

    /// The options that are not the default, with their values, for a command line.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let mut given = Vec::new();
        if self.ui != Ui::Live {
            given.push(("--ui", self.ui.name().to_string()));
        }
        given.extend(self.tensorboard.as_ref().map(|dir| ("--tensorboard", program::quoted_path(dir))));
        if self.tensorboard_interval != INTERVAL {
            given.push(("--tensorboard-interval", self.tensorboard_interval.to_string()));
        }
        if !self.tensorboard_add.is_empty() {
            let names: Vec<&str> = self.tensorboard_add.iter().map(|addition| addition.name()).collect();
            given.push(("--tensorboard-add", names.join(",")));
        }
        given
    }
}

/// A report on the terminal, and the log. An error of the log is a warning.
pub struct Logged<'a, P: Progress> {
    pub report: &'a mut P,
    pub log: Option<TensorBoardLog>,
}

impl<P: Progress> Logged<'_, P> {
    fn log(&mut self, act: impl FnOnce(&mut TensorBoardLog)) {
        let Some(log) = &mut self.log else { return };
        act(log);
        if let Some(error) = log.take_error() {
            self.log = None;
            self.report.warning(&error);
        }
    }

    /// Ends the log of a run that has finished.
    pub fn finish(mut self) {
        self.log(TensorBoardLog::finish);
    }
}

impl<P: Progress> Progress for Logged<'_, P> {
    fn batch(&mut self, report: &BatchReport) {
        self.log(|log| log.batch(report));
        self.report.batch(report);
    }
    fn epoch(&mut self, report: &EpochReport) {
        self.report.epoch(report);
    }
    fn average(&mut self, report: &AverageReport) {
        self.report.average(report);
    }
    fn gradients(&mut self, step: u64, network: &dyn Layer, grads: &Grads) {
        self.log(|log| log.gradients(step, network, grads));
    }
    fn wants_predictions(&self) -> bool {
        self.log.as_ref().is_some_and(Progress::wants_predictions)
    }
    fn evaluated(&mut self, report: &EpochReport, predictions: Option<&Predictions>) {
        self.log(|log| log.evaluated(report, predictions));
    }
    fn warning(&mut self, text: &str) {
        self.report.warning(text);
    }
}
