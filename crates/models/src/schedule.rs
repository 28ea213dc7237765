//! Schedules: the learning rate, and for some the momentum, as a function of the step.
//!
//! The values are those of `torch.optim.lr_scheduler`. A schedule has no state: a resumed run needs the number of steps and, for
//! [`Decay::Plateau`], the metrics of the finished epochs.

mod check;
mod text;

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A schedule: linear warm-up, followed by a [`Decay`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of linear warm-up steps, 0 for none. Step `s` of them, counted from 1, has the factor `s / warm_up`.
    pub warm_up: u64,
    /// Decay after the warm-up.
    pub decay: Decay,
}

/// Decay of the learning rate. Where a number of epochs is counted, it is from the start of the run, a warm-up included; where the
/// factor changes with every step, the first one is that after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// A straight line from `start` to `end`, as PyTorch's `LinearLR`; changes with every step.
    Linear {
        /// Factor of the first step.
        start: f64,
        /// Final factor.
        end: f64,
        /// Number of epochs until `end`; the rest of the run if absent.
        #[serde(default)]
        epochs: Option<u64>,
    },
    /// Multiplied by `factor` after each of some numbers of epochs, as PyTorch's `MultiStepLR`.
    MultiStep {
        /// Numbers of finished epochs, in ascending order.
        epochs: Vec<u64>,
        /// Factor of each decay.
        factor: f64,
    },
    /// Multiplied by `factor` after every epoch, as PyTorch's `ExponentialLR`.
    Exponential {
        /// Factor of each epoch.
        factor: f64,
    },
    /// `(1 - t)^power` from `t = 0` to 1, as PyTorch's `PolynomialLR`; changes with every step.
    Polynomial {
        /// The exponent; 1 for a straight line.
        power: f64,
        /// Number of epochs until 0; the rest of the run if absent.
        #[serde(default)]
        epochs: Option<u64>,
    },
    /// Cosine annealing from 1 to `floor`, again and again, as PyTorch's `CosineAnnealingWarmRestarts`; changes with every step.
    CosineRestarts {
        /// Number of epochs of the first cycle.
        epochs: u64,
        /// How many times as long as the one before each further cycle is.
        multiplier: u64,
        /// Factor at the end of a cycle.
        floor: f64,
    },
    /// One cycle over the whole run, as PyTorch's `OneCycleLR`: the learning rate of the configuration is the largest one. L. Smith,
    /// N. Topin, "Super-convergence", 2018.
    OneCycle(OneCycle),
    /// Multiplied by a factor when a metric of the evaluation no longer gets better, as PyTorch's `ReduceLROnPlateau`.
    Plateau(Plateau),
    /// The product of the factors of several decays, as PyTorch's `ChainedScheduler`.
    Product(Vec<Decay>),
    /// One decay after the other, each as if it were a run of its own, as PyTorch's `SequentialLR`.
    Sequence(Vec<Phase>),
}

/// A part of a [`Decay::Sequence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The decay of this part.
    pub decay: Decay,
    /// Number of epochs; absent in the last part, which lasts until the end of the run.
    #[serde(default)]
    pub epochs: Option<u64>,
}

/// One cycle of learning rate and momentum; see [`Decay::OneCycle`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Share of the steps in which the learning rate rises; PyTorch's `pct_start`.
    pub rise: f64,
    /// The first learning rate is the largest one divided by this.
    pub div_factor: f64,
    /// The last learning rate is the first one divided by this.
    pub final_div_factor: f64,
    /// Whether the learning rate changes along a straight line instead of a cosine.
    pub linear: bool,
    /// Whether the learning rate falls as long as it rose, and then to the last one, instead of falling once.
    pub three_phase: bool,
    /// Momentum at the largest and at the other learning rates, of Adam the first of the betas; absent if it does not change.
    pub momentum: Option<[f64; 2]>,
}

impl Default for OneCycle {
    fn default() -> Self {
        OneCycle {
            rise: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            linear: false,
            three_phase: false,
            momentum: Some([0.85, 0.95]),
        }
    }
}

/// Reduction of the learning rate on a plateau; see [`Decay::Plateau`]. The defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Factor of each reduction.
    pub factor: f64,
    /// Number of epochs without a better metric that are waited for; the one after them reduces the learning rate.
    pub patience: u64,
    /// Least change that counts as better.
    pub threshold: f64,
    /// Whether `threshold` is the change itself instead of its ratio to the best metric.
    pub absolute: bool,
    /// Number of epochs after a reduction in which none follows.
    pub cooldown: u64,
    /// Least factor.
    pub floor: f64,
    /// Smallest change of the learning rate that is made.
    pub eps: f64,
    /// Whether the metric is the accuracy, which should rise, instead of the loss, which should fall.
    pub accuracy: bool,
}

