//! How often a checkpoint is written within an epoch.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use neocog_tensor::{Error, Result};

/// How often a checkpoint is written within an epoch. It affects neither the result nor the checkpoints after epochs.
///
/// ```
/// use neocog_train::SaveEvery;
/// use std::time::Duration;
///
/// assert_eq!("10m".parse::<SaveEvery>().unwrap(), SaveEvery::Time(Duration::from_secs(600)));
/// assert_eq!("500steps".parse::<SaveEvery>().unwrap(), SaveEvery::Steps(500));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveEvery {
    /// Only after epochs.
    #[default]
    Never,
    /// After the step at which this time has passed since the last checkpoint.
    Time(Duration),
    /// After each step whose number, counted from the start of the run, is a multiple of this one.
    Steps(u64),
}

impl FromStr for SaveEvery {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid_argument(format!(
                "`{text}` is neither a time, such as 10m, 90s or 1h, nor a number of steps, such as 500steps, nor `never`"
            ))
        };
        let text = text.trim();
        if text == "never" {
            return Ok(SaveEvery::Never);
        }
        if let Some(steps) = text.strip_suffix("steps").or_else(|| text.strip_suffix("step")) {
            return match steps.trim().parse() {
                Ok(steps @ 1..) => Ok(SaveEvery::Steps(steps)),
                _ => Err(invalid()),
            };
        }
        match humantime::parse_duration(text) {
            Ok(time) if time >= Duration::from_secs(1) => Ok(SaveEvery::Time(time)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for SaveEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveEvery::Never => f.write_str("never"),
            SaveEvery::Time(time) => {
                f.write_str(&humantime::format_duration(*time).to_string().replace(' ', ""))
            }
            SaveEvery::Steps(steps) => write!(f, "{steps}steps"),
        }
    }
}

/// Decides when the next checkpoint is due.
pub(crate) struct SaveTimer {
    every: SaveEvery,
    last: Instant,
}

impl SaveTimer {
    pub(crate) fn new(every: SaveEvery) -> Self {
        SaveTimer { every, last: Instant::now() }
    }

    /// Whether a checkpoint is due after `steps` steps of the run.
    pub(crate) fn is_due(&self, steps: u64) -> bool {
        match self.every {
            SaveEvery::Never => false,
            SaveEvery::Time(time) => self.last.elapsed() >= time,
            SaveEvery::Steps(number) => steps.is_multiple_of(number),
        }
    }

    /// Notes that a checkpoint was written.
    pub(crate) fn saved(&mut self) {
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed_and_written() {
        for text in ["never", "500steps", "10m", "1h30m", "45s"] {
            assert_eq!(text.parse::<SaveEvery>().unwrap().to_string(), text);
        }
        for text in ["", "0steps", "0s", "10", "steps", "-1steps", "soon", "1ms"] {
            assert!(text.parse::<SaveEvery>().unwrap_err().to_string().contains("such as 10m"), "{text}");
        }
    }

    #[test]
    fn steps_are_counted_from_the_start_of_the_run() {
        let timer = SaveTimer::new(SaveEvery::Steps(3));
        assert_eq!((1..8).filter(|&step| timer.is_due(step)).collect::<Vec<_>>(), [3, 6]);
        assert!(!SaveTimer::new(SaveEvery::Never).is_due(3));
        assert!(!SaveTimer::new(SaveEvery::Time(Duration::from_secs(1000))).is_due(3));
        assert!(SaveTimer::new(SaveEvery::Time(Duration::ZERO)).is_due(3));
    }
}
