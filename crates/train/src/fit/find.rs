//! The learning-rate range test. L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.

use std::sync::atomic::{AtomicBool, Ordering};

use neocog_data::{Part, Split};
use neocog_tensor::{Context as _, Error, Result};

use super::Trainer;
use crate::evaluate::check_fits;
use crate::progress::NoProgress;

/// The learning rates of a range test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrRange {
    /// Learning rate of the first step.
    pub min: f64,
    /// Learning rate of the last step.
    pub max: f64,
    /// Number of steps, at least 2.
    pub steps: usize,
}

/// A step of a range test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrPoint {
    /// Learning rate of the step.
    pub lr: f64,
    /// Loss of its batch, before the step.
    pub loss: f64,
    /// Exponential moving average of the losses so far.
    pub smoothed: f64,
}

/// Share of the average that stays at each step.
const SMOOTHING: f64 = 0.9;

/// The test ends when the average is as many times the smallest one.
const DIVERGED: f64 = 4.0;

impl LrRange {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidArgument` if the rates are not finite, positive and increasing, or there are fewer than two steps.
    pub fn check(&self) -> Result<()> {
        if !(self.min > 0.0 && self.min < self.max && self.max.is_finite()) {
            return Err(Error::invalid_argument(format!(
                "the learning rates must be above 0 and increase, not go from {:?} to {:?}",
                self.min, self.max
            )));
        }
        if self.steps < 2 {
            return Err(Error::invalid_argument(format!("{} steps are too few; use at least 2", self.steps)));
        }
        Ok(())
    }

    /// Returns the learning rate of step `step`, counted from 0; the logarithm grows by the same amount in each step.
    fn lr(&self, step: usize) -> f64 {
        self.min * (self.max / self.min).powf(step as f64 / (self.steps - 1) as f64)
    }
}

impl Trainer {
    /// Trains with a learning rate that grows from step to step, and returns the losses. It ends before the last step when the loss
    /// has grown to four times its least value or is not finite, and when `stop` becomes true.
    ///
    /// The network is changed; it starts from random or pretrained values.
    ///
    /// # Errors
    /// When the range is invalid, the network does not fit the data, or the device fails.
    pub fn find_lr(&mut self, data: &Split, range: &LrRange, stop: &AtomicBool) -> Result<Vec<LrPoint>> {
        range.check()?;
        if self.config.optimizer.lr <= 0.0 {
            return Err(Error::invalid_argument("the learning rate of the recipe must be above 0"));
        }
        check_fits(self.network(), self.input, &*data.train).context(|| self.config.network.as_str())?;
        let loader = self.loader(&data.train, Part::Train, 0)?;
        let class_weights = self.class_weights(data)?;
        let mut points: Vec<LrPoint> = Vec::with_capacity(range.steps);
        let (mut average, mut least) = (0.0, f64::INFINITY);
        loop {
            let before = self.position.step;
            for (number, batch) in loader.epoch(self.position.epoch)?.enumerate() {
                if points.len() == range.steps || stop.load(Ordering::Relaxed) {
                    return Ok(points);
                }
                let lr = range.lr(points.len());
                self.fixed_lr = Some(lr);
                let images = loader.batch_len(number);
                let agreed = self.agree(batch?, images, class_weights.as_deref(), stop, false)?;
                let metrics = self.train_step(agreed.batch, loader.batches(), &mut NoProgress)?;
                self.position.step += 1;
                let Some(metrics) = metrics else { continue };
                let loss = metrics.loss.item()?;
                average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
                // Without the zero that the average starts from.
                let smoothed = average / (1.0 - SMOOTHING.powi(points.len() as i32 + 1));
                if !smoothed.is_finite() || smoothed > DIVERGED * least {
                    return Ok(points);
                }
                least = least.min(smoothed);
                points.push(LrPoint { lr, loss, smoothed });
            }
            self.position.epoch += 1;
            if self.position.step == before {
                return Err(Error::format("there are no images").context(data.train.name()));
            }
        }
    }
}

/// Returns the learning rate at which the average loss falls fastest, for equal steps of the logarithm; `None` if it never falls.
pub fn steepest_lr(points: &[LrPoint]) -> Option<f64> {
    let slope = |pair: &[LrPoint]| (pair[1].smoothed - pair[0].smoothed) / (pair[1].lr / pair[0].lr).ln();
    let steepest = points.windows(2).min_by(|a, b| slope(a).total_cmp(&slope(b)))?;
    (slope(steepest) < 0.0).then_some(steepest[1].lr)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn rates_grow_by_the_same_factor() {
        let range = LrRange { min: 1e-4, max: 1.0, steps: 5 };
        for (step, expected) in [1e-4, 1e-3, 1e-2, 1e-1, 1.0].into_iter().enumerate() {
            assert!((range.lr(step) / expected - 1.0).abs() < 1e-12);
        }
        for (min, max, steps) in [(0.0, 1.0, 5), (1.0, 1.0, 5), (1.0, f64::INFINITY, 5), (1.0, 2.0, 1)] {
            LrRange { min, max, steps }.check().unwrap_err();
        }
    }

    #[test]
    fn the_steepest_fall_is_found() {
        let points = |losses: &[f64]| -> Vec<LrPoint> {
            let lr = |i: usize| 10f64.powi(i as i32 - 4);
            losses.iter().enumerate().map(|(i, &loss)| LrPoint { lr: lr(i), loss, smoothed: loss }).collect()
        };
        assert_eq!(steepest_lr(&points(&[2.3, 2.2, 1.0, 0.9, 3.0])), Some(1e-2));
        assert_eq!(steepest_lr(&points(&[1.0, 2.0, 3.0])), None);
        assert_eq!(steepest_lr(&points(&[1.0])), None);
    }
}
