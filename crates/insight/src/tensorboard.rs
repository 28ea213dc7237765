//! [`TensorBoardLog`]: the progress of a run as event files of TensorBoard.

use std::path::Path;

use neocog_autograd::Grads;
use neocog_base::Result;
use neocog_data::{Part, Split};
use neocog_layers::{Layer, state};
use neocog_tensor::Tensor;
use neocog_train::metrics::ConfusionMatrix;
use neocog_train::{BatchReport, EpochReport, Position, Predictions, Progress, Totals, TrainConfig, Trainer};
use neocog_viz::tensorboard::{EventWriter, HParam, Histogram};
use neocog_viz::{ContactSheet, Image, RgbImage, Thumbnail};

use crate::matrix_image::confusion_image;

/// Most images of the first batch that are drawn.
const MAX_IMAGES: usize = 64;
/// Images in a row.
const COLUMNS: usize = 8;

/// What a [`TensorBoardLog`] writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOptions {
    /// Number of steps between two reports within an epoch. Default: 100.
    pub interval: u64,
    /// Whether histograms of all parameters and their gradients are written after each epoch. Default: false.
    pub histograms: bool,
    /// Whether the confusion matrix is written after each epoch, as an image. Default: false.
    pub confusion_matrix: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { interval: 100, histograms: false, confusion_matrix: false }
    }
}

impl LogOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of steps between two reports within an epoch.
    #[must_use]
    pub fn interval(mut self, interval: u64) -> Self {
        self.interval = interval;
        self
    }

    /// Sets whether histograms of all parameters and their gradients are written after each epoch.
    #[must_use]
    pub fn histograms(mut self, histograms: bool) -> Self {
        self.histograms = histograms;
        self
    }

    /// Sets whether the confusion matrix is written after each epoch.
    #[must_use]
    pub fn confusion_matrix(mut self, confusion_matrix: bool) -> Self {
        self.confusion_matrix = confusion_matrix;
        self
    }
}

/// Writes the progress of a run for TensorBoard. The step of an event is the number of finished training steps.
///
/// A resumed run continues with a file of its own in the same directory: what an earlier one wrote after the checkpoint is dropped
/// by readers, so that no step is there twice. A file that cannot be written does not end the run: the log ends, and
/// [`TensorBoardLog::take_error`] returns why.
#[derive(Debug)]
pub struct TensorBoardLog {
    writer: Option<EventWriter>,
    error: Option<String>,
    options: LogOptions,
    config: TrainConfig,
    /// The part that is evaluated after each epoch.
    part: &'static str,
    steps_per_epoch: u64,
    /// Totals of the epoch at the last report.
    reported: Totals,
}

impl TensorBoardLog {
    /// Creates an event file in `dir` for the rest of the run of `trainer` on `data`. In a directory without event files, the
    /// configuration, the hyperparameters and the first batch are written.
    ///
    /// # Errors
    /// When there is no part to evaluate, the first batch cannot be read, or the file cannot be written.
    pub fn create(dir: &Path, trainer: &Trainer, data: &Split, options: LogOptions) -> Result<Self> {
        let (part, _) = data.evaluated()?;
        let Position { step, .. } = trainer.position();
        let mut writer = EventWriter::create(dir, (step > 0).then_some(step + 1))?;
        let config = trainer.config().clone();
        if step == 0 || writer.is_first() {
            write_start(&mut writer, &config, part)?;
            if let Some(image) = first_batch(trainer, data)? {
                writer.image(0, "first batch", &image)?;
            }
        }
        Ok(TensorBoardLog {
            writer: Some(writer),
            error: None,
            steps_per_epoch: data.train.len().div_ceil(config.batch) as u64,
            options,
            config,
            part: part.name(),
            reported: trainer.epoch_totals(),
        })
    }

    /// Returns the first error of writing, once. Nothing is written after it.
    pub fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    /// Writes that the run has finished.
    pub fn finish(&mut self) {
        let step = self.config.epochs * self.steps_per_epoch;
        self.write(|writer| writer.finish(step));
    }

    fn write(&mut self, write: impl FnOnce(&mut EventWriter) -> Result<()>) {
        if let Some(Err(e)) = self.writer.as_mut().map(write) {
            self.error = Some(format!("the log for TensorBoard ends here: {e}"));
            self.writer = None;
        }
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let at = neocog_train::schedule::ScheduleStep {
            step,
            steps_per_epoch: self.steps_per_epoch,
            epochs: self.config.epochs,
        };
        self.config.optimizer.lr * self.config.schedule.lr_factor(at)
    }

    /// Whether `step`, counted from 1, is the last one of an epoch.
    fn ends_epoch(&self, step: u64) -> bool {
        self.steps_per_epoch > 0 && step.is_multiple_of(self.steps_per_epoch)
    }
}

