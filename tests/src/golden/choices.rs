//! Choices at ties: a relu's input within rounding of 0, two numbers of a pooling's window within rounding of each other.
//!
//! In single precision such a choice may fall the other way than in double precision, and moves gradients by up to some
//! hundredths of their norm. Here two passes of the same network are compared, operation by operation: which choices fell
//! differently, and how far from a tie they were.

use std::collections::HashMap;

use neocog_autograd::Tape;
use neocog_tensor::{Result, Shape, Tensor};

/// A choice is near a tie when the numbers are this close, relative to the tensor's root mean square: the deviation that
/// outputs of layers may have in single precision.
pub const NEAR: f64 = 1e-5;

/// The same after steps of Adam. It divides each gradient by its own size: where rounding decides the sign of a tiny one, the
/// parameter moves by a whole step this way or that, and all outputs deviate by as much.
pub const NEAR_AFTER_ADAM: f64 = 1e-3;

/// The choices that fell differently in two passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choices {
    /// How many.
    pub different: usize,
    /// The distance from a tie of the one that was farthest from it, relative to its tensor's root mean square.
    pub widest: f64,
}

impl Choices {
    /// Whether rounding explains them: there are some, and all are as near to a tie as `near`.
    pub fn are_rounding(&self, near: f64) -> bool {
        self.different > 0 && self.widest <= near
    }

    fn add(&mut self, distance: f64) {
        self.different += 1;
        self.widest = self.widest.max(distance);
    }
}

/// Compares two passes of one network, in double and in single precision, on tapes that keep all.
///
/// # Errors
/// When a device fails.
pub fn compare(double: &Tape, single: &Tape) -> Result<Choices> {
    let (double, single) = (Passed::new(double), Passed::new(single));
    let mut choices = Choices::default();
    for (a, b) in double.steps.iter().zip(&single.steps) {
        if let (Some(a), Some(b)) = (&a.output, &b.output) {
            zeros(&a.to_f64()?, &b.to_f64()?, &mut choices);
        }
        if let (Some(i), Some(j)) = (&a.indices, &b.indices) {
            let picture =
                a.input.and_then(|slot| Some((double.values.get(&slot)?, single.values.get(&slot)?)));
            let pictures = match picture {
                Some((x, y)) => Some((x.to_f64()?, y.to_f64()?)),
                None => None,
            };
            maxima(&i.to_f64()?, &j.to_f64()?, &a.planes, pictures, &mut choices);
        }
    }
    Ok(choices)
}

/// Outputs that are exactly 0 in one pass only: a relu that closed.
fn zeros(a: &[f64], b: &[f64], choices: &mut Choices) {
    let size = root_mean_square(a);
    for (a, b) in a.iter().zip(b).filter(|(a, b)| (**a == 0.0) != (**b == 0.0)) {
        choices.add((a - b).abs() / size);
    }
}

/// Windows whose maximum lies elsewhere. `planes` are the extents of the indices and of the pictures.
fn maxima(
    i: &[f64],
    j: &[f64],
    (indices, pictures): &(Shape, Shape),
    values: Option<(Vec<f64>, Vec<f64>)>,
    choices: &mut Choices,
) {
    let out = indices[2] * indices[3];
    let plane = pictures[2] * pictures[3];
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

/// What a pass kept.
struct Passed {
    steps: Vec<Taken>,
    values: HashMap<usize, Tensor>,
}

struct Taken {
    input: Option<usize>,
    planes: (Shape, Shape),
    /// The output, if the gradient depends on it: that of an activation.
    output: Option<Tensor>,
    /// Where a pooling found its maxima.
    indices: Option<Tensor>,
}

impl Passed {
    fn new(tape: &Tape) -> Self {
        let mut passed = Passed { steps: Vec::new(), values: HashMap::new() };
        tape.for_each_entry(|step| {
            let kept = step.inputs.iter().zip(step.saved_inputs);
            passed.values.extend(kept.filter_map(|(slot, tensor)| Some(((*slot)?, tensor.clone()?))));
            let kept = step.saved_outputs.iter().enumerate();
            passed.values.extend(kept.filter_map(|(i, t)| Some((step.first_output + i, t.clone()?))));
            let indices = step.saved_outputs.get(1).filter(|_| step.op.name() == "max_pool2d");
            passed.steps.push(Taken {
                input: step.inputs[0],
                planes: (step.output_shapes[0], step.input_shapes[0]),
                output: step.saved_outputs[0].clone().filter(|_| step.op.saves().saves_output(0)),
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

    /// A relu and a pooling of windows 1x2.
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
    fn choices_near_ties_are_rounding_and_others_are_not() {
        let double = pass(&[1.0, 1.0 + 1e-9, -1e-9, 0.5], &Device::Reference);
        let same = compare(&double, &pass(&[1.0, 1.5, -1.0, 0.5], &Device::Cpu)).unwrap();
        assert_eq!(same, Choices::default());
        assert!(!same.are_rounding(NEAR));
        // In single precision the first two are equal: the first one wins; and the third is above 0.
        let near = compare(&double, &pass(&[1.0, 1.0 + 1e-9, 1e-9, 0.5], &Device::Cpu)).unwrap();
        assert!(near.different == 2 && near.are_rounding(NEAR), "{near:?}");
        let far = compare(&double, &pass(&[1.1, 1.0, -1.0, 0.5], &Device::Cpu)).unwrap();
        assert!(far.different == 1 && !far.are_rounding(NEAR_AFTER_ADAM), "{far:?}");
        let far = compare(&double, &pass(&[1.0, 1.5, 0.1, 0.5], &Device::Cpu)).unwrap();
        assert!(far.different == 1 && !far.are_rounding(NEAR_AFTER_ADAM), "{far:?}");
    }
}
