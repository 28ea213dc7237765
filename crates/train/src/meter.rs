//! Accumulates metrics over batches.

use std::time::{Duration, Instant};

use neocog_autograd::{Tape, Var};
use neocog_tensor::ops::{Add, Concat, CountCorrect, CrossEntropy, Mul, Reduction, Scale, Sum};
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor, run_single};
use serde::{Deserialize, Serialize};

use crate::loss;
use crate::options::{LossKind, TrainOptions};

/// Totals over the images of an epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of images.
    pub images: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// Number of correctly classified images.
    pub correct: u64,
    /// Time spent in seconds, since the run was resumed if that was in this epoch; 0 in a checkpoint.
    pub seconds: f64,
    /// Number of the images before the run was resumed.
    #[serde(skip)]
    pub untimed: u64,
}

impl Totals {
    /// Returns the mean loss per image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Returns the accuracy, from 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }

    /// Adds a batch of `images` with this mean loss and number of correctly classified images.
    pub(crate) fn add(&mut self, &(images, loss, correct): &BatchValues) {
        self.images += images;
        self.loss += loss * images as f64;
        self.correct += correct;
    }

    /// Returns the number of images per second, since the run was resumed.
    pub fn images_per_second(&self) -> f64 {
        (self.images - self.untimed) as f64 / self.seconds.max(1e-9)
    }
}

/// The images of a batch, their mean loss, and the number of those that are correctly classified.
pub(crate) type BatchValues = (u64, f64, u64);

/// The metrics of a batch, on the device, where they may still be computed.
#[derive(Debug)]
pub(crate) struct BatchMetrics {
    pub images: usize,
    /// Mean loss of the batch, a scalar.
    pub loss: Tensor,
    /// Number of correctly classified images, a scalar.
    pub correct: Tensor,
}

/// Interval between two reads from an asynchronous device.
const INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of batches whose metrics are not read yet.
const MAX_UNREAD: usize = 64;

/// Accumulates the metrics of batches.
///
/// An OpenCL device runs asynchronously, and a read waits until its queue is empty. So the metrics of many batches are read at
/// once, a few times per second.
#[derive(Debug)]
pub(crate) struct Meter {
    sums: Totals,
    unread: Vec<BatchMetrics>,
    read: u64,
    last_read: Instant,
    /// The values of each batch, if they are kept.
    kept: Option<Vec<BatchValues>>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter::resume(Totals::default(), 0)
    }
}

impl Meter {
    /// Creates a meter that continues from the totals of `batches` batches.
    pub(crate) fn resume(sums: Totals, batches: u64) -> Self {
        let sums = Totals { untimed: sums.images, seconds: 0.0, ..sums };
        Meter { sums, unread: Vec::new(), read: batches, last_read: Instant::now(), kept: None }
    }

    /// Creates a meter that keeps the values of each batch.
    pub(crate) fn keeping() -> Self {
        Meter { kept: Some(Vec::new()), ..Meter::default() }
    }

    /// Returns the values of each batch.
    pub(crate) fn into_batches(self) -> Vec<BatchValues> {
        self.kept.unwrap_or_default()
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a loss that is read is not finite.
    pub(crate) fn add(&mut self, metrics: BatchMetrics) -> Result<()> {
        let is_async = matches!(metrics.loss.device(), Device::OpenCl(_));
        self.unread.push(metrics);
        if is_async && self.unread.len() < MAX_UNREAD && self.last_read.elapsed() < INTERVAL {
            return Ok(());
        }
        self.read()
    }

    /// Reads the metrics of all batches and returns the totals.
    ///
    /// # Errors
    /// As [`Meter::add`].
    pub(crate) fn flush(&mut self) -> Result<Totals> {
        self.read()?;
        Ok(self.sums)
    }

    /// Returns the totals of the batches that were read; the device may be some batches ahead.
    pub(crate) fn sums(&self) -> Totals {
        self.sums
    }

    /// Returns the number of batches in the totals.
    pub(crate) fn batches(&self) -> u64 {
        self.read
    }

    pub(crate) fn set_seconds(&mut self, seconds: f64) {
        self.sums.seconds = seconds;
    }

    fn read(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let scalars = self.unread.iter().flat_map(|m| [&m.loss, &m.correct]);
        let scalars = scalars.map(|scalar| scalar.reshape([1])).collect::<Result<Vec<_>>>()?;
        let values = run_single(&Concat { dim: 0 }, &scalars.iter().collect::<Vec<_>>())?.to_f64()?;
        for (metrics, values) in self.unread.drain(..).zip(values.chunks_exact(2)) {
            self.read += 1;
            let (loss, correct) = (values[0], values[1]);
            if !loss.is_finite() {
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!("the loss became {loss} in batch {}", self.read),
                ));
            }
            let values = (metrics.images as u64, loss, correct.round() as u64);
            self.sums.add(&values);
            if let Some(kept) = &mut self.kept {
                kept.push(values);
            }
        }
        self.last_read = Instant::now();
        Ok(())
    }
}

