//! Learning-rate schedules: the learning rate as a function of the step.
//!
//! A schedule has no state: a resumed run needs the number of steps only.

use std::f64::consts::PI;
use std::fmt;

use neocog_base::text::count;
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// A learning-rate schedule: linear warm-up, followed by a [`Decay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of linear warm-up steps, 0 for none. Step `s` of them, counted from 1, has the factor `s / warm_up`.
    pub warm_up: u64,
    /// Decay after the warm-up.
    pub decay: Decay,
}

/// Decay of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// No decay.
    #[default]
    Constant,
    /// Multiplied by `factor` after every `epochs` epochs, as PyTorch's `StepLR`.
    Step {
        /// Number of epochs between two decays.
        epochs: u64,
        /// Factor of each decay.
        factor: f64,
    },
    /// Cosine annealing from 1, at the end of the warm-up, to `floor` after the last step. I. Loshchilov, F. Hutter,
    /// "SGDR", ICLR 2017, without restarts.
    Cosine {
        /// Final factor.
        floor: f64,
    },
}

/// Progress of a run, from which a [`Schedule`] computes the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleStep {
    /// Number of finished steps.
    pub step: u64,
    /// Number of steps in an epoch.
    pub steps_per_epoch: u64,
    /// Number of epochs in the run.
    pub epochs: u64,
}

impl Schedule {
    /// Checks that all values are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a factor or floor outside of `[0, 1]`, and for a decay every 0 epochs.
    pub fn check(&self) -> Result<()> {
        let unit_interval = |name, value: f64| {
            if (0.0..=1.0).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_argument(format!(
                "the {name} of the schedule must be from 0 to 1, not {value}"
            )))
        };
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { epochs: 0, .. } => Err(Error::invalid_argument(
                "the learning rate cannot decay every 0 epochs; expected at least 1",
            )),
            Decay::Step { factor, .. } => unit_interval("factor", factor),
            Decay::Cosine { floor } => unit_interval("floor", floor),
        }
    }

    /// Returns the factor of the base learning rate for the next step.
    pub fn lr_factor(&self, now: ScheduleStep) -> f64 {
        if now.step < self.warm_up {
            return (now.step + 1) as f64 / self.warm_up as f64;
        }
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { epochs, factor } => {
                let decays = now.step / now.steps_per_epoch.max(1) / epochs.max(1);
                factor.powi(i32::try_from(decays).unwrap_or(i32::MAX))
            }
            Decay::Cosine { floor } => {
                let steps = (now.steps_per_epoch * now.epochs).saturating_sub(self.warm_up).max(1);
                let done = ((now.step - self.warm_up) as f64 / steps as f64).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * done).cos())
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.warm_up > 0 {
            write!(f, "linear warm-up for {}, then ", count(self.warm_up, "step"))?;
        }
        match self.decay {
            Decay::Constant => write!(f, "constant"),
            Decay::Step { epochs: 1, factor } => write!(f, "multiplied by {factor} every epoch"),
            Decay::Step { epochs, factor } => write!(f, "multiplied by {factor} every {epochs} epochs"),
            Decay::Cosine { floor } => write!(f, "cosine decay to {floor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: Schedule) -> Vec<f64> {
        (0..8).map(|step| schedule.lr_factor(ScheduleStep { step, steps_per_epoch: 2, epochs: 4 })).collect()
    }

    #[test]
    fn factors_follow_the_definition() {
        assert_eq!(factors(Schedule::default()), [1.0; 8]);
        let step = Schedule { warm_up: 0, decay: Decay::Step { epochs: 2, factor: 0.5 } };
        assert_eq!(factors(step), [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]);
        let warm = Schedule { warm_up: 4, decay: Decay::Constant };
        assert_eq!(factors(warm), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]);
        // Epochs are counted from the start of the run, not from the end of the warm-up.
        let both = Schedule { warm_up: 3, decay: Decay::Step { epochs: 2, factor: 0.5 } };
        assert_eq!(factors(both), [1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]);
        let cosine = factors(Schedule { warm_up: 0, decay: Decay::Cosine { floor: 0.2 } });
        assert_eq!(cosine[0], 1.0);
        assert!((cosine[4] - 0.6).abs() < 1e-12);
        let last = Schedule { warm_up: 0, decay: Decay::Cosine { floor: 0.2 } }.lr_factor(ScheduleStep {
            step: 8,
            steps_per_epoch: 2,
            epochs: 4,
        });
        assert!((last - 0.2).abs() < 1e-12);
    }

    #[test]
    fn warm_up_precedes_cosine_decay() {
        let both = factors(Schedule { warm_up: 4, decay: Decay::Cosine { floor: 0.0 } });
        assert_eq!(both[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!((both[6] - 0.5).abs() < 1e-12, "{both:?}");
    }

    #[test]
    fn display() {
        let both = Schedule { warm_up: 4, decay: Decay::Cosine { floor: 0.0 } };
        assert_eq!(both.to_string(), "linear warm-up for 4 steps, then cosine decay to 0");
        assert_eq!(Schedule::default().to_string(), "constant");
    }

    #[test]
    fn check_rejects_values_out_of_range() {
        for decay in [
            Decay::Step { epochs: 0, factor: 0.5 },
            Decay::Step { epochs: 1, factor: f64::NAN },
            Decay::Cosine { floor: -1.0 },
        ] {
            assert!(Schedule { warm_up: 0, decay }.check().is_err(), "{decay:?}");
        }
    }
}
