//! The activations that other operations can take in, to save a pass over memory.

use serde::{Deserialize, Serialize};

use super::elementwise::{Expression, Relu, ReluGrad, Sigmoid, SigmoidGrad, Tanh, TanhGrad};
use crate::core::op::Op;
use crate::core::run::run_single;
use crate::core::tensor::Tensor;
use crate::cpu::simd::Real;
use neocog_base::Result;

/// An activation that a convolution, a linear layer or a batch norm applies to its result at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// All of them, for tests.
    pub const ALL: [Activation; 3] = [Activation::Relu, Activation::Sigmoid, Activation::Tanh];

    /// The activation's value.
    #[inline(always)]
    pub(crate) fn apply<R: Real>(self, x: R) -> R {
        match self {
            Activation::Relu => Relu::eval([x]),
            Activation::Sigmoid => Sigmoid::eval([x]),
            Activation::Tanh => Tanh::eval([x]),
        }
    }

    /// The gradient of the activation's input at one place, from its output `y` and that output's gradient `dy`.
    #[inline(always)]
    pub(crate) fn grad_value<R: Real>(self, y: R, dy: R) -> R {
        match self {
            Activation::Relu => ReluGrad::eval([y, dy]),
            Activation::Sigmoid => SigmoidGrad::eval([y, dy]),
            Activation::Tanh => TanhGrad::eval([y, dy]),
        }
    }

    /// The gradient of the activation's input, from its output `y` and that output's gradient `dy`: a fused
    /// operation calls this first, then its own gradient with the result.
    ///
    /// # Errors
    /// When the shapes differ or the device fails.
    pub fn grad(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        run_single(self.grad_op(), &[y, dy])
    }

    /// The operation of [`Activation::grad`].
    pub(crate) fn grad_op(self) -> &'static dyn Op {
        match self {
            Activation::Relu => &ReluGrad,
            Activation::Sigmoid => &SigmoidGrad,
            Activation::Tanh => &TanhGrad,
        }
    }
}
