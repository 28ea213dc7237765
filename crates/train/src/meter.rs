//! Adds up loss and correct over batches.

use std::time::{Duration, Instant};

use neocog_autograd::{Tape, Var};
use neocog_data::Batch;
use neocog_tensor::ops::{Concat, CountCorrect, CrossEntropy, Reduction};
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor, run_single};
use serde::{Deserialize, Serialize};

/// Totals over the images seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Images.
    pub images: u64,
    /// The sum of their losses.
    pub loss: f64,
    /// How many of them were classified rightly.
    pub correct: u64,
    /// Seconds spent on them.
    pub seconds: f64,
}

impl Totals {
    /// The mean loss of an image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// The share of images that were classified rightly.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }

    /// Images in a second.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds.max(1e-9)
    }
}

/// What a batch gave: numbers that may still be in the making on the device.
#[derive(Debug)]
pub(crate) struct Measured {
    pub images: usize,
    /// The mean over the batch, a scalar.
    pub loss: Tensor,
    /// A scalar.
    pub correct: Tensor,
}

/// How long the host reads no numbers of a device that works on its own.
const INTERVAL: Duration = Duration::from_millis(200);

/// The most batches whose numbers are not read yet.
const MOST_UNREAD: usize = 64;

/// Adds up what batches gave.
///
/// A device such as OpenCL's works through what it was given while the host prepares more, and a read waits until it
/// has done all. So its numbers are read together, a few times in a second, in one read.
#[derive(Debug)]
pub(crate) struct Meter {
    sums: Totals,
    unread: Vec<Measured>,
    read: u64,
    last_read: Instant,
}

impl Default for Meter {
    fn default() -> Self {
        Meter::resume(Totals::default(), 0)
    }
}

impl Meter {
    /// Goes on from sums over `batches` batches.
    pub(crate) fn resume(sums: Totals, batches: u64) -> Self {
        Meter { sums, unread: Vec::new(), read: batches, last_read: Instant::now() }
    }

    /// Takes in a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a loss that is read is not a finite number.
    pub(crate) fn add(&mut self, measured: Measured) -> Result<()> {
        let runs_ahead = matches!(measured.loss.device(), Device::OpenCl(_));
        self.unread.push(measured);
        if runs_ahead && self.unread.len() < MOST_UNREAD && self.last_read.elapsed() < INTERVAL {
            return Ok(());
        }
        self.read()
    }

    /// The sums, with every batch in them.
    ///
    /// # Errors
    /// As [`Meter::add`].
    pub(crate) fn settle(&mut self) -> Result<Totals> {
        self.read()?;
        Ok(self.sums)
    }

    /// The sums over what was read so far; a device may be some batches ahead.
    pub(crate) fn sums(&self) -> Totals {
        self.sums
    }

    /// How many batches are in the sums.
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
        let numbers = run_single(&Concat { dim: 0 }, &scalars.iter().collect::<Vec<_>>())?.to_f64()?;
        for (measured, numbers) in self.unread.drain(..).zip(numbers.chunks_exact(2)) {
            self.read += 1;
            let (loss, correct) = (numbers[0], numbers[1]);
            if !loss.is_finite() {
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!("the loss became {loss} in batch {}", self.read),
                ));
            }
            self.sums.images += measured.images as u64;
            self.sums.loss += loss * measured.images as f64;
            self.sums.correct += correct.round() as u64;
        }
        self.last_read = Instant::now();
        Ok(())
    }
}

/// The images `[n, c, h, w]` and the classes `[n]` of a batch, on `device`.
pub(crate) fn to_device(batch: &Batch, device: &Device) -> Result<(Tensor, Tensor)> {
    let labels: Vec<f32> = batch.labels.iter().map(|&label| label as f32).collect();
    Ok((
        Tensor::from_f32(batch.shape(), &batch.pixels, device)?,
        Tensor::from_f32([batch.len()], &labels, device)?,
    ))
}

/// The mean cross-entropy of `logits [n, classes]`, to take gradients of, and what to report of it.
pub(crate) fn measure(tape: &Tape, logits: &Var, labels: &Tensor) -> Result<(Var, Measured)> {
    let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
    let loss = tape.apply(op, &[logits, &Var::constant(labels.clone())])?.swap_remove(0);
    let correct = run_single(&CountCorrect, &[logits.tensor(), labels])?;
    let measured = Measured { images: labels.shape().elements(), loss: loss.tensor().clone(), correct };
    Ok((loss, measured))
}
