//! Activation functions that kernels apply to their results.

use serde::{Deserialize, Serialize};

use crate::cpu::simd::Real;

/// An activation function that a convolution, a linear layer or a batch norm applies to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Rectified linear unit, `max(x, 0)`.
    Relu,
    /// Logistic sigmoid, `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// All activation functions.
    pub const ALL: [Activation; 3] = [Activation::Relu, Activation::Sigmoid, Activation::Tanh];

    /// Whether the gradient of the input is a function of the output and its gradient. In training, only such activations are
    /// fused into other operations.
    pub(crate) fn has_grad_of_output(self) -> bool {
        true
    }

    /// Computes the function.
    #[inline(always)]
    pub(crate) fn apply<R: Real>(self, x: R) -> R {
        let c = R::constant;
        match self {
            Activation::Relu => Real::max(c(0.0), x),
            Activation::Sigmoid => c(1.0) / (c(1.0) + Real::exp(-x)),
            Activation::Tanh => Real::tanh(x),
        }
    }

    /// Computes the gradient of the input from the output `y` and its gradient `dy`.
    #[inline(always)]
    pub(crate) fn grad_value<R: Real>(self, y: R, dy: R) -> R {
        let c = R::constant;
        match self {
            Activation::Relu => R::select_gt(y, c(0.0), dy, c(0.0)),
            Activation::Sigmoid => dy * y * (c(1.0) - y),
            Activation::Tanh => dy * (c(1.0) - y * y),
        }
    }
}
