//! The valid ranges of schedules.

use neocog_tensor::{Context as _, Error, Result};

use super::{Decay, OneCycle, Plateau, Schedule};

impl Schedule {
    /// Checks that all values are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument` for a factor or floor outside of `[0, 1]`, a decay every 0 epochs, and the like.
    pub fn check(&self) -> Result<()> {
        self.decay.check()
    }
}

impl Decay {
    /// Checks that all values are in their valid ranges.
    ///
    /// # Errors
    /// As [`Schedule::check`].
    pub fn check(&self) -> Result<()> {
        match self {
            Decay::Constant => Ok(()),
            Decay::Step { epochs: 0, .. } => {
                invalid("the learning rate cannot decay every 0 epochs; expected at least 1")
            }
            Decay::Step { factor, .. } | Decay::Exponential { factor } => unit_interval("factor", *factor),
            Decay::Cosine { floor } => unit_interval("floor", *floor),
            Decay::Linear { start, end, epochs } => {
                non_negative("start", *start)?;
                non_negative("end", *end)?;
                at_least_one("epochs", epochs.unwrap_or(1))
            }
            Decay::MultiStep { epochs, factor } => {
                if epochs.is_empty() || epochs[0] == 0 || !epochs.is_sorted_by(|a, b| a < b) {
                    return invalid(format!(
                        "the epochs of the schedule must be ascending numbers of at least 1, not {epochs:?}"
                    ));
                }
                unit_interval("factor", *factor)
            }
            Decay::Polynomial { power, epochs } => {
                non_negative("power", *power)?;
                at_least_one("epochs", epochs.unwrap_or(1))
            }
            Decay::CosineRestarts { epochs, multiplier, floor } => {
                at_least_one("epochs", *epochs)?;
                at_least_one("multiplier", *multiplier)?;
                unit_interval("floor", *floor)
            }
            Decay::OneCycle(cycle) => cycle.check(),
            Decay::Plateau(plateau) => plateau.check(),
            Decay::Product(parts) => {
                if parts.is_empty() {
                    return invalid("a product of schedules needs at least one");
                }
                parts.iter().enumerate().try_for_each(|(i, part)| {
                    part.check().context(|| format!("part {} of the schedule", i + 1))
                })
            }
            Decay::Sequence(phases) => {
                for (i, phase) in phases.iter().enumerate() {
                    let location = || format!("part {} of the schedule", i + 1);
                    match phase.epochs {
                        Some(0) => return invalid("it needs at least 1 epoch").context(location),
                        None if i + 1 < phases.len() => {
                            return invalid("only the last part may leave out its number of epochs")
                                .context(location);
                        }
                        _ => phase.decay.check().context(location)?,
                    }
                }
                if phases.is_empty() { invalid("a sequence of schedules needs at least one") } else { Ok(()) }
            }
        }
    }
}

impl OneCycle {
    fn check(&self) -> Result<()> {
        unit_interval("rise", self.rise)?;
        if self.three_phase && self.rise > 0.5 {
            return invalid(format!(
                "the rise of a schedule of three phases must be at most 0.5, not {}",
                self.rise
            ));
        }
        for (name, value) in [("div_factor", self.div_factor), ("final_div_factor", self.final_div_factor)] {
            if !value.is_finite() || value <= 0.0 {
                return invalid(format!("the {name} of the schedule must be above 0, not {value}"));
            }
        }
        match self.momentum {
            Some(momentum) if momentum.iter().any(|m| *m <= 0.0 || *m >= 1.0 || m.is_nan()) => {
                invalid(format!("the momentum of the schedule must be above 0 and below 1, not {momentum:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl Plateau {
    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.factor) {
            return invalid(format!(
                "the factor of the schedule must be at least 0 and below 1, not {}",
                self.factor
            ));
        }
        non_negative("threshold", self.threshold)?;
        non_negative("eps", self.eps)?;
        unit_interval("floor", self.floor)
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid_argument(message))
}

fn unit_interval(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    invalid(format!("the {name} of the schedule must be from 0 to 1, not {value}"))
}

fn non_negative(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    invalid(format!("the {name} of the schedule must be a finite, non-negative number, not {value}"))
}

fn at_least_one(name: &str, value: u64) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    invalid(format!("the {name} of the schedule must be at least 1, not 0"))
}
