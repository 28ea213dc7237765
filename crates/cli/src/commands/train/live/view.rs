//! What the live view shows, as it changes with the reports of the run.

use std::path::PathBuf;
use std::time::Instant;

use neocog_train::{BatchReport, EpochReport, Trainer};

use super::curves::Curve;

/// Number of messages that are kept for the view.
const MESSAGES: usize = 50;

/// What the view shows.
#[derive(Debug)]
pub struct View {
    /// "lenet on digits".
    pub title: String,
    pub epochs: u64,
    /// The part that is evaluated after each epoch.
    pub part: String,
    pub batch: Option<BatchReport>,
    pub history: Vec<EpochReport>,
    /// Points of the current run within its epochs: the mean loss and accuracy since the point before.
    pub train_loss: Curve,
    pub train_acc: Curve,
    pub started: Instant,
    /// Steps at the start of this call, of a run that is resumed.
    pub steps_before: u64,
    pub folder: PathBuf,
    /// What was printed, the latest last.
    pub messages: Vec<String>,
    /// Whether it is drawn for the last time.
    pub is_over: bool,
}

impl View {
    pub fn new(trainer: &Trainer, part: impl ToString, folder: PathBuf) -> Self {
        let config = trainer.config();
        View {
            title: format!("{} on {}", config.network, config.data),
            epochs: config.epochs,
            part: part.to_string(),
            batch: None,
            history: trainer.history().to_vec(),
            train_loss: Curve::default(),
            train_acc: Curve::default(),
            started: Instant::now(),
            steps_before: trainer.position().step,
            folder,
            messages: Vec::new(),
            is_over: false,
        }
    }

    /// Takes the metrics of a batch.
    pub fn add_batch(&mut self, report: &BatchReport) {
        let at = (report.epoch - 1) as f64 + report.batch as f64 / report.batches.max(1) as f64;
        let before = self.batch.filter(|before| before.epoch == report.epoch).map(|before| before.sums);
        let before = before.unwrap_or_default();
        let images = report.sums.images.saturating_sub(before.images);
        if images > 0 {
            let mean = |sum: f64| sum / images as f64;
            self.train_loss.push(at, mean(report.sums.loss - before.loss), images);
            self.train_acc.push(at, mean(report.sums.correct.saturating_sub(before.correct) as f64), images);
        }
        self.batch = Some(*report);
    }

    /// Takes lines that were printed.
    pub fn add_message(&mut self, text: &str) {
        self.messages.extend(text.lines().map(str::to_string));
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }
}
