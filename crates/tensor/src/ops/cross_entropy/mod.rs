//! Cross entropy of logits and class targets, its gradient, and the number of correct predictions.
//!
//! For each row, with `m = max x`, `s = Σ e^(x - m)`, the target `t`, and label smoothing `ε` over `c` classes:
//!
//! ```text
//! loss   = (1 - ε) (m + ln s - x[t]) + ε / c Σ (m + ln s - x[i])
//! dx[i]  = (p[i] - (1 - ε) [i = t] - ε / c) dloss          p[i] = e^(x[i] - m) / s
//! ```

mod cases;
mod class;
mod cpu;

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use self::class::{class_of, first_largest};
use super::reduce;
use super::softmax::rows::row_program;
use crate::core::call::{self, Call};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::memory::Scratch;
use crate::opencl::{Arg, Buffer, Grid};
use neocog_base::{Error, Result};

/// Reduction of the losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Mean of the losses; NaN for an empty batch.
    #[default]
    Mean,
    /// Sum of the losses.
    Sum,
    /// No reduction: one loss for each row.
    None,
}

/// Cross entropy of logits and class indices, as PyTorch's `cross_entropy`.
///
/// Inputs: logits `[n, classes]`, and targets `[n]`, class indices from 0. Outputs: the loss, `[]`, or `[n]` for
/// [`Reduction::None`]; and the probabilities `[n, classes]`, the softmax of the logits, which the gradient uses and which are
/// not differentiable themselves.
///
/// The loss and the gradient of an invalid target (negative, fractional, too large) are NaN. There is no `ignore_index`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// Reduction of the losses of the rows.
    pub reduction: Reduction,
    /// Label smoothing in `[0, 1]`: the share of the target that is distributed uniformly over all classes.
    pub label_smoothing: f64,
}

/// The gradient of [`CrossEntropy`] with respect to the logits.
///
/// Inputs: the probabilities `[n, classes]`, the targets `[n]`, and the gradient of the loss, `[]` or `[n]`. Output:
/// `[n, classes]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyGrad {
    /// The forward operation.
    pub of: CrossEntropy,
}

