//! The proof of gradients: central differences in double precision.

use std::fmt;

use neocog_base::random::Random;
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor};

use crate::tape::{Tape, Var};

/// How closely to look.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// How far a value is moved to each side. What is off is looked at again with a tenth and a hundredth of it: where a relu
    /// or a maximum changes its mind within the step, differences are not the gradient.
    pub step: f64,
    /// The largest deviation allowed, relative to the tensor's largest gradient (or `floor`, if that is larger).
    pub tolerance: f64,
    /// Gradients smaller than this are compared as if they had this size: rounding leaves a remainder of a true 0.
    pub floor: f64,
    /// At most so many elements of each tensor, evenly spread; all if `None`.
    pub samples: Option<usize>,
}

impl Default for Check {
    fn default() -> Self {
        Check { step: 1e-5, tolerance: 1e-6, floor: 1e-3, samples: None }
    }
}

/// What a check has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many elements were compared.
    pub compared: usize,
    /// The largest deviation, relative as in [`Check::tolerance`].
    pub worst: f64,
    /// Every element that is off.
    pub failures: Vec<Deviation>,
}

/// An element whose gradient is off.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// The tensor's name.
    pub tensor: String,
    /// The element's indices.
    pub index: Vec<usize>,
    /// The gradient that was to be proved.
    pub gradient: f64,
    /// What differences give.
    pub difference: f64,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:?}: the gradient is {:e}, differences give {:e}",
            self.tensor, self.index, self.gradient, self.difference
        )
    }
}

impl Report {
    /// An error that lists what is off, if anything is.
    ///
    /// # Errors
    /// When an element is off, or nothing was compared.
    pub fn into_result(self) -> Result<Report> {
        if self.compared == 0 {
            return Err(Error::invalid_argument("the gradient check compared nothing"));
        }
        if self.failures.is_empty() {
            return Ok(self);
        }
        let shown: Vec<String> = self.failures.iter().take(10).map(Deviation::to_string).collect();
        let (off, all) = (self.failures.len(), self.compared);
        Err(Error::new(
            ErrorKind::Diverged,
            format!("{off} of {all} gradients are off:\n  {}", shown.join("\n  ")),
        ))
    }
}

/// A tensor whose gradient is to be proved.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name, for the report.
    pub name: String,
    /// Its value, in double precision ([`Device::Reference`]).
    pub value: Tensor,
    /// Its gradient; `None` stands for zeros.
    pub gradient: Option<Tensor>,
}

/// Compares gradients with central differences of `function`, which is given the position of one subject and a
/// changed value for it.
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
        let chosen: Vec<usize> = (0..samples).map(|s| s * base.len() / samples).collect();
        let mut difference = |i: usize, step: f64| -> Result<f64> {
            let mut at = |shift: f64| -> Result<f64> {
                let mut moved = base.clone();
                moved[i] += shift;
                function(k, &Tensor::from_f64(*subject.value.shape(), &moved, &Device::Reference)?)
            };
            Ok((at(step)? - at(-step)?) / (2.0 * step))
        };
        let differences: Vec<f64> =
            chosen.iter().map(|&i| difference(i, check.step)).collect::<Result<_>>()?;
        let largest = differences.iter().fold(check.floor, |a, d| a.max(d.abs()));
        for (&i, &first) in chosen.iter().zip(&differences) {
            let off = |difference: f64| (gradient[i] - difference).abs() / largest;
            let mut seen = first;
            for step in [check.step / 10.0, check.step / 100.0] {
                if off(seen) > check.tolerance {
                    seen = difference(i, step)?;
                }
            }
            let deviation = off(seen);
            report.compared += 1;
            report.worst =
                if deviation > report.worst || deviation.is_nan() { deviation } else { report.worst };
            if deviation > check.tolerance || deviation.is_nan() {
                report.failures.push(Deviation {
                    tensor: subject.name.clone(),
                    index: subject.value.shape().unravel(i),
                    gradient: gradient[i],
                    difference: seen,
                });
            }
        }
    }
    Ok(report)
}

/// Proves the gradients of a function of named tensors. An output of more than one element is multiplied with fixed
/// random numbers and summed.
///
/// # Errors
/// When the function fails; what is off is in the [`Report`].
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
    compare(&subjects, check, |k, moved| {
        let tape = Tape::no_grad();
        let vars: Vec<Var> = inputs
            .iter()
            .enumerate()
            .map(|(i, (_, t))| Var::constant(if i == k { moved.clone() } else { t.clone() }))
            .collect();
        along(&function(&tape, &vars)?, &direction)
    })
}

/// Fixed random numbers in the shape of an output, to make one number of it.
///
/// # Errors
/// When they cannot be put on the output's device.
pub fn direction(output: &Var) -> Result<Tensor> {
    let mut random = Random::stream(0, "gradient check");
    let values: Vec<f32> = (0..output.shape().elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    Tensor::from_f32(*output.shape(), &values, &output.tensor().device())
}

/// The sum of an output's elements times those of `direction`.
///
/// # Errors
/// When they cannot be read.
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
    fn a_right_gradient_passes() {
        let report = check_function(&[("x", input())], &Check::default(), |tape, v| {
            let y = tape.apply_single(Tanh, &[&v[0]])?;
            tape.apply_single(Mul, &[&y, &v[0]])
        })
        .unwrap();
        assert_eq!(report.compared, 6);
        report.into_result().unwrap();
    }

    #[test]
    fn a_wrong_gradient_is_reported_with_its_place() {
        let report = check_function(&[("x", input())], &Check::default(), |tape, v| {
            tape.apply_single(Mul, &[&v[0], &v[0].detach()])
        })
        .unwrap();
        assert_eq!(report.failures.len(), 6);
        let text = report.into_result().unwrap_err().to_string();
        assert!(text.contains("x[0, 1]: the gradient is"), "{text}");
    }
}
