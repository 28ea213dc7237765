//! Comparison with tolerances.

use std::fmt;

/// Tolerance in double precision, relative to the largest value of a tensor (operations) or to its norm (networks).
pub const DOUBLE: f64 = 1e-9;

/// Tolerance of operations in single precision, relative to the error of PyTorch's own single-precision kernels; at least
/// [`SINGLE_FLOOR`]. (Of 2300 other cases with random attributes, the largest error was 4.4 times that of PyTorch: rounding errors
/// of two kernels are independent.)
pub const SINGLE_FACTOR: f64 = 6.0;

/// Minimum tolerance of operations in single precision, relative to the largest value.
pub const SINGLE_FLOOR: f64 = 1e-6;

/// The comparisons of one file on one device.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Number of cases: an operation with all its results, or a row of a network's values.
    pub cases: usize,
    /// Number of cases that passed.
    pub passed: usize,
    /// Largest error relative to its tolerance; above 1 is a failure.
    pub worst: f64,
    /// Case with the largest error.
    pub worst_at: String,
    /// Failed cases.
    pub failures: Vec<Failure>,
    /// Remarks on passed cases.
    pub notes: Vec<String>,
}

/// A failed case.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the case.
    pub case: String,
    /// Description of the failure.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

impl Tally {
    /// Adds a case.
    pub fn add(&mut self, case: Checked) {
        self.cases += 1;
        if case.worst > self.worst || case.worst.is_nan() && !self.worst.is_nan() {
            self.worst = case.worst;
            self.worst_at = case.name.clone();
        }
        if case.problems.is_empty() && case.compared > 0 {
            self.passed += 1;
        } else {
            let message =
                if case.compared == 0 && case.problems.is_empty() { "nothing was compared" } else { "" };
            let message = format!("{message}{}", case.problems.join("; "));
            self.failures.push(Failure { case: case.name, message });
        }
    }

    /// Adds all cases of another tally.
    pub fn add_all(&mut self, other: Tally) {
        self.cases += other.cases;
        self.passed += other.passed;
        if other.worst > self.worst || other.worst.is_nan() {
            (self.worst, self.worst_at) = (other.worst, other.worst_at);
        }
        self.failures.extend(other.failures);
        self.notes.extend(other.notes);
    }

    /// Adds a case that could not be run.
    pub fn add_error(&mut self, case: impl Into<String>, error: impl fmt::Display) {
        let mut checked = Checked::new(case);
        checked.fail(error.to_string());
        self.add(checked);
    }
}

/// The comparisons of one case.
#[derive(Clone, Debug)]
pub struct Checked {
    name: String,
    compared: usize,
    worst: f64,
    problems: Vec<String>,
}

impl Checked {
    /// Creates a case without comparisons, which counts as failed.
    pub fn new(name: impl Into<String>) -> Self {
        Checked { name: name.into(), compared: 0, worst: 0.0, problems: Vec::new() }
    }

    /// Adds a failure.
    pub fn fail(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Adds a failure unless `condition` holds.
    pub fn require(&mut self, condition: bool, problem: impl FnOnce() -> String) {
        self.compared += 1;
        if !condition {
            self.fail(problem());
        }
    }

    /// Compares values, each with its own tolerance.
    pub fn compare(&mut self, what: &str, got: &[f64], expected: &[f64], allowed: impl Fn(usize) -> f64) {
        if got.len() != expected.len() {
            self.fail(format!("{what} has {} values, expected {}", got.len(), expected.len()));
            return;
        }
        let mut first: Option<String> = None;
        let mut off = 0;
        for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
            self.compared += 1;
            let allowed = allowed(i);
            let difference = (g - e).abs();
            let share = if g == e { 0.0 } else { difference / allowed };
            if share > self.worst || share.is_nan() {
                self.worst = share;
            }
            if share > 1.0 || share.is_nan() {
                off += 1;
                first.get_or_insert_with(|| {
                    format!(
                        "{what}[{i}] is {g:e}, expected {e:e}: error {difference:.2e}, tolerance {allowed:.2e}"
                    )
                });
            }
        }
        if let Some(first) = first {
            let more = if off > 1 { format!(" ({off} of {} deviate)", got.len()) } else { String::new() };
            self.fail(format!("{first}{more}"));
        }
    }

    /// Returns the largest error so far, relative to its tolerance.
    pub fn worst(&self) -> f64 {
        self.worst
    }
}

/// Returns the largest magnitude; 0 for an empty slice.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

/// Returns the median; of an even number of values, the upper one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(check: impl FnOnce(&mut Checked)) -> Tally {
        let mut case = Checked::new("case");
        check(&mut case);
        let mut tally = Tally::default();
        tally.add(case);
        tally
    }

    #[test]
    fn errors_are_relative_to_the_tolerance() {
        let t = tally(|c| c.compare("y", &[1.0, 2.05], &[1.0, 2.0], |_| 0.1));
        assert_eq!((t.cases, t.passed), (1, 1));
        assert!((t.worst - 0.5).abs() < 1e-9);
        let t = tally(|c| c.compare("y", &[1.0, 2.5], &[1.0, 2.0], |_| 0.1));
        assert_eq!((t.cases, t.passed, t.failures.len()), (1, 0, 1));
        assert!(t.failures[0].to_string().starts_with("case: y[1] is 2.5e0"), "{}", t.failures[0]);
    }

    #[test]
    fn wrong_values_fail() {
        assert_eq!(tally(|_| ()).passed, 0);
        assert_eq!(tally(|c| c.compare("y", &[f64::NAN], &[1.0], |_| 1e9)).passed, 0);
        assert_eq!(tally(|c| c.compare("y", &[1.0], &[f64::NAN], |_| 1e9)).passed, 0);
        assert_eq!(tally(|c| c.compare("y", &[1.0], &[1.0, 2.0], |_| 1e9)).passed, 0);
        assert_eq!(tally(|c| c.compare("y", &[1.0 + f64::EPSILON], &[1.0], |_| 0.0)).passed, 0);
        assert_eq!(tally(|c| c.compare("y", &[-0.0], &[0.0], |_| 0.0)).passed, 1);
    }
}
