//! Timing of single calls.

use std::time::{Duration, Instant};

/// The times of repeated calls.
#[derive(Clone, Debug)]
pub struct Times {
    /// Sorted.
    measured: Vec<f64>,
    /// Of the calls before, which are not measured.
    warm_up: Vec<f64>,
}

impl Times {
    /// The median, in seconds.
    pub fn median(&self) -> f64 {
        median(self.measured.iter().copied())
    }

    /// The shortest, in seconds.
    pub fn min(&self) -> f64 {
        self.measured[0]
    }

    /// How many.
    pub fn calls(&self) -> usize {
        self.measured.len()
    }

    /// How many there were, with those to warm up.
    pub fn calls_with_warm_up(&self) -> usize {
        self.measured.len() + self.warm_up.len()
    }

    /// The time of all calls together, with those to warm up, in seconds.
    pub fn total_with_warm_up(&self) -> f64 {
        self.measured.iter().chain(&self.warm_up).sum()
    }
}

/// Calls `step` for a quarter of `budget` unmeasured (at least once, at most five times), then measured until `budget`
/// is spent, at least three times.
///
/// # Errors
/// The first error of `step`.
pub fn measure<E>(budget: Duration, mut step: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    let mut timed = || {
        let call = Instant::now();
        step().map(|()| call.elapsed().as_secs_f64())
    };
    let mut warm_up = Vec::new();
    let start = Instant::now();
    for call in 0..5 {
        if call > 0 && start.elapsed() > budget / 4 {
            break;
        }
        warm_up.push(timed()?);
    }
    let mut measured = Vec::new();
    let start = Instant::now();
    while measured.len() < 3 || start.elapsed() < budget {
        measured.push(timed()?);
    }
    measured.sort_by(f64::total_cmp);
    Ok(Times { measured, warm_up })
}

/// The median; NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        n => sorted[n / 2],
    }
}

/// The most memory that this process has held, in MiB; `None` where the system does not tell.
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let times = |measured| Times { measured, warm_up: vec![7.0] };
        assert_eq!(times(vec![1.0, 2.0, 9.0]).median(), 2.0);
        assert_eq!(times(vec![1.0, 2.0, 4.0, 9.0]).median(), 3.0);
        assert_eq!(times(vec![1.0, 2.0, 9.0]).total_with_warm_up(), 19.0);
    }

    #[test]
    fn calls_are_counted_and_errors_end_the_measurement() {
        let times = measure(Duration::from_millis(5), || Ok::<(), ()>(())).unwrap();
        assert!(times.calls() >= 3 && times.min() <= times.median());
        assert_eq!(measure(Duration::ZERO, || Err::<(), _>("broken")).unwrap_err(), "broken");
    }
}
