//! Activations as operations.

use std::sync::Arc;

use smallvec::smallvec;

use super::cases;
use super::expression::{Expression, apply, expression};
use super::op::{ElementwiseGrad, elementwise, same_shape};
use super::opencl::apply as apply_opencl;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::{for_each_activation, register_op};
use neocog_base::{Error, Result};

/// Defines the operation of each activation, and that of its gradient.
macro_rules! operations {
    ($tokens:tt $($group:ident { $(
        $(#[$doc:meta])* $op:ident $grad:ident $name:literal $grad_name:literal $layer:tt
            ($c:ident, $x:ident) = $value:expr;
            ($gc:ident, $y:ident, $dy:ident) = $grad_value:expr;
    )* })*) => {
        $($(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $op;

            #[doc = concat!("Gradient of [`", stringify!($op), "`]. Inputs: its output or input, as the gradient is computed from, and the gradient of the output, of the same shape.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $grad;

            elementwise!($op $name (c; x) = Activation::$op.apply(x));
            elementwise!($grad $grad_name (c; saved, dy) = Activation::$op.grad_value(saved, dy));

            impl ElementwiseGrad for $op {
                fn saves() -> SavedTensors {
                    if Activation::$op.has_grad_of_output() {
                        SavedTensors::NONE.outputs(&[0])
                    } else {
                        SavedTensors::NONE.inputs(&[0])
                    }
                }
                fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                    let saved = if Activation::$op.has_grad_of_output() { node.output(0) } else { node.input(0) };
                    Ok(smallvec![node.if_needed(0, || run_single(&$grad, &[saved, node.output_grad()]))?])
                }
                fn activation() -> Option<Activation> {
                    Some(Activation::$op)
                }
            }

            impl ElementwiseGrad for $grad {
                fn saves() -> SavedTensors {
                    SavedTensors::NONE
                }
                fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                    no_gradient(self)
                }
            }

            register_op!($name, || cases::unary($op));
            register_op!($grad_name, || cases::unary_grad($grad, Activation::$op));
        )*)*

        impl Activation {
            /// Returns the operation.
            pub fn op(self) -> Arc<dyn Op> {
                match self {
                    $($(Activation::$op => Arc::new($op),)*)*
                }
            }

            /// Returns the operation of the gradient, with the inputs of [`Activation::grad`].
            pub(crate) fn grad_op(self) -> &'static dyn Op {
                match self {
                    $($(Activation::$op => &$grad,)*)*
                }
            }
        }
    };
}

for_each_activation! { operations () }

impl Activation {
    /// Computes the gradient of the input from the output `y` and its gradient `dy`. The gradient rule of an operation with a
    /// fused activation calls it first, and then computes its own gradient from the result.
    ///
    /// # Errors
    /// If the gradient is not computed from the output, the shapes differ, or the device fails.
    pub fn grad(self, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        self.check_grad_of_output()?;
        run_single(self.grad_op(), &[y, dy])
    }

    /// Checks that the activation can be fused into an operation whose gradient is computed.
    ///
    /// # Errors
    /// If the gradient is computed from the input, which a fused operation does not have.
    pub(crate) fn check_grad_of_output(self) -> Result<()> {
        if self.has_grad_of_output() {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "the gradient of {} is computed from its input: it cannot be part of another operation in training",
            self.op().name()
        )))
    }
}
