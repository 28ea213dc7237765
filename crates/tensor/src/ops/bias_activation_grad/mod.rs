//! Gradient of a fused bias and activation, in one pass.

mod cases;
mod cpu;

use smallvec::smallvec;

use super::channel_sum::{ChannelSum, channels_and_plane};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::{run, run_single};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::{Error, Result};

/// The gradients of `z` and `b` in `y = activation(z + b)`, where `b` has one number for each channel.
///
/// Inputs: the output `y [n, c, ..]` and its gradient `dy`. Outputs: `dz [n, c, ..]`, and `db [c]`, the sum of `dz` over all
/// other axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BiasActivationGrad {
    /// Activation of the fused operation.
    pub activation: Activation,
}

/// First step of the gradient of operations that end with a bias and an optional activation.
pub(crate) struct Fused {
    /// Gradient of the operand to which the bias is added.
    pub dy: Tensor,
    /// Gradient of the bias, the input at position 2, if it exists and needs a gradient.
    pub bias: Option<Tensor>,
}

impl Fused {
    /// Computes the gradients of `activation(z + bias)`, reshaped to `shape`, whose second axis are the channels.
    pub fn grad(activation: Option<Activation>, node: &Gradient<'_>, shape: Shape) -> Result<Self> {
        let dy = node.output_grad().reshape(shape)?;
        let y = || node.output(0).reshape(shape);
        let needed = node.needs.get(2) == Some(&true);
        Ok(match activation {
            Some(activation) if needed => {
                let mut both = run(&BiasActivationGrad { activation }, &[&y()?, &dy])?;
                let bias = both.pop();
                Fused { dy: both.remove(0), bias }
            }
            _ => {
                let dy = match activation {
                    Some(activation) => activation.grad(&y()?, &dy)?,
                    None => dy,
                };
                let bias = if needed { Some(run_single(&ChannelSum, &[&dy])?) } else { None };
                Fused { dy, bias }
            }
        })
    }
}

impl Op for BiasActivationGrad {
    fn name(&self) -> &'static str {
        "bias_activation_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [y, dy] = expect_inputs(self, inputs)?;
        match y.extents() {
            _ if y != dy => Err(Error::shape(format!("the output is {y}, its gradient {dy}"))),
            [_, c, ..] => Ok(smallvec![y, Shape::from([*c])]),
            _ => Err(Error::shape(format!("expected a shape [n, c, ..], found {y}"))),
        }
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        let [dz, db] = outputs else { return };
        db.data.fill(0.0);
        for (i, dz) in dz.data.iter_mut().enumerate() {
            *dz = self.activation.grad_value(inputs[0].data[i], inputs[1].data[i]);
            db.data[i / plane % channels] += *dz;
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        let (channels, plane) = channels_and_plane(inputs[0].shape);
        let [dz, db] = outputs else { return };
        let n = inputs[0].shape[0];
        let inputs = [inputs[0].data, inputs[1].data];
        cpu::grad(self.activation, [n, channels, plane], inputs, [dz.data, db.data], scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let dz = &call.outputs()[..1];
        let activation = self.activation.grad_op();
        activation.opencl(&call.part(activation.name(), call.inputs(), dz))?;
        ChannelSum.opencl(&call.part(ChannelSum.name(), dz, &call.outputs()[1..]))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}
