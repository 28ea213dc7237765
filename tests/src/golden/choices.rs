//! Choices near ties: the input of a ReLU is within rounding of 0, or two elements of a pooling window of each other.
//!
//! Such a choice can differ between single and double precision, which changes gradients by up to a few percent of their norm.
//! This module compares two passes of a network, operation by operation, and finds the choices that differ and their distance
//! from a tie.

use std::collections::HashMap;

use neocog_autograd::Tape;
use neocog_tensor::{Result, Shape, Tensor};

/// Maximum distance from a tie, relative to the root mean square of the tensor: the tolerance of outputs of layers in single
/// precision.
pub const NEAR: f64 = 1e-5;

/// The same after steps of Adam, which normalizes gradients: where rounding determines the sign of a tiny gradient, the parameter
/// changes by a whole step in either direction, and outputs deviate accordingly.
pub const NEAR_AFTER_ADAM: f64 = 1e-3;

/// The choices that differ between two passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choices {
    /// Number of choices that differ.
    pub different: usize,
    /// Largest distance from a tie, relative to the root mean square of the tensor.
    pub widest: f64,
}

impl Choices {
    /// Whether there are choices that differ, and all are within `near` of a tie.
    pub fn are_rounding(&self, near: f64) -> bool {
        self.different > 0 && self.widest <= near
    }

    fn add(&mut self, distance: f64) {
        self.different += 1;
        self.widest = self.widest.max(distance);
    }
}

/// Compares two passes of a network, in double and in single precision, on tapes that save all tensors.
///
/// # Errors
/// When a device fails.
pub fn compare(double: &Tape, single: &Tape) -> Result<Choices> {
    let (double, single) = (Passed::new(double), Passed::new(single));
    let mut choices = Choices::default();
    for (a, b) in double.entries.iter().zip(&single.entries) {
        if let (Some(a), Some(b)) = (&a.output, &b.output) {
            zeros(&a.to_f64()?, &b.to_f64()?, &mut choices);
        }
        if let (Some(i), Some(j)) = (&a.indices, &b.indices) {
            let inputs =
                a.input.and_then(|slot| Some((double.values.get(&slot)?, single.values.get(&slot)?)));
            let inputs = match inputs {
                Some((x, y)) => Some((x.to_f64()?, y.to_f64()?)),
                None => None,
            };
            maxima(&i.to_f64()?, &j.to_f64()?, &a.shapes, inputs, &mut choices);
        }
    }
    Ok(choices)
}

/// Finds outputs that are exactly 0 in one pass only, by a ReLU.
fn zeros(a: &[f64], b: &[f64], choices: &mut Choices) {
    let size = root_mean_square(a);
    for (a, b) in a.iter().zip(b).filter(|(a, b)| (**a == 0.0) != (**b == 0.0)) {
        choices.add((a - b).abs() / size);
    }
}

/// Finds windows whose maxima have different indices; takes the shapes of the indices and of the inputs.
fn maxima(
    i: &[f64],
    j: &[f64],
    (index_shape, input_shape): &(Shape, Shape),
    values: Option<(Vec<f64>, Vec<f64>)>,
    choices: &mut Choices,
) {
    let out = index_shape[2] * index_shape[3];
    let plane = input_shape[2] * input_shape[3];
    let size = values.as_ref().map_or(0.0, |(a, _)| root_mean_square(a));
    for (k, (i, j)) in i.iter().zip(j).enumerate().filter(|(_, (i, j))| i != j) {
        let start = k / out * plane;
        let gap = |v: &[f64]| (v[start + *i as usize] - v[start + *j as usize]).abs();
        choices.add(values.as_ref().map_or(f64::INFINITY, |(a, b)| gap(a).max(gap(b)) / size));
    }
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// The saved tensors of a pass.
struct Passed {
    entries: Vec<Saved>,
    values: HashMap<usize, Tensor>,
}

struct Saved {
    input: Option<usize>,
    /// Shapes of the first output and of the first input.
    shapes: (Shape, Shape),
    /// The output, if the gradient depends on it, as for activations.
    output: Option<Tensor>,
    /// Indices of the maxima of a pooling.
    indices: Option<Tensor>,
}

impl Passed {
    fn new(tape: &Tape) -> Self {
        let mut passed = Passed { entries: Vec::new(), values: HashMap::new() };
        tape.for_each_entry(|entry| {
            let saved = entry.inputs.iter().zip(entry.saved_inputs);
            passed.values.extend(saved.filter_map(|(slot, tensor)| Some(((*slot)?, tensor.clone()?))));
            let saved = entry.saved_outputs.iter().enumerate();
            passed.values.extend(saved.filter_map(|(i, t)| Some((entry.first_output + i, t.clone()?))));
            let indices = entry.saved_outputs.get(1).filter(|_| entry.op.name() == "max_pool2d");
            passed.entries.push(Saved {
                input: entry.inputs[0],
                shapes: (entry.output_shapes[0], entry.input_shapes[0]),
                output: entry.saved_outputs[0].clone().filter(|_| entry.op.saves().saves_output(0)),
                indices: indices.cloned().flatten(),
            });
        });
        passed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use neocog_tensor::Device;
    use neocog_tensor::ops::{MaxPool2d, Relu};

    use super::*;

    /// A ReLU and a pooling with 1x2 windows.
    fn pass(values: &[f64], device: &Device) -> Tape {
        let tape = Tape::new().saving_all();
        let x = tape.leaf(Tensor::from_f64([1, 1, 1, 4], values, device).unwrap());
        let y = tape.apply_single(Relu, &[&x]).unwrap();
        let pool = MaxPool2d {
            kernel_size: [1, 2],
            stride: [1, 2],
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            return_indices: true,
        };
        tape.apply(pool, &[&y]).unwrap();
        tape
    }

    #[test]
    fn only_choices_near_ties_are_rounding() {
        let double = pass(&[1.0, 1.0 + 1e-9, -1e-9, 0.5], &Device::Reference);
        let same = compare(&double, &pass(&[1.0, 1.5, -1.0, 0.5], &Device::Cpu)).unwrap();
        assert_eq!(same, Choices::default());
        assert!(!same.are_rounding(NEAR));
        // In single precision, the first two are equal, so the first one is chosen, and the third is positive.
        let near = compare(&double, &pass(&[1.0, 1.0 + 1e-9, 1e-9, 0.5], &Device::Cpu)).unwrap();
        assert!(near.different == 2 && near.are_rounding(NEAR), "{near:?}");
        let far = compare(&double, &pass(&[1.1, 1.0, -1.0, 0.5], &Device::Cpu)).unwrap();
        assert!(far.different == 1 && !far.are_rounding(NEAR_AFTER_ADAM), "{far:?}");
        let far = compare(&double, &pass(&[1.0, 1.5, 0.1, 0.5], &Device::Cpu)).unwrap();
        assert!(far.different == 1 && !far.are_rounding(NEAR_AFTER_ADAM), "{far:?}");
    }
}
