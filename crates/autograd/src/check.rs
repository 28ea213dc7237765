//! Gradient checks: comparison with central differences in double precision.

use std::fmt;

use neocog_base::random::Random;
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor};

use crate::tape::{Tape, Var};

/// The parameters of a gradient check.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// Step of the central differences. A failing element is checked again with a tenth and a hundredth of it, because
    /// differences across a kink, as of ReLU or a maximum, are not the gradient.
    pub step: f64,
    /// Maximum deviation, relative to the largest gradient of the tensor, or to `floor` if that is larger.
    pub tolerance: f64,
    /// Lower bound of the magnitude that deviations are relative to: rounding errors of zero gradients are not failures.
    pub floor: f64,
    /// Maximum number of elements to check per tensor, evenly spaced; all if `None`.
    pub samples: Option<usize>,
}

impl Default for Check {
    fn default() -> Self {
        Check { step: 1e-5, tolerance: 1e-6, floor: 1e-3, samples: None }
    }
}

impl Check {
    /// Sets the step of the central differences.
    #[must_use]
    pub fn with_step(mut self, step: f64) -> Self {
        self.step = step;
        self
    }

    /// Sets the maximum relative deviation.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets the lower bound of the magnitude that deviations are relative to.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Sets the maximum number of elements to check per tensor.
    #[must_use]
    pub fn with_samples(mut self, samples: usize) -> Self {
        self.samples = Some(samples);
        self
    }
}

/// The result of a gradient check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Number of elements compared.
    pub compared: usize,
    /// Largest deviation, relative as [`Check::tolerance`].
    pub worst: f64,
    /// All elements that deviate more than the tolerance.
    pub failures: Vec<Deviation>,
}

/// An element whose gradient deviates from the central difference.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// Name of the tensor.
    pub tensor: String,
    /// Indices of the element.
    pub index: Vec<usize>,
    /// The gradient that was checked.
    pub gradient: f64,
    /// The central difference.
    pub difference: f64,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:?}: the gradient is {:e}, the central difference is {:e}",
            self.tensor, self.index, self.gradient, self.difference
        )
    }
}

impl Report {
    /// Returns an error with the first deviations, if there are any.
    ///
    /// # Errors
    /// `Diverged` when an element deviates; `InvalidArgument` when no element was compared.
    pub fn into_result(self) -> Result<Report> {
        if self.compared == 0 {
            return Err(Error::invalid_argument("the gradient check compared no elements"));
        }
        if self.failures.is_empty() {
            return Ok(self);
        }
        let shown: Vec<String> = self.failures.iter().take(10).map(Deviation::to_string).collect();
        let (off, all) = (self.failures.len(), self.compared);
        Err(Error::new(
            ErrorKind::Diverged,
            format!("{off} of {all} gradients deviate:\n  {}", shown.join("\n  ")),
        ))
    }
}

/// A tensor whose gradient is checked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name, for the report.
    pub name: String,
    /// Value, on [`Device::Reference`].
    pub value: Tensor,
    /// Gradient; `None` for zeros.
    pub gradient: Option<Tensor>,
}

/// Compares gradients with central differences of `function`, which takes the index of a subject and a changed value of it.
///
/// # Errors
/// When the function fails or a value cannot be read.
pub fn compare(
    subjects: &[Subject],
    check: &Check,
    mut function: impl FnMut(usize, &Tensor) -> Result<f64>,
) -> Result<Report> {
    let mut report = Report::default();
    for (k, subject) in subjects.iter().enumerate() {
        let base = subject.value.to_f64()?;
        let gradient = match &subject.gradient {
            Some(g) => g.to_f64()?,
            None => vec![0.0; base.len()],
        };
        let samples = check.samples.unwrap_or(base.len()).min(base.len());
        let indices: Vec<usize> = (0..samples).map(|s| s * base.len() / samples).collect();
        let mut difference = |i: usize, step: f64| -> Result<f64> {
            let mut evaluate = |delta: f64| -> Result<f64> {
                let mut changed = base.clone();
                changed[i] += delta;
                function(k, &Tensor::from_f64(*subject.value.shape(), &changed, &Device::Reference)?)
            };
            Ok((evaluate(step)? - evaluate(-step)?) / (2.0 * step))
        };
        let differences: Vec<f64> =
            indices.iter().map(|&i| difference(i, check.step)).collect::<Result<_>>()?;
        let largest = differences.iter().fold(check.floor, |a, d| a.max(d.abs()));
        for (&i, &first) in indices.iter().zip(&differences) {
            let deviation_of = |difference: f64| (gradient[i] - difference).abs() / largest;
            let mut accepted = first;
            for step in [check.step / 10.0, check.step / 100.0] {
                if deviation_of(accepted) > check.tolerance {
                    accepted = difference(i, step)?;
                }
            }
            let deviation = deviation_of(accepted);
            report.compared += 1;
            report.worst =
                if deviation > report.worst || deviation.is_nan() { deviation } else { report.worst };
            if deviation > check.tolerance || deviation.is_nan() {
                report.failures.push(Deviation {
                    tensor: subject.name.clone(),
                    index: subject.value.shape().unravel(i),
                    gradient: gradient[i],
                    difference: accepted,
                });
            }
        }
    }
    Ok(report)
}