/// Number of rows whose first largest logit is that of the target.
///
/// Inputs: logits `[n, classes]` and targets `[n]`. Output: `[]`. NaN is larger than any number, as in PyTorch's `argmax`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CountCorrect;

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [logits, target] = expect_inputs(self, inputs)?;
        let [n, _] = rows(&logits, &target)?;
        check_smoothing(self.label_smoothing)?;
        Ok(smallvec![loss_shape(self.reduction, n), logits])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, targets) = (inputs[0], inputs[1].data);
        let (n, classes) = (x.shape[0], x.shape[1]);
        let mut losses = vec![0.0; n];
        for i in 0..n {
            let row = &x.data[i * classes..(i + 1) * classes];
            let max = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
            for (j, v) in row.iter().enumerate() {
                outputs[1].data[i * classes + j] = (v - max).exp() / sum;
            }
            let minus_log = |v: f64| (max - v) + sum.ln();
            losses[i] = match class_of(targets[i], classes) {
                None => f64::NAN,
                Some(t) if self.label_smoothing == 0.0 => minus_log(row[t]),
                Some(t) => {
                    let mean = row.iter().map(|&v| minus_log(v)).sum::<f64>() / classes as f64;
                    (1.0 - self.label_smoothing) * minus_log(row[t]) + self.label_smoothing * mean
                }
            };
        }
        match self.reduction {
            Reduction::Mean => outputs[0].data[0] = losses.iter().sum::<f64>() / n as f64,
            Reduction::Sum => outputs[0].data[0] = losses.iter().sum(),
            Reduction::None => outputs[0].data.copy_from_slice(&losses),
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        let [n, classes] = [inputs[0].shape[0], inputs[0].shape[1]];
        let [loss, probabilities] = outputs else { unreachable!("infer returns two outputs") };
        let values = [inputs[0].data, inputs[1].data];
        if self.reduction == Reduction::None {
            cpu::rows(self.label_smoothing, classes, values, [loss.data, probabilities.data]);
            return;
        }
        let mut losses = scratch.take(n);
        cpu::rows(self.label_smoothing, classes, values, [&mut losses, probabilities.data]);
        let sum: f64 = losses.iter().map(|&v| f64::from(v)).sum();
        loss.data[0] = match self.reduction {
            Reduction::Mean => (sum / n as f64) as f32,
            _ => sum as f32,
        };
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let [x, targets, loss, probabilities] =
            [call.input(0), call.input(1), call.output(0), call.output(1)];
        let [n, classes] = rows(x.shape, targets.shape)?;
        let scratch = match self.reduction {
            Reduction::None => None,
            _ => Some(call.scratch(n)?),
        };
        let losses = scratch.as_ref().unwrap_or(loss.buffer);
        let (source, grid) = row_program(call, "cross_entropy", KERNELS, n, classes);
        let args = [
            x.into(),
            targets.into(),
            losses.into(),
            probabilities.into(),
            n.into(),
            classes.into(),
            Arg::Float(self.label_smoothing as f32),
        ];
        call.launch(&source, "cross_entropy", &args, grid)?;
        match self.reduction {
            Reduction::None => Ok(()),
            Reduction::Sum => sum(call, losses, 1.0),
            // The mean of no rows is NaN.
            Reduction::Mean if n == 0 => call.fill(loss.buffer, f32::NAN),
            Reduction::Mean => sum(call, losses, 1.0 / n as f32),
        }
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&[1]).outputs(&[1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        if node.output_grads[1].is_some() {
            return Err(Error::invalid_argument(
                "the probabilities of cross_entropy are not differentiable; use softmax",
            ));
        }
        let grad = CrossEntropyGrad { of: *self };
        let inputs = [node.output(1), node.input(1), node.output_grad()];
        Ok(smallvec![node.if_needed(0, || run_single(&grad, &inputs))?, None])
    }
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [probabilities, target, dloss] = expect_inputs(self, inputs)?;
        let [n, _] = rows(&probabilities, &target)?;
        check_smoothing(self.of.label_smoothing)?;
        let expected = loss_shape(self.of.reduction, n);
        if dloss != expected {
            return Err(Error::shape(format!("expected a gradient of the loss {expected}, found {dloss}")));
        }
        Ok(smallvec![probabilities])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (p, targets, dloss) = (inputs[0], inputs[1].data, inputs[2].data);
        let (n, classes) = (p.shape[0], p.shape[1]);
        for i in 0..n {
            let dloss = match self.of.reduction {
                Reduction::Mean => dloss[0] / n as f64,
                Reduction::Sum => dloss[0],
                Reduction::None => dloss[i],
            };
            for j in 0..classes {
                outputs[0].data[i * classes + j] = match class_of(targets[i], classes) {
                    None => f64::NAN,
                    Some(t) => {
                        let hit = if t == j { 1.0 - self.of.label_smoothing } else { 0.0 };
                        (p.data[i * classes + j] - hit - self.of.label_smoothing / classes as f64) * dloss
                    }
                };
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (p, targets, dloss) = (inputs[0], inputs[1].data, inputs[2].data);
        let (n, classes) = (p.shape[0], p.shape[1]);
        let smooth = (self.of.label_smoothing / classes as f64) as f32;
        let hit = (1.0 - self.of.label_smoothing) as f32;
        for_each_chunk(outputs[0].data, (CHUNK / classes).max(1) * classes, |start, part| {
            for (r, dx) in part.chunks_exact_mut(classes).enumerate() {
                let i = start / classes + r;
                let dloss = match self.of.reduction {
                    Reduction::Mean => dloss[0] / n as f32,
                    Reduction::Sum => dloss[0],
                    Reduction::None => dloss[i],
                };
                let p = &p.data[i * classes..][..classes];
                match class_of(f64::from(targets[i]), classes) {
                    None => dx.fill(f32::NAN),
                    Some(t) => {
                        for (dx, p) in dx.iter_mut().zip(p) {
                            *dx = (p - smooth) * dloss;
                        }
                        dx[t] = (p[t] - hit - smooth) * dloss;
                    }
                }
            }
        });
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let [p, targets, dloss] = [call.input(0), call.input(1), call.input(2)];
        let [n, classes] = rows(p.shape, targets.shape)?;
        let divisor = if self.of.reduction == Reduction::Mean { n as f32 } else { 1.0 };
        let block = if call.on_cpu() { classes } else { call.width() };
        let args = [
            p.into(),
            targets.into(),
            dloss.into(),
            call.output(0).into(),
            n.into(),
            classes.into(),
            block.into(),
            usize::from(self.of.reduction == Reduction::None).into(),
            Arg::Float(divisor),
            Arg::Float((1.0 - self.of.label_smoothing) as f32),
            Arg::Float((self.of.label_smoothing / classes as f64) as f32),
        ];
        let (source, _) = row_program(call, "cross_entropy", KERNELS, n, classes);
        call.launch(&source, "cross_entropy_grad", &args, Grid::line(n * classes.div_ceil(block)))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

impl Op for CountCorrect {
    fn name(&self) -> &'static str {
        "count_correct"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [logits, target] = expect_inputs(self, inputs)?;
        rows(&logits, &target)?;
        Ok(smallvec![Shape::scalar()])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let classes = inputs[0].shape[1];
        let rows = inputs[0].data.chunks_exact(classes).zip(inputs[1].data);
        outputs[0].data[0] =
            rows.filter(|(row, target)| first_largest(row) as f64 == **target).count() as f64;
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let classes = inputs[0].shape[1];
        let rows = inputs[0].data.chunks_exact(classes).zip(inputs[1].data);
        outputs[0].data[0] =
            rows.filter(|(row, target)| first_largest(row) as f32 == **target).count() as f32;
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let (x, targets) = (call.input(0), call.input(1));
        let [n, classes] = rows(x.shape, targets.shape)?;
        let correct = call.scratch(n)?;
        let args = [x.into(), targets.into(), (&correct).into(), n.into(), classes.into()];
        let (source, _) = row_program(call, "cross_entropy", KERNELS, n, classes);
        call.launch(&source, "count_correct", &args, Grid::line(n))?;
        sum(call, &correct, 1.0)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

fn loss_shape(reduction: Reduction, n: usize) -> Shape {
    match reduction {
        Reduction::Mean | Reduction::Sum => Shape::scalar(),
        Reduction::None => Shape::from([n]),
    }
}

/// Checks the shapes, and returns `[n, classes]`.
fn rows(logits: &Shape, target: &Shape) -> Result<[usize; 2]> {
    let [n, classes] = *logits.extents() else {
        return Err(Error::shape(format!("expected logits [n, classes], found {logits}")));
    };
    if classes == 0 {
        return Err(Error::shape(format!("expected at least one class, found logits {logits}")));
    }
    if target.extents() != [n] {
        return Err(Error::shape(format!(
            "expected targets [{n}], a class index for each row of the logits {logits}, found {target}"
        )));
    }
    Ok([n, classes])
}

fn check_smoothing(label_smoothing: f64) -> Result<()> {
    if (0.0..=1.0).contains(&label_smoothing) {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("label_smoothing must be from 0 to 1, it is {label_smoothing}")))
    }
}

const KERNELS: &str = include_str!("kernels.cl");

/// Sets the first output, a scalar, to `factor` times the sum of `values`.
fn sum(call: &Call<'_>, values: &Buffer, factor: f32) -> Result<()> {
    let shapes = [Shape::from([1, values.len()]), Shape::from([1, 1])];
    let views = [values, call.output(0).buffer];
    let [from, to] = std::array::from_fn(|i| call::View { shape: &shapes[i], buffer: views[i] });
    reduce::opencl::sum(call, from, to, factor)
}
