//! Batch normalization of `[n, c]`, `[n, c, l]` and `[n, c, h, w]`.
//!
//! S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015. For each channel,
//! `y = activation((x - mean) / sqrt(var + eps) · weight + bias)`: in training with the mean and the biased variance of the batch,
//! in inference with given ones.

mod cases;
mod cpu;
mod opencl;
mod reference;
mod sizes;

use std::sync::Arc;

use smallvec::smallvec;

use self::sizes::Sizes;
use super::channel_blocks::{BlockKernel, BlockLayout, block_form};
use super::elementwise::apply_opencl;
use super::{Activation, ChannelSum};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::fusion::{self, ChannelAffine, Pass};
use crate::core::op::{BlockForm, Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::{run, run_single};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::Symbol;
use neocog_base::{Error, Result};

/// Normalizes by the statistics of the batch.
///
/// Inputs: `x`, and optionally `weight [c]` and `bias [c]`. Outputs: `y` in the shape of `x`, `mean [c]`, and `var [c]`, the biased
/// variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormTrain {
    /// Added to the variance for numerical stability.
    pub eps: f64,
    /// Activation that is applied to the result.
    pub activation: Option<Activation>,
}

/// The gradient of [`BatchNormTrain`].
///
/// Inputs: `x`, `mean`, `var`, `dy`, then `weight` if `affine`, then `y` if there is an activation. Outputs: `dx`, `dweight [c]`,
/// `dbias [c]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormTrainGrad {
    /// The forward operation.
    pub of: BatchNormTrain,
    /// Whether there are a weight and a bias.
    pub affine: bool,
}

/// Normalizes by given statistics.
///
/// Inputs: `x`, `mean [c]`, `var [c]`, and optionally `weight [c]` and `bias [c]`. Output: in the shape of `x`. The statistics are
/// not differentiable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormEval {
    /// Added to the variance for numerical stability.
    pub eps: f64,
    /// Activation that is applied to the result.
    pub activation: Option<Activation>,
}

/// The gradient of [`BatchNormEval`] with respect to its first input and its weight.
///
/// Inputs: `x`, `mean`, `var`, `dz`, the gradient before the activation, and `weight` if `affine`. Outputs: `dx`, `dweight [c]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormEvalGrad {
    /// Added to the variance for numerical stability.
    pub eps: f64,
    /// Whether there are a weight and a bias.
    pub affine: bool,
}

/// Updates running statistics: `running = (1 - factor) · running + factor · new`.
///
/// Inputs: `mean [c]` and `var [c]`, the biased variance. State: `running_mean [c]` and `running_var [c]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateRunningStats {
    /// Weight of the new value, from 0 to 1; PyTorch's `momentum`.
    pub factor: f64,
    /// Whether the new variance is multiplied by `count / (count - 1)`, as in PyTorch.
    pub unbiased: bool,
    /// Number of elements of each channel in the batch.
    pub count: usize,
}

fn check(x: &Shape, per_channel: &[Shape]) -> Result<Sizes> {
    if !(2..=4).contains(&x.rank()) {
        return Err(Error::shape(format!("expected an input [n, c], [n, c, l] or [n, c, h, w], found {x}")));
    }
    match per_channel.iter().find(|s| s.extents() != [x[1]]) {
        None => Ok(Sizes::of(x)),
        Some(other) => Err(Error::shape(format!(
            "expected [{}], one number for each channel of {x}, found {other}",
            x[1]
        ))),
    }
}

/// Kernels are compiled for activations whose gradient is computed from the output only.
fn check_activation(activation: Option<Activation>) -> Result<()> {
    activation.map_or(Ok(()), Activation::check_grad_of_output)
}

fn check_eps(eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid_argument(format!("eps must be at least 0 and finite, it is {eps}")))
    }
}

fn wrong_number(op: &dyn Op, inputs: &[Shape], expected: &str) -> Error {
    Error::invalid_argument(format!(
        "{} expects {expected} inputs, found {}: {inputs:?}",
        op.name(),
        inputs.len()
    ))
}