/// Checks the gradients of a function of named tensors. An output of more than one element is reduced to its inner product with
/// fixed random numbers.
///
/// # Errors
/// When the function fails. Deviations are not errors, but part of the [`Report`].
pub fn check_function(
    inputs: &[(&str, Tensor)],
    check: &Check,
    function: impl Fn(&Tape, &[Var]) -> Result<Var>,
) -> Result<Report> {
    let inputs: Vec<(&str, Tensor)> =
        inputs.iter().map(|(n, t)| Ok((*n, t.to_device(&Device::Reference)?))).collect::<Result<_>>()?;
    let tape = Tape::new();
    let leaves: Vec<Var> = inputs.iter().map(|(_, t)| tape.leaf(t.clone())).collect();
    let output = function(&tape, &leaves)?;
    let direction = direction(&output)?;
    let grads = tape.backward_from(&[(&output, direction.clone())])?;
    let subjects: Vec<Subject> = inputs
        .iter()
        .zip(&leaves)
        .map(|((name, value), leaf)| Subject {
            name: (*name).to_string(),
            value: value.clone(),
            gradient: grads.get(leaf).cloned(),
        })
        .collect();
    compare(&subjects, check, |k, changed| {
        let tape = Tape::no_grad();
        let vars: Vec<Var> = inputs
            .iter()
            .enumerate()
            .map(|(i, (_, t))| Var::constant(if i == k { changed.clone() } else { t.clone() }))
            .collect();
        along(&function(&tape, &vars)?, &direction)
    })
}

/// Returns fixed random numbers in the shape of `output`, on its device.
///
/// # Errors
/// When the device fails.
pub fn direction(output: &Var) -> Result<Tensor> {
    let mut random = Random::stream(0, "gradient check");
    let values: Vec<f32> = (0..output.shape().elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    Tensor::from_f32(*output.shape(), &values, &output.tensor().device())
}

/// Returns the inner product of `output` and `direction`.
///
/// # Errors
/// When the device fails.
pub fn along(output: &Var, direction: &Tensor) -> Result<f64> {
    Ok(output.tensor().to_f64()?.iter().zip(direction.to_f64()?).map(|(y, d)| y * d).sum())
}

#[cfg(test)]
mod tests {
    use neocog_tensor::ops::{Mul, Tanh};

    use super::*;

    fn input() -> Tensor {
        Tensor::from_f32([2, 3], &[0.1, -0.4, 0.7, 1.2, -0.9, 0.3], &Device::Reference).unwrap()
    }

    #[test]
    fn a_correct_gradient_passes() {
        let report = check_function(&[("x", input())], &Check::default(), |tape, v| {
            let y = tape.apply_single(Tanh, &[&v[0]])?;
            tape.apply_single(Mul, &[&y, &v[0]])
        })
        .unwrap();
        assert_eq!(report.compared, 6);
        report.into_result().unwrap();
    }

    #[test]
    fn a_wrong_gradient_is_reported_with_its_index() {
        let report = check_function(&[("x", input())], &Check::default(), |tape, v| {
            tape.apply_single(Mul, &[&v[0], &v[0].detach()])
        })
        .unwrap();
        assert_eq!(report.failures.len(), 6);
        let text = report.into_result().unwrap_err().to_string();
        assert!(text.contains("x[0, 1]: the gradient is"), "{text}");
    }
}