impl Default for Plateau {
    fn default() -> Self {
        Plateau {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            absolute: false,
            cooldown: 0,
            floor: 0.0,
            eps: 1e-8,
            accuracy: false,
        }
    }
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

/// The metrics of a finished epoch that a [`Plateau`] looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochMetrics {
    /// Mean loss of the evaluation.
    pub loss: f64,
    /// Accuracy of the evaluation.
    pub accuracy: f64,
}

/// What a schedule says about a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Factor of the base learning rate.
    pub lr: f64,
    /// The momentum; that of the optimizer if absent.
    pub momentum: Option<f64>,
}

impl From<f64> for Factors {
    fn from(lr: f64) -> Self {
        Factors { lr, momentum: None }
    }
}

impl Schedule {
    /// Returns the factor of the base learning rate for the next step, without that of a [`Plateau`].
    pub fn lr_factor(&self, now: ScheduleStep) -> f64 {
        self.factors(now, 0.0, &[]).lr
    }

    /// Returns learning rate and momentum of the next step of a run with the base learning rate `lr`, after epochs with these
    /// metrics.
    pub fn factors(&self, now: ScheduleStep, lr: f64, history: &[EpochMetrics]) -> Factors {
        if now.step < self.warm_up {
            return ((now.step + 1) as f64 / self.warm_up as f64).into();
        }
        Span { now, warm_up: self.warm_up, lr, history }.factors(&self.decay)
    }

    /// Whether another number of epochs changes the learning rate of a step.
    pub fn depends_on_epochs(&self) -> bool {
        self.decay.depends_on_epochs()
    }

    /// Whether the schedule sets the momentum.
    pub fn sets_momentum(&self) -> bool {
        self.decay.any(&|decay| matches!(decay, Decay::OneCycle(OneCycle { momentum: Some(_), .. })))
    }
}

impl Decay {
    fn depends_on_epochs(&self) -> bool {
        self.any(&|decay| match decay {
            Decay::Cosine { .. } | Decay::OneCycle(_) => true,
            Decay::Linear { epochs, .. } | Decay::Polynomial { epochs, .. } => epochs.is_none(),
            _ => false,
        })
    }

    /// Whether `is` holds for this decay or a part of it.
    fn any(&self, is: &dyn Fn(&Decay) -> bool) -> bool {
        is(self)
            || match self {
                Decay::Product(parts) => parts.iter().any(|part| part.any(is)),
                Decay::Sequence(phases) => phases.iter().any(|phase| phase.decay.any(is)),
                _ => false,
            }
    }
}

/// A step within the part of a run that a decay spans.
#[derive(Clone, Copy)]
struct Span<'a> {
    now: ScheduleStep,
    warm_up: u64,
    lr: f64,
    history: &'a [EpochMetrics],
}

impl Span<'_> {
    fn factors(&self, decay: &Decay) -> Factors {
        let now = self.now;
        let epoch = now.step / now.steps_per_epoch.max(1);
        let power = |factor: f64, count: u64| factor.powi(i32::try_from(count).unwrap_or(i32::MAX));
        match decay {
            Decay::Constant => 1.0.into(),
            Decay::Step { epochs, factor } => power(*factor, epoch / (*epochs).max(1)).into(),
            Decay::MultiStep { epochs, factor } => {
                power(*factor, epochs.iter().filter(|&&at| at <= epoch).count() as u64).into()
            }
            Decay::Exponential { factor } => power(*factor, epoch).into(),
            Decay::Cosine { floor } => cosine(*floor, self.done(None)).into(),
            Decay::Linear { start, end, epochs } => (start + (end - start) * self.done(*epochs)).into(),
            Decay::Polynomial { power, epochs } => (1.0 - self.done(*epochs)).powf(*power).into(),
            Decay::CosineRestarts { epochs, multiplier, floor } => {
                let mut length = (epochs * now.steps_per_epoch).max(1);
                let mut step = now.step - self.warm_up;
                if *multiplier <= 1 {
                    step %= length;
                }
                while step >= length {
                    step -= length;
                    length = length.saturating_mul(*multiplier);
                }
                cosine(*floor, step as f64 / length as f64).into()
            }
            Decay::OneCycle(cycle) => cycle.factors((now.step - self.warm_up) as f64, self.steps() as f64),
            Decay::Plateau(plateau) => {
                let seen = self.history.len().min(usize::try_from(epoch).unwrap_or(usize::MAX));
                plateau.factor_after(&self.history[..seen], self.lr).into()
            }
            Decay::Product(parts) => parts.iter().fold(1.0.into(), |product: Factors, part| {
                let factors = self.factors(part);
                Factors { lr: product.lr * factors.lr, momentum: factors.momentum.or(product.momentum) }
            }),
            Decay::Sequence(phases) => self.in_sequence(phases),
        }
    }

    /// Number of steps after the warm-up.
    fn steps(&self) -> u64 {
        (self.now.steps_per_epoch * self.now.epochs).saturating_sub(self.warm_up).max(1)
    }

    /// The part that is finished of so many epochs, or of the whole run, from 0 to 1.
    fn done(&self, epochs: Option<u64>) -> f64 {
        let steps = epochs.map_or(self.steps(), |epochs| (epochs * self.now.steps_per_epoch).max(1));
        ((self.now.step - self.warm_up) as f64 / steps as f64).min(1.0)
    }

    fn in_sequence(&self, phases: &[Phase]) -> Factors {
        let steps = self.now.steps_per_epoch;
        let mut start = 0;
        for (i, phase) in phases.iter().enumerate() {
            let epochs = phase.epochs.unwrap_or(self.now.epochs.saturating_sub(start));
            if i + 1 < phases.len() && self.now.step >= (start + epochs) * steps {
                start += epochs;
                continue;
            }
            let seen = usize::try_from(start).map_or(self.history.len(), |seen| seen.min(self.history.len()));
            let now = ScheduleStep { step: self.now.step - start * steps, epochs, ..self.now };
            // The warm-up belongs to the phase that it ends in.
            let warm_up = self.warm_up.saturating_sub(start * steps);
            return Span { now, warm_up, history: &self.history[seen..], ..*self }.factors(&phase.decay);
        }
        1.0.into()
    }
}

