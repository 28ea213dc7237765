//! Adds up loss and hits over batches.

use std::collections::VecDeque;

use neocog_autograd::{Tape, Var};
use neocog_data::Batch;
use neocog_tensor::ops::{CountCorrect, CrossEntropy, Reduction};
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor, run1};
use serde::{Deserialize, Serialize};

/// Sums over the images seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Images.
    pub images: u64,
    /// The sum of their losses.
    pub loss: f64,
    /// How many of them were classified rightly.
    pub correct: u64,
    /// Seconds spent on them.
    pub seconds: f64,
}

impl Sums {
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

/// Adds up what batches gave. It reads a batch's numbers only after the next batch was handed to the device, so the
/// device is never idle while the host waits for a number.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sums: Sums,
    unread: VecDeque<Measured>,
    read: u64,
}

impl Meter {
    /// Goes on from sums over `batches` batches.
    pub(crate) fn resume(sums: Sums, batches: u64) -> Self {
        Meter { sums, unread: VecDeque::new(), read: batches }
    }

    /// Takes in a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when the loss of the batch before is not a finite number.
    pub(crate) fn add(&mut self, measured: Measured) -> Result<()> {
        self.unread.push_back(measured);
        self.read_all_but(1)
    }

    /// The sums, with every batch in them.
    ///
    /// # Errors
    /// As [`Meter::add`], for the last batch.
    pub(crate) fn settle(&mut self) -> Result<Sums> {
        self.read_all_but(0)?;
        Ok(self.sums)
    }

    /// The sums over what was read so far.
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// How many batches are in the sums.
    pub(crate) fn batches(&self) -> u64 {
        self.read
    }

    pub(crate) fn set_seconds(&mut self, seconds: f64) {
        self.sums.seconds = seconds;
    }

    fn read_all_but(&mut self, unread: usize) -> Result<()> {
        while self.unread.len() > unread {
            let Some(measured) = self.unread.pop_front() else { break };
            self.read += 1;
            let loss = measured.loss.item()?;
            if !loss.is_finite() {
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!("the loss became {loss} in batch {}", self.read),
                ));
            }
            self.sums.images += measured.images as u64;
            self.sums.loss += loss * measured.images as f64;
            self.sums.correct += measured.correct.item()?.round() as u64;
        }
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
    let correct = run1(&CountCorrect, &[logits.tensor(), labels])?;
    let measured = Measured { images: labels.shape().elements(), loss: loss.tensor().clone(), correct };
    Ok((loss, measured))
}
