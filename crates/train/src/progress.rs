//! The position of a run and its reports.

use neocog_autograd::Grads;
use neocog_layers::Layer;
use neocog_models::EpochMetrics;
use serde::{Deserialize, Serialize};

use crate::meter::Totals;
use crate::predictions::Predictions;

/// The position of a run: how much of it is finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of finished epochs.
    pub epoch: u64,
    /// Number of finished batches of the current epoch.
    pub batch: usize,
    /// Number of finished steps, over all epochs.
    pub step: u64,
}

/// The metrics of an epoch. Reports are equal if their results are, whatever the times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Mean training loss over the epoch, while the network was trained.
    pub train_loss: f64,
    /// Training accuracy over the epoch, while the network was trained.
    pub train_acc: f64,
    /// Mean loss after the epoch on the part that [`TrainConfig::selected_on`](crate::TrainConfig::selected_on) names.
    #[serde(rename = "test_loss")]
    pub eval_loss: f64,
    /// Accuracy after the epoch on the same part.
    #[serde(rename = "test_acc")]
    pub eval_acc: f64,
    /// Training images per second; 0 in a checkpoint, which holds no times.
    pub images_per_s: f64,
    /// Duration of the training part of the epoch in seconds, since the run was resumed if that was in this epoch; 0 in a checkpoint.
    pub seconds: f64,
}

impl PartialEq for EpochReport {
    fn eq(&self, other: &Self) -> bool {
        let results = |of: &Self| (of.epoch, of.train_loss, of.train_acc, of.eval_loss, of.eval_acc);
        results(self) == results(other)
    }
}

impl EpochReport {
    /// Returns the report without times.
    #[must_use]
    pub(crate) fn without_times(self) -> Self {
        EpochReport { images_per_s: 0.0, seconds: 0.0, ..self }
    }

    /// Returns the first report with the best accuracy on the evaluated part.
    pub fn best(history: &[EpochReport]) -> Option<&EpochReport> {
        history.iter().reduce(|best, next| if next.eval_acc > best.eval_acc { next } else { best })
    }
}

impl From<&EpochReport> for EpochMetrics {
    fn from(report: &EpochReport) -> Self {
        EpochMetrics { loss: report.eval_loss, accuracy: report.eval_acc }
    }
}

/// The state of an epoch after a batch, for progress bars.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Number of finished batches of the epoch.
    pub batch: usize,
    /// Number of batches in an epoch.
    pub batches: usize,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Totals of the epoch so far. A device may be some batches ahead of them.
    pub sums: Totals,
}

/// The metrics of the averaged network after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AverageReport {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Mean loss on the part that the trained network is evaluated on.
    pub loss: f64,
    /// Accuracy on the same part.
    pub acc: f64,
}

/// Receives the reports of a run.
pub trait Progress {
    /// Called after each batch.
    fn batch(&mut self, report: &BatchReport);
    /// Called after each epoch, when it is evaluated and saved.
    fn epoch(&mut self, report: &EpochReport);
    /// Called in each step after the backward pass, with the gradients of the network's parameters, before these are updated. `step`
    /// counts from 1.
    fn gradients(&mut self, _step: u64, _network: &dyn Layer, _grads: &Grads) {}
    /// Whether [`evaluated`](Self::evaluated) gets the predictions.
    fn wants_predictions(&self) -> bool {
        false
    }
    /// Called after each epoch, when it is evaluated and before it is saved: a run that is killed in between repeats the epoch.
    fn evaluated(&mut self, _report: &EpochReport, _predictions: Option<&Predictions>) {}
    /// Called before [`epoch`](Self::epoch), when the averaged network is evaluated.
    fn average(&mut self, _report: &AverageReport) {}
    /// Called with what a user should know, such as an image that could not be read.
    fn warning(&mut self, _text: &str) {}
}

/// A [`Progress`] that ignores all reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn batch(&mut self, _report: &BatchReport) {}
    fn epoch(&mut self, _report: &EpochReport) {}
}
