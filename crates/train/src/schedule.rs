//! Learning-rate schedules: the learning rate as a function of the step.
//!
//! A schedule has no state, so a run that is resumed needs to know its step only.

use std::f64::consts::PI;
use std::fmt;

use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the learning rate changes: it rises in a line over the first steps, and is lowered by a [`Decay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps until the whole learning rate is reached; 0 for all of it at once. Step `s` of the first `warm_up`,
    /// counted from 1, has the share `s / warm_up`.
    pub warm_up: u64,
    /// What happens then.
    pub decay: Decay,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It does not.
    #[default]
    Constant,
    /// Times `factor` after every `epochs` epochs.
    Step {
        /// How many epochs it stays the same.
        epochs: u64,
        /// What it is multiplied by then.
        factor: f64,
    },
    /// Half a cosine from the whole learning rate, at the end of the warm-up, to `floor` times it after the last
    /// step. I. Loshchilov, F. Hutter, "SGDR", ICLR 2017, without restarts.
    Cosine {
        /// The share that is left at the end.
        floor: f64,
    },
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleStep {
    /// Steps that were made.
    pub step: u64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Epochs in the run.
    pub epochs: u64,
}

impl Schedule {
    /// Checks all numbers.
    ///
    /// # Errors
    /// For a factor or floor that is no share of 1, and for steps of no epochs.
    pub fn check(&self) -> Result<()> {
        let share = |name, value: f64| {
            if (0.0..=1.0).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_argument(format!("the schedule's {name} is a share from 0 to 1, not {value}")))
        };
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Step { epochs: 0, .. } => {
                Err(Error::invalid_argument("a learning rate that falls every 0 epochs: expected at least 1"))
            }
            Decay::Step { factor, .. } => share("factor", factor),
            Decay::Cosine { floor } => share("floor", floor),
        }
    }

    /// The share of the learning rate for the step that comes next.
    pub fn lr_factor(&self, now: ScheduleStep) -> f64 {
        if now.step < self.warm_up {
            return (now.step + 1) as f64 / self.warm_up as f64;
        }
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Step { epochs, factor } => {
                let falls = now.step / now.steps_per_epoch.max(1) / epochs.max(1);
                factor.powi(i32::try_from(falls).unwrap_or(i32::MAX))
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
            write!(f, "rising over {} steps, then ", self.warm_up)?;
        }
        match self.decay {
            Decay::Constant => write!(f, "constant"),
            Decay::Step { epochs, factor } => write!(f, "times {factor} every {epochs} epochs"),
            Decay::Cosine { floor } => write!(f, "cosine to {floor} of it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(schedule: Schedule) -> Vec<f64> {
        (0..8).map(|step| schedule.lr_factor(ScheduleStep { step, steps_per_epoch: 2, epochs: 4 })).collect()
    }

    #[test]
    fn the_shares_are_as_written() {
        assert_eq!(shares(Schedule::default()), [1.0; 8]);
        let step = Schedule { warm_up: 0, decay: Decay::Step { epochs: 2, factor: 0.5 } };
        assert_eq!(shares(step), [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]);
        let warm = Schedule { warm_up: 4, decay: Decay::Constant };
        assert_eq!(shares(warm), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let cosine = shares(Schedule { warm_up: 0, decay: Decay::Cosine { floor: 0.2 } });
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
    fn a_warm_up_comes_before_a_cosine() {
        let both = shares(Schedule { warm_up: 4, decay: Decay::Cosine { floor: 0.0 } });
        assert_eq!(both[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!((both[6] - 0.5).abs() < 1e-12, "{both:?}");
    }

    #[test]
    fn it_is_told_in_words() {
        let both = Schedule { warm_up: 4, decay: Decay::Cosine { floor: 0.0 } };
        assert_eq!(both.to_string(), "rising over 4 steps, then cosine to 0 of it");
        assert_eq!(Schedule::default().to_string(), "constant");
    }

    #[test]
    fn numbers_that_are_no_shares() {
        for decay in [
            Decay::Step { epochs: 0, factor: 0.5 },
            Decay::Step { epochs: 1, factor: f64::NAN },
            Decay::Cosine { floor: -1.0 },
        ] {
            assert!(Schedule { warm_up: 0, decay }.check().is_err(), "{decay:?}");
        }
    }
}
