//! Timing of single calls, and peak memory.

use std::time::{Duration, Instant};

/// Times of repeated calls, in seconds.
#[derive(Clone, Debug)]
pub struct Times {
    /// Timed calls, in ascending order.
    measured: Vec<f64>,
    /// Warm-up calls, which do not count for the median.
    warm_up: Vec<f64>,
}

impl Times {
    /// Returns the median in seconds.
    pub fn median(&self) -> f64 {
        median(self.measured.iter().copied())
    }

    /// Returns the minimum in seconds.
    pub fn min(&self) -> f64 {
        self.measured[0]
    }

    /// Returns the number of timed calls.
    pub fn calls(&self) -> usize {
        self.measured.len()
    }

    /// Returns the number of calls including the warm-up.
    pub fn calls_with_warm_up(&self) -> usize {
        self.measured.len() + self.warm_up.len()
    }

    /// Returns the total time of all calls including the warm-up, in seconds.
    pub fn total_with_warm_up(&self) -> f64 {
        self.measured.iter().chain(&self.warm_up).sum()
    }
}

/// Times `step`: after a warm-up of one to five calls within a quarter of `budget`, calls it at least three times and until
/// `budget` has passed.
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

/// Returns the median, or NaN if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        n => sorted[n / 2],
    }
}

/// Returns the peak resident set size of this process in MiB, or `None` if the system does not report it.
pub fn peak_rss_mib() -> Option<f64> {
    status_mib("VmHWM:")
}

/// Returns the resident memory of this process in MiB; `None` if the system does not tell.
pub fn rss_mib() -> Option<f64> {
    status_mib("VmRSS:")
}

fn status_mib(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_totals() {
        let times = |measured| Times { measured, warm_up: vec![7.0] };
        assert_eq!(times(vec![1.0, 2.0, 9.0]).median(), 2.0);
        assert_eq!(times(vec![1.0, 2.0, 4.0, 9.0]).median(), 3.0);
        assert_eq!(times(vec![1.0, 2.0, 9.0]).total_with_warm_up(), 19.0);
    }

    #[test]
    fn calls_are_counted_and_errors_are_returned() {
        let times = measure(Duration::from_millis(5), || Ok::<(), ()>(())).unwrap();
        assert!(times.calls() >= 3 && times.min() <= times.median());
        assert_eq!(measure(Duration::ZERO, || Err::<(), _>("broken")).unwrap_err(), "broken");
    }
}
