//! Softmax and log-softmax along an axis, and their gradients.
//!
//! With `m = max x` and `s = Σ e^(x - m)` along the axis, which avoids overflow:
//!
//! ```text
//! softmax      y = e^(x - m) / s        dx = y (dy - Σ y dy)
//! log_softmax  y = x - m - ln s         dx = dy - e^y Σ dy
//! ```

mod cases;
mod cpu;
mod opencl;
mod reference;
pub(super) mod rows;
mod rule;

use smallvec::smallvec;

use self::rule::Rule;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use neocog_base::{Error, Result};

/// Defines a function and its gradient as operations.
macro_rules! softmaxes {
    ($($(#[$doc:meta])* $op:ident $name:literal, $grad:ident $grad_name:literal, log $log:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $op {
            /// The axis; negative numbers count from the last axis.
            pub dim: isize,
        }

        #[doc = concat!("The gradient of [`", stringify!($op), "`]. Inputs: its output `y`, and `dy`, of the same shape.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $grad {
            /// The axis; negative numbers count from the last axis.
            pub dim: isize,
        }

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let [x] = expect_inputs(self, inputs)?;
                x.axis(self.dim)?;
                Ok(smallvec![x])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                reference::run(Rule::$op, self.dim, [inputs[0], inputs[0]], &mut outputs[0]);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                check_views(self, inputs, outputs);
                cpu::run(Rule::$op, self.dim, [inputs[0], inputs[0]], &mut outputs[0]);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                check_call(self, call)?;
                opencl::run(Rule::$op, self.dim, call)
            }
            fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<std::sync::Arc<dyn $crate::Op>> {
                let axis = inputs.first()?.axis(self.dim).ok()?;
                ($crate::batch::only_first_is_batched(batched) && axis > 0).then(|| std::sync::Arc::new(*self) as std::sync::Arc<dyn $crate::Op>)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE.outputs(&[0])
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                let grad = $grad { dim: self.dim };
                Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.output(0), node.output_grad()]))?])
            }
        }

        impl Op for $grad {
            fn name(&self) -> &'static str {
                $grad_name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let [y, dy] = expect_inputs(self, inputs)?;
                y.axis(self.dim)?;
                if y != dy {
                    return Err(Error::shape(format!("the output is {y}, but its gradient is {dy}")));
                }
                Ok(smallvec![y])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                reference::run(Rule::$grad, self.dim, [inputs[0], inputs[1]], &mut outputs[0]);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                check_views(self, inputs, outputs);
                cpu::run(Rule::$grad, self.dim, [inputs[0], inputs[1]], &mut outputs[0]);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                check_call(self, call)?;
                opencl::run(Rule::$grad, self.dim, call)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
        }

        register_op!($name, || cases::forward(|dim| $op { dim }));
        register_op!($grad_name, || cases::grad(|dim| $grad { dim }, $log));
    )*};
}

softmaxes! {
    /// Softmax, `e^x / Σ e^x` along an axis.
    Softmax "softmax", SoftmaxGrad "softmax_grad", log false;
    /// Logarithm of the softmax, `x - ln Σ e^x` along an axis.
    LogSoftmax "log_softmax", LogSoftmaxGrad "log_softmax_grad", log true;
}