/// Copies the images `[n, c, h, w]` and the labels `[n]` of a batch to `device`.
pub(crate) fn to_device(
    shape: [usize; 4],
    pixels: &[f32],
    labels: &[u32],
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    Ok((Tensor::from_f32(shape, pixels, device)?, labels_on(labels, device)?))
}

/// Copies labels to `device`, `[n]`.
pub(crate) fn labels_on(labels: &[u32], device: &Device) -> Result<Tensor> {
    let numbers: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
    Tensor::from_f32([labels.len()], &numbers, device)
}

/// Returns the weight of each sample, `[n]`: that of its class, divided by `sum`.
pub(crate) fn sample_weights(
    labels: &[u32],
    class_weights: &[f64],
    sum: f64,
    device: &Device,
) -> Result<Tensor> {
    let weights: Vec<f64> = labels.iter().map(|&label| class_weights[label as usize] / sum).collect();
    Tensor::from_f64([labels.len()], &weights, device)
}

/// Computes the mean cross-entropy of `logits` `[n, classes]` and the metrics of the batch.
pub(crate) fn batch_metrics(tape: &Tape, logits: &Var, labels: &Tensor) -> Result<BatchMetrics> {
    let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
    let loss = tape.apply(op, &[logits, &Var::constant(labels.clone())])?.swap_remove(0);
    metrics_of(logits, labels, &loss)
}

/// The labels of a batch, on the device.
#[derive(Debug)]
pub(crate) struct Target {
    /// `[n]`.
    pub labels: Tensor,
    /// Weight of each sample, `[n]`.
    pub weights: Option<Tensor>,
    /// Share of the loss; the shares of all targets add up to 1.
    pub share: f64,
}

/// Computes the loss of `logits` `[n, classes]` that is minimized, for the backward pass, and the metrics of the batch: the mean over
/// the samples or, with weights, the sum of the losses times the weights, of several targets in their shares. The first target
/// decides which images are classified correctly.
pub(crate) fn training_metrics(
    tape: &Tape,
    logits: &Var,
    targets: &[Target],
    options: &TrainOptions,
) -> Result<(Var, BatchMetrics)> {
    let mut total: Option<Var> = None;
    for target in targets {
        let mut loss = target_loss(tape, logits, target, options)?;
        if target.share != 1.0 {
            loss = tape.apply_single(Scale { factor: target.share }, &[&loss])?;
        }
        total = Some(match total {
            None => loss,
            Some(total) => tape.apply_single(Add, &[&total, &loss])?,
        });
    }
    let (Some(loss), Some(first)) = (total, targets.first()) else {
        return Err(Error::new(ErrorKind::Internal, "a batch without targets"));
    };
    let metrics = metrics_of(logits, &first.labels, &loss)?;
    Ok((loss, metrics))
}

fn target_loss(tape: &Tape, logits: &Var, target: &Target, options: &TrainOptions) -> Result<Var> {
    let Target { labels, weights, .. } = target;
    let mut loss = match options.loss {
        LossKind::CrossEntropy => {
            let reduction = if weights.is_some() { Reduction::None } else { Reduction::Mean };
            let op = CrossEntropy { reduction, label_smoothing: options.label_smoothing };
            tape.apply(op, &[logits, &Var::constant(labels.clone())])?.swap_remove(0)
        }
        LossKind::Focal { gamma } => loss::focal_rows(logits, labels, gamma)?,
        LossKind::Bce => loss::bce_rows(logits, labels, options.label_smoothing)?,
    };
    if let Some(weights) = weights {
        let weighted = tape.apply_single(Mul, &[&loss, &Var::constant(weights.clone())])?;
        loss = tape.apply_single(Sum, &[&weighted])?;
    } else if loss.shape().rank() > 0 {
        loss = loss.mean()?;
    }
    Ok(loss)
}

fn metrics_of(logits: &Var, labels: &Tensor, loss: &Var) -> Result<BatchMetrics> {
    let correct = run_single(&CountCorrect, &[logits.tensor(), labels])?;
    Ok(BatchMetrics { images: labels.shape().elements(), loss: loss.tensor().clone(), correct })
}
