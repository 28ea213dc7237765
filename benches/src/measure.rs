//! Timing of single calls.

use std::time::{Duration, Instant};

/// The times of repeated calls, sorted.
#[derive(Clone, Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// The median, in seconds.
    pub fn median(&self) -> f64 {
        let n = self.0.len();
        if n.is_multiple_of(2) { (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0 } else { self.0[n / 2] }
    }

    /// The shortest, in seconds.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// How many.
    pub fn calls(&self) -> usize {
        self.0.len()
    }
}

/// Calls `step` for a quarter of `budget` unmeasured (at least once, at most five times), then measured until `budget`
/// is spent, at least three times.
///
/// # Errors
/// The first error of `step`.
pub fn measure<E>(budget: Duration, mut step: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    let start = Instant::now();
    for call in 0..5 {
        if call > 0 && start.elapsed() > budget / 4 {
            break;
        }
        step()?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed() < budget {
        let call = Instant::now();
        step()?;
        times.push(call.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(Times(times))
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
        assert_eq!(Times(vec![1.0, 2.0, 9.0]).median(), 2.0);
        assert_eq!(Times(vec![1.0, 2.0, 4.0, 9.0]).median(), 3.0);
    }

    #[test]
    fn calls_are_counted_and_errors_end_the_measurement() {
        let times = measure(Duration::from_millis(5), || Ok::<(), ()>(())).unwrap();
        assert!(times.calls() >= 3 && times.min() <= times.median());
        assert_eq!(measure(Duration::ZERO, || Err::<(), _>("broken")).unwrap_err(), "broken");
    }
}
