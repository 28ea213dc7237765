//! Elementwise operations.
//!
//! Each is defined by one expression on [`Real`](crate::cpu::simd::Real) numbers: evaluated with `f64` it is the reference,
//! with SIMD vectors the CPU kernel, and with symbols it generates the OpenCL kernel.

mod accumulate;
mod activation;
mod cases;
mod expression;
pub(super) mod map;
mod opencl;
mod scale;

pub use accumulate::Accumulate;
pub(super) use expression::{Expression, apply, expression};
pub(super) use map::ElementwiseMap;
pub(super) use opencl::apply as apply_opencl;
pub use scale::Scale;

use smallvec::smallvec;

use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use neocog_base::{Error, Result};

/// Defines activations: each with its expression, and its gradient as an expression of the output `y` and `dy`.
macro_rules! activations {
    ($(
        $(#[$doc:meta])* $op:ident $name:literal ($c:ident; $x:ident) = $value:expr;
        $grad:ident $grad_name:literal ($gc:ident; $y:ident, $dy:ident) = $grad_value:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        #[doc = concat!("The gradient of [`", stringify!($op), "`]. Inputs: its output `y`, and `dy`, of the same shape.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $grad;

        elementwise!($op $name ($c; $x) = $value);
        elementwise!($grad $grad_name ($gc; $y, $dy) = $grad_value);

        impl ElementwiseGrad for $op {
            fn saves() -> SavedTensors {
                SavedTensors::NONE.outputs(&[0])
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                Ok(smallvec![node.if_needed(0, || run_single(&$grad, &[node.output(0), node.output_grad()]))?])
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
        register_op!($grad_name, || cases::unary_grad($grad));
    )*};
}

/// Implements [`Op`] by an expression.
macro_rules! elementwise {
    ($op:ident $name:literal ($c:ident; $($x:ident),+) = $value:expr) => {
        expression!($op ($c; $($x),+) = $value);

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                same_shape(expect_inputs::<{ [$(stringify!($x)),+].len() }>(self, inputs)?)
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                for i in 0..outputs[0].data.len() {
                    outputs[0].data[i] = Self::eval(std::array::from_fn(|k| inputs[k].data[i]));
                }
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                check_views(self, inputs, outputs);
                apply::<Self, { [$(stringify!($x)),+].len() }>(std::array::from_fn(|k| inputs[k].data), outputs[0].data);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                check_call(self, call)?;
                const N: usize = [$(stringify!($x)),+].len();
                apply_opencl::<N, 0, 1>(call, concat!($name, "_elements"), |args, []| [Self::eval(args)])
            }
            fn saves(&self) -> SavedTensors {
                <Self as ElementwiseGrad>::saves()
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                ElementwiseGrad::grad(self, node)
            }
        }
    };
}

/// Gradient of an elementwise operation.
trait ElementwiseGrad {
    fn saves() -> SavedTensors;
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads>;
}

activations! {
    /// Rectified linear unit, `y = max(x, 0)`; the gradient at 0 is 0.
    Relu "relu" (c; x) = Activation::Relu.apply(x);
    ReluGrad "relu_grad" (c; y, dy) = Activation::Relu.grad_value(y, dy);

    /// Logistic sigmoid, `y = 1 / (1 + e^-x)`.
    Sigmoid "sigmoid" (c; x) = Activation::Sigmoid.apply(x);
    SigmoidGrad "sigmoid_grad" (c; y, dy) = Activation::Sigmoid.grad_value(y, dy);

    /// Hyperbolic tangent, `y = tanh(x)`.
    Tanh "tanh" (c; x) = Activation::Tanh.apply(x);
    TanhGrad "tanh_grad" (c; y, dy) = Activation::Tanh.grad_value(y, dy);
}

/// `y = max(a + b, 0)`, for `a` and `b` of the same shape: the end of a residual block, in one pass.
#[derive(Clone, Copy, Debug)]
pub struct AddRelu;

elementwise!(AddRelu "add_relu" (c; a, b) = Activation::Relu.apply(a + b));
register_op!("add_relu", || cases::add_relu(AddRelu));

impl ElementwiseGrad for AddRelu {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.outputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let sum = run_single(&ReluGrad, &[node.output(0), node.output_grad()])?;
        Ok(node.needs.iter().map(|&needed| needed.then(|| sum.clone())).collect())
    }
}

fn same_shape<const N: usize>(inputs: [Shape; N]) -> Result<Shapes> {
    match inputs.iter().position(|s| *s != inputs[0]) {
        None => Ok(smallvec![inputs[0]]),
        Some(i) => Err(Error::shape(format!("input 0 is {}, but input {i} is {}", inputs[0], inputs[i]))),
    }
}