/// Cosine annealing from 1 to `floor`, of which the part `done` is finished.
fn cosine(floor: f64, done: f64) -> f64 {
    floor + (1.0 - floor) * 0.5 * (1.0 + (PI * done).cos())
}

impl OneCycle {
    /// Returns the factors of step `step` of `steps`.
    fn factors(&self, step: f64, steps: f64) -> Factors {
        let (first, last) = (1.0 / self.div_factor, 1.0 / (self.div_factor * self.final_div_factor));
        let [low, high] = self.momentum.unwrap_or_default();
        let rise = self.rise * steps - 1.0;
        // The end of each phase, and there the learning rate and the momentum.
        let two = [(rise, 1.0, low), (steps - 1.0, last, high)];
        let three =
            [(rise, 1.0, low), (2.0 * self.rise * steps - 2.0, first, high), (steps - 1.0, last, high)];
        let phases: &[_] = if self.three_phase { &three } else { &two };
        let (mut start, mut lr, mut momentum) = (0.0, first, high);
        let step = step.min(steps - 1.0);
        for (i, &(end, next_lr, next_momentum)) in phases.iter().enumerate() {
            if step <= end || i + 1 == phases.len() {
                let done = if end == start { 1.0 } else { (step - start) / (end - start) };
                let between = |from: f64, to: f64| {
                    if self.linear {
                        (to - from) * done + from
                    } else {
                        to + (from - to) / 2.0 * (1.0 + (PI * done).cos())
                    }
                };
                let momentum = self.momentum.map(|_| between(momentum, next_momentum));
                return Factors { lr: between(lr, next_lr), momentum };
            }
            (start, lr, momentum) = (end, next_lr, next_momentum);
        }
        last.into()
    }
}

impl Plateau {
    /// Returns the factor after epochs with these metrics, with the base learning rate `base`.
    fn factor_after(&self, history: &[EpochMetrics], base: f64) -> f64 {
        let mut lr = base;
        let mut best = if self.accuracy { f64::NEG_INFINITY } else { f64::INFINITY };
        let (mut bad, mut cooldown) = (0, 0);
        for metrics in history {
            let metric = if self.accuracy { metrics.accuracy } else { metrics.loss };
            let is_better = match (self.accuracy, self.absolute) {
                (false, false) => metric < best * (1.0 - self.threshold),
                (false, true) => metric < best - self.threshold,
                (true, false) => metric > best * (self.threshold + 1.0),
                (true, true) => metric > best + self.threshold,
            };
            if is_better {
                (best, bad) = (metric, 0);
            } else {
                bad += 1;
            }
            if cooldown > 0 {
                (cooldown, bad) = (cooldown - 1, 0);
            }
            if bad > self.patience {
                let reduced = (lr * self.factor).max(self.floor * base);
                if lr - reduced > self.eps {
                    lr = reduced;
                }
                (cooldown, bad) = (self.cooldown, 0);
            }
        }
        if base > 0.0 { lr / base } else { 1.0 }
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

    /// As a run that is resumed with more epochs than its schedule has.
    #[test]
    fn a_cycle_keeps_its_last_value_after_its_end() {
        let cycle = Schedule { warm_up: 0, decay: Decay::OneCycle(OneCycle::default()) };
        let at = |step| cycle.lr_factor(ScheduleStep { step, steps_per_epoch: 2, epochs: 4 });
        assert!(at(6) > at(7));
        assert_eq!((at(8), at(100)), (at(7), at(7)));
    }

    #[test]
    fn a_plateau_does_not_change_a_learning_rate_of_0() {
        let metrics = [EpochMetrics { loss: 1.0, accuracy: 0.5 }; 30];
        assert_eq!(Plateau::default().factor_after(&metrics, 0.0), 1.0);
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
            assert!(decay.check().is_err(), "{decay:?}");
        }
    }
}
