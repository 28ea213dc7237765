//! Activations as operations.

use super::{ReluGrad, SigmoidGrad, TanhGrad};
use crate::core::op::Op;
use crate::core::run::run_single;
use crate::core::tensor::Tensor;
use crate::cpu::Activation;
use neocog_base::Result;

impl Activation {
    /// Computes the gradient of the activation's input from its output `y` and that output's gradient `dy`. A fused operation
    /// calls this first, then its own gradient with the result.
    ///
    /// # Errors
    /// If the shapes differ or the device fails.
    pub fn grad(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        run_single(self.grad_op(), &[y, dy])
    }

    /// Returns the operation of [`Activation::grad`].
    pub(crate) fn grad_op(self) -> &'static dyn Op {
        match self {
            Activation::Relu => &ReluGrad,
            Activation::Sigmoid => &SigmoidGrad,
            Activation::Tanh => &TanhGrad,
        }
    }
}