impl Progress for TensorBoardLog {
    fn batch(&mut self, report: &BatchReport) {
        let step = (report.epoch - 1) * report.batches as u64 + report.batch as u64;
        let is_last = report.batch == report.batches;
        let is_due = step.is_multiple_of(self.options.interval.max(1));
        // After a resume, the first interval starts at the checkpoint.
        let before = self.reported;
        if is_due && report.sums.images > before.images {
            let images = (report.sums.images - before.images) as f64;
            let values = [
                ("batch/loss", (report.sums.loss - before.loss) / images),
                ("batch/accuracy", (report.sums.correct - before.correct) as f64 / images),
                ("batch/learning_rate", self.learning_rate(step - 1)),
                ("batch/images_per_s", images / (report.sums.seconds - before.seconds).max(1e-9)),
            ];
            self.reported = report.sums;
            self.write(|writer| writer.scalars(step, &values));
        }
        if is_last {
            self.reported = Totals::default();
        }
    }

    fn gradients(&mut self, step: u64, network: &dyn Layer, grads: &Grads) {
        if !self.options.histograms || !self.ends_epoch(step) {
            return;
        }
        for (name, param) in state::params(network) {
            for (kind, tensor) in
                [("weights", Some(param.value())), ("gradients", grads.param(param).cloned())]
            {
                // A parameter that is frozen has no gradient.
                let Some(tensor) = tensor else { continue };
                let tag = format!("{kind}/{name}");
                self.write(|writer| write_histogram(writer, step, &tag, &tensor));
            }
        }
    }

    fn wants_predictions(&self) -> bool {
        self.options.confusion_matrix && self.writer.is_some()
    }

    fn evaluated(&mut self, report: &EpochReport, predictions: Option<&Predictions>) {
        let step = report.epoch * self.steps_per_epoch;
        let tags =
            [("loss", self.part), ("accuracy", self.part)].map(|(kind, part)| format!("{kind}/{part}"));
        let values = [
            ("loss/train", report.train_loss),
            (&tags[0], report.eval_loss),
            ("accuracy/train", report.train_acc),
            (&tags[1], report.eval_acc),
            ("learning_rate", self.learning_rate(step.saturating_sub(1))),
            ("images_per_s", report.images_per_s),
        ];
        self.write(|writer| writer.scalars(step, &values));
        if let Some(predictions) = predictions.filter(|_| self.options.confusion_matrix) {
            self.write(|writer| {
                writer.image(step, "confusion_matrix", &confusion_image(&ConfusionMatrix::new(predictions))?)
            });
        }
    }

    fn epoch(&mut self, _report: &EpochReport) {}
}

fn write_histogram(writer: &mut EventWriter, step: u64, tag: &str, tensor: &Tensor) -> Result<()> {
    match Histogram::new(&tensor.to_f64()?) {
        Some(histogram) => writer.histogram(step, tag, histogram),
        None => Ok(()),
    }
}

/// Configuration and hyperparameters.
fn write_start(writer: &mut EventWriter, config: &TrainConfig, part: Part) -> Result<()> {
    let json = serde_json::to_string_pretty(config).unwrap_or_default();
    let indented: String = json.lines().map(|line| format!("    {line}\n")).collect();
    writer.text(0, "configuration", &indented)?;
    let text = |text: &dyn std::fmt::Display| HParam::Text(text.to_string());
    let hparams = [
        ("network", text(&config.network)),
        ("data", text(&config.data)),
        ("epochs", HParam::Number(config.epochs as f64)),
        ("batch", HParam::Number(config.batch as f64)),
        ("optimizer", text(&config.optimizer.kind.name())),
        ("learning_rate", HParam::Number(config.optimizer.lr)),
        ("schedule", text(&config.schedule)),
        ("transforms", text(&config.transforms)),
        ("seed", HParam::Number(config.seed as f64)),
    ];
    writer.hparams(&hparams, &[&format!("accuracy/{part}"), &format!("loss/{part}")])
}

/// Draws the first batch as the network gets it, before it is normalized; `None` for images that are neither grayscale nor RGB.
fn first_batch(trainer: &Trainer, data: &Split) -> Result<Option<RgbImage>> {
    let [c, h, w] = trainer.input();
    if c != 1 && c != 3 {
        return Ok(None);
    }
    let batch = trainer.first_batch(data)?;
    let mut thumbnails = Vec::new();
    for (pixels, &label) in batch.pixels.chunks_exact(c * h * w).zip(&batch.labels).take(MAX_IMAGES) {
        let thumbnail = Thumbnail::new(Image::from_values(pixels, [c, h, w])?);
        thumbnails.push(match data.train.class_names().get(label as usize) {
            Some(name) => thumbnail.caption(name.clone(), neocog_viz::CaptionStyle::Plain),
            None => thumbnail,
        });
    }
    let sheet = ContactSheet::new("First batch, as the network gets it")
        .note("shuffled and augmented, not normalized");
    Ok(Some(thumbnails.chunks(COLUMNS).fold(sheet, |sheet, row| sheet.row("", row.to_vec())).draw()?))
}
