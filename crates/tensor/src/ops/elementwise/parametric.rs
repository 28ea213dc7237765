//! Activation functions with a parameter. They are not fused into other operations.

use smallvec::smallvec;

use super::map::{self, ElementwiseMap};
use super::op::same_shape;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// Defines an activation function and its gradient, which is computed from the input.
macro_rules! parametric {
    ($(#[$doc:meta])* $op:ident $grad:ident $name:literal $grad_name:literal $(#[$field_doc:meta])* $field:ident
        ($p:ident, $x:ident) = $value:expr;
        ($gp:ident, $gx:ident, $dy:ident) = $grad_value:expr;
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $op {
            $(#[$field_doc])*
            pub $field: f64,
        }

        #[doc = concat!("Gradient of [`", stringify!($op), "`]. Inputs: its input, and the gradient of its output, of the same shape.")]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $grad {
            $(#[$field_doc])*
            pub $field: f64,
        }

        impl ElementwiseMap<1, 1> for $op {
            #[inline(always)]
            fn eval<R: Real>(&self, [$x]: [R; 1], _old: [R; 1]) -> [R; 1] {
                let $p = R::constant(self.$field);
                [$value]
            }
        }

        impl ElementwiseMap<2, 1> for $grad {
            #[inline(always)]
            fn eval<R: Real>(&self, [$gx, $dy]: [R; 2], _old: [R; 1]) -> [R; 1] {
                let $gp = R::constant(self.$field);
                [$grad_value]
            }
        }

        parametric!(@op $op 1 $name SavedTensors::NONE.inputs(&[0]), |op: &$op, node: &Gradient<'_>| {
            let grad = $grad { $field: op.$field };
            Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.input(0), node.output_grad()]))?])
        });
        parametric!(@op $grad 2 $grad_name SavedTensors::NONE, |op: &$grad, _: &Gradient<'_>| no_gradient(op));

        register_op!($name, || {
            let case = |name: &str, $field: f64, shape: &[usize]| {
                let shape = Shape::new(shape).expect("a small shape");
                Case::new(name, $op { $field }, [CaseInput::between(shape, -4.0, 4.0)])
            };
            vec![
                case("a scalar", 0.25, &[]),
                case("empty", 0.25, &[0, 3]),
                case("a matrix", 0.01, &[7, 11]),
                case("images", 1.0, &[2, 3, 5, 4]),
                case("many", 0.3, &[70, 33, 31]).timed(),
            ]
        });

        register_op!($grad_name, || {
            let inputs = [CaseInput::between([7, 11], -4.0, 4.0), CaseInput::uniform([7, 11])];
            vec![Case::new("a matrix", $grad { $field: 0.3 }, inputs).without_gradient()]
        });
    };
    (@op $op:ident $inputs:literal $name:literal $saves:expr, $gradient:expr) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                same_shape(expect_inputs::<$inputs>(self, inputs)?)
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                map::reference::<Self, $inputs, 1>(self, inputs, outputs);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                crate::core::check::check_views(self, inputs, outputs);
                map::cpu::<Self, $inputs, 1>(*self, inputs, outputs);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                crate::core::check::check_call(self, call)?;
                // The output is not state: its old value is not read.
                super::opencl::apply::<$inputs, 0, 1>(call, concat!($name, "_elements"), |x, []| self.eval(x, [x[0]]))
            }
            fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<$crate::BlockForm> {
                $crate::BlockForm::elementwise(std::sync::Arc::new(*self), inputs)
            }
            fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<std::sync::Arc<dyn $crate::Op>> {
                ($crate::batch::broadcasting_keeps_images(inputs, batched)).then(|| std::sync::Arc::new(*self) as std::sync::Arc<dyn $crate::Op>)
            }
            fn saves(&self) -> SavedTensors {
                $saves
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                ($gradient)(self, node)
            }
        }
    };
}

parametric! {
    /// Leaky rectified linear unit, `x` if `x > 0`, else `negative_slope * x`.
    LeakyRelu LeakyReluGrad "leaky_relu" "leaky_relu_grad"
    /// Slope for negative inputs.
    negative_slope
        (slope, x) = R::select_gt(x, R::constant(0.0), x, slope * x);
        (slope, x, dy) = R::select_gt(x, R::constant(0.0), dy, slope * dy);
}

parametric! {
    /// Exponential linear unit, `x` if `x > 0`, else `alpha * (e^x - 1)`. D. Clevert et al., "Fast and accurate deep network
    /// learning by exponential linear units", ICLR 2016.
    Elu EluGrad "elu" "elu_grad"
    /// Negative limit.
    alpha
        (alpha, x) = R::select_gt(x, R::constant(0.0), x, alpha * exp_m1(x));
        (alpha, x, dy) = R::select_gt(x, R::constant(0.0), dy, dy * alpha * R::exp(x));
}

/// `e^x - 1` for `x` of at most 0, without the loss of digits near 0: `2 t / (1 - t)` with `t = tanh(x / 2)`.
#[inline(always)]
fn exp_m1<R: Real>(x: R) -> R {
    let t = R::tanh(R::constant(0.5) * x);
    R::constant(2.0) * t / (R::constant(1.0) - t)
}