impl Op for BatchNormTrain {
    fn name(&self) -> &'static str {
        "batch_norm_train"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        if inputs.len() != 1 && inputs.len() != 3 {
            return Err(wrong_number(self, inputs, "1 or 3"));
        }
        check_eps(self.eps)?;
        check_activation(self.activation)?;
        let sizes = check(&inputs[0], &inputs[1..])?;
        if sizes.count() < 2 {
            return Err(Error::shape(format!(
                "expected more than 1 value per channel when training, or without running statistics; the input is {}: use a larger batch",
                inputs[0]
            )));
        }
        let channels = Shape::from([sizes.c]);
        Ok(smallvec![inputs[0], channels, channels])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        reference::train(self.eps, self.activation, inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        cpu::train(self.eps, self.activation, inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::train(self.eps, self.activation, call)
    }

    fn saves(&self) -> SavedTensors {
        let saved = SavedTensors::NONE.inputs(&[0, 1]).outputs(&[1, 2]);
        if self.activation.is_some() { saved.outputs(&[0]) } else { saved }
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let affine = node.input_shapes.len() == 3;
        let dy = node.first_output_grad(self)?;
        let mut inputs = vec![node.input(0), node.output(1), node.output(2), dy];
        if affine {
            inputs.push(node.input(1));
        }
        if self.activation.is_some() {
            inputs.push(node.output(0));
        }
        let grads = run(&BatchNormTrainGrad { of: *self, affine }, &inputs)?;
        Ok(grads.into_iter().zip(node.needs).map(|(grad, needed)| needed.then_some(grad)).collect())
    }

    fn absorb(&self, next: &dyn Op, _pass: Pass) -> Option<Arc<dyn Op>> {
        // As `check_activation`.
        let activation = fusion::fusible(self.activation, next.activation(), Pass::Training)?;
        Some(Arc::new(BatchNormTrain { activation: Some(activation), ..*self }))
    }
}

impl Op for BatchNormTrainGrad {
    fn name(&self) -> &'static str {
        "batch_norm_train_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        check_activation(self.of.activation)?;
        let expected = 4 + usize::from(self.affine) + usize::from(self.of.activation.is_some());
        if inputs.len() != expected {
            return Err(wrong_number(self, inputs, &expected.to_string()));
        }
        let sizes = check(&inputs[0], &inputs[1..3])?;
        if self.affine {
            check(&inputs[0], &inputs[4..5])?;
        }
        let like_x = [Some(&inputs[3]), self.of.activation.and(inputs.last())];
        if let Some(other) = like_x.into_iter().flatten().find(|s| **s != inputs[0]) {
            return Err(Error::shape(format!("the input is {}, but y or dy is {other}", inputs[0])));
        }
        let channels = Shape::from([sizes.c]);
        Ok(smallvec![inputs[0], channels, channels])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        reference::train_grad(self.of.eps, self.of.activation, self.affine, inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        cpu::train_grad(self.of.eps, self.of.activation, self.affine, inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::train_grad(self.of.eps, self.of.activation, self.affine, call)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

impl Op for BatchNormEval {
    fn name(&self) -> &'static str {
        "batch_norm_eval"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        if inputs.len() != 3 && inputs.len() != 5 {
            return Err(wrong_number(self, inputs, "3 or 5"));
        }
        check_eps(self.eps)?;
        check_activation(self.activation)?;
        check(&inputs[0], &inputs[1..])?;
        Ok(smallvec![inputs[0]])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        reference::eval(self.eps, self.activation, inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        cpu::eval(self.eps, self.activation, inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::eval(self.eps, self.activation, call)
    }

    fn supports_batch_stride(&self) -> bool {
        true
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        only_first_is_batched(batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        let saved = SavedTensors::NONE.inputs(&[0, 1, 2, 3]);
        if self.activation.is_some() { saved.outputs(&[0]) } else { saved }
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        if node.needs[1] || node.needs[2] {
            return Err(Error::invalid_argument(
                "the statistics of batch_norm_eval are not differentiable: detach them",
            ));
        }
        let dz = match self.activation {
            Some(activation) => activation.grad(node.output(0), node.output_grad())?,
            None => node.output_grad().clone(),
        };
        let affine = node.input_shapes.len() == 5;
        let op = BatchNormEvalGrad { eps: self.eps, affine };
        let grads = match affine {
            true => run(&op, &[node.input(0), node.input(1), node.input(2), &dz, node.input(3)])?,
            false => run(&op, &[node.input(0), node.input(1), node.input(2), &dz])?,
        };
        let mut all: InputGrads = smallvec![None; node.input_shapes.len()];
        all[0] = node.needs[0].then(|| grads[0].clone());
        if affine {
            all[3] = node.needs[3].then(|| grads[1].clone());
            all[4] = node.if_needed(4, || run_single(&ChannelSum, &[&dz]))?;
        }
        Ok(all)
    }

    fn absorb(&self, next: &dyn Op, _pass: Pass) -> Option<Arc<dyn Op>> {
        // As `check_activation`.
        let activation = fusion::fusible(self.activation, next.activation(), Pass::Training)?;
        Some(Arc::new(BatchNormEval { activation: Some(activation), ..*self }))
    }

    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        block_form(*self, inputs, true)
    }

    fn channel_affine(&self, constants: &[Option<&Tensor>]) -> Result<Option<ChannelAffine>> {
        let Some(statistics) = constants[1..].iter().copied().collect::<Option<Vec<&Tensor>>>() else {
            return Ok(None);
        };
        if self.activation.is_some() {
            return Ok(None);
        }
        let mut statistics =
            statistics.into_iter().map(Tensor::to_f64).collect::<Result<Vec<_>>>()?.into_iter();
        let [mean, var, weight, bias] = std::array::from_fn(|_| statistics.next());
        let (mean, var) = (mean.unwrap_or_default(), var.unwrap_or_default());
        let weight = weight.unwrap_or_else(|| vec![1.0; var.len()]);
        let scale = var.iter().zip(weight).map(|(var, weight)| weight / (var + self.eps).sqrt()).collect();
        let shift = bias.unwrap_or_else(|| vec![0.0; var.len()]);
        Ok(Some(ChannelAffine::new(scale, mean, shift)))
    }
}

impl BlockKernel for BatchNormEval {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        scratch: &Scratch,
    ) {
        cpu::eval_in_blocks(self.eps, self.activation, blocks, inputs, outputs, scratch);
    }
}

impl Op for BatchNormEvalGrad {
    fn name(&self) -> &'static str {
        "batch_norm_eval_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let expected = 4 + usize::from(self.affine);
        if inputs.len() != expected {
            return Err(wrong_number(self, inputs, &expected.to_string()));
        }
        let sizes = check(&inputs[0], &inputs[1..3])?;
        check(&inputs[0], &inputs[4..])?;
        if inputs[3] != inputs[0] {
            return Err(Error::shape(format!("the input is {}, but dz is {}", inputs[0], inputs[3])));
        }
        Ok(smallvec![inputs[0], Shape::from([sizes.c])])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        reference::eval_grad(self.eps, self.affine, inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        cpu::eval_grad(self.eps, self.affine, inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::eval_grad(self.eps, self.affine, call)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

impl UpdateRunningStats {
    fn correction(&self) -> f64 {
        if self.unbiased { self.count as f64 / (self.count as f64 - 1.0) } else { 1.0 }
    }
}

impl Op for UpdateRunningStats {
    fn name(&self) -> &'static str {
        "update_running_stats"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [mean, var] = expect_inputs(self, inputs)?;
        if mean.rank() != 1 || mean != var {
            return Err(Error::shape(format!(
                "expected a mean [c] and a variance [c], found {mean} and {var}"
            )));
        }
        if !(0.0..=1.0).contains(&self.factor) {
            return Err(Error::invalid_argument(format!(
                "factor must be from 0 to 1, it is {}",
                self.factor
            )));
        }
        if self.count == 0 {
            return Err(Error::invalid_argument("there are no statistics of 0 values per channel"));
        }
        if self.unbiased && self.count == 1 {
            return Err(Error::invalid_argument("an unbiased variance needs more than 1 value per channel"));
        }
        Ok(smallvec![mean, var])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        for (k, correction) in [1.0, self.correction()].into_iter().enumerate() {
            for (running, new) in outputs[k].data.iter_mut().zip(inputs[k].data) {
                *running = (1.0 - self.factor) * *running + self.factor * (new * correction);
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        for (k, correction) in [1.0, self.correction()].into_iter().enumerate() {
            for (running, &new) in outputs[k].data.iter_mut().zip(inputs[k].data) {
                let new = f64::from(new) * correction;
                *running = ((1.0 - self.factor) * f64::from(*running) + self.factor * new) as f32;
            }
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (factor, correction) = (self.factor, self.correction());
        apply_opencl(call, "update_running_stats", |[mean, var]: [Symbol; 2], [old_mean, old_var]| {
            let [keep, factor, correction] = [1.0 - factor, factor, correction].map(Symbol::constant);
            [keep * old_mean + factor * mean, keep * old_var + factor * (var * correction)]
        })
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }

    fn state_outputs(&self) -> usize {
        2
    }
}
