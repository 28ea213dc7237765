//! Functions that networks from elsewhere contain. They have no gradient: no layer uses them.

use super::expression::{Expression, apply, expression};
use super::op::{ElementwiseGrad, elementwise, same_shape};
use super::opencl::apply as apply_opencl;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

macro_rules! functions {
    ($($(#[$doc:meta])* $op:ident $name:literal on $low:literal .. $high:literal ($c:ident; $x:ident) = $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        elementwise!($op $name ($c; $x) = $value);

        impl ElementwiseGrad for $op {
            fn saves() -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
        }

        register_op!($name, || cases($op, $low, $high));
    )*};
}

functions! {
    /// `1 / x`.
    Reciprocal "reciprocal" on 0.1 .. 3.0 (c; x) = c(1.0) / x;
    /// The error function.
    Erf "erf" on -3.0 .. 3.0 (c; x) = Real::erf(x);
    /// The largest integer that is not greater.
    Floor "floor" on -5.0 .. 5.0 (c; x) = floor(x);
    /// The smallest integer that is not less.
    Ceil "ceil" on -5.0 .. 5.0 (c; x) = -floor(-x);
    /// The nearest integer, ties to even.
    Round "round" on -5.0 .. 5.0 (c; x) = Real::round(x);
    /// The integer without the fraction.
    Trunc "trunc" on -5.0 .. 5.0 (c; x) = Real::select_gt(x, c(0.0), floor(x), -floor(-x));
    /// Softplus, `ln(1 + e^x)`.
    Softplus "softplus" on -6.0 .. 6.0 (c; x) = softplus(x);
    /// Mish, `x tanh(ln(1 + e^x))`. D. Misra, "Mish: A self regularized non-monotonic activation function", 2019.
    Mish "mish" on -6.0 .. 6.0 (c; x) = x * Real::tanh(softplus(x));
}

#[inline(always)]
fn floor<R: Real>(x: R) -> R {
    let rounded = x.round();
    rounded - R::select_gt(rounded, x, R::constant(1.0), R::constant(0.0))
}

#[inline(always)]
fn softplus<R: Real>(x: R) -> R {
    let zero = R::constant(0.0);
    let magnitude = R::select_gt(zero, x, -x, x);
    R::select_gt(x, zero, x, zero) + ln_1p(R::exp(-magnitude))
}

/// `ln(1 + x)` for `x` from 0 to 1, without the loss of digits near 0: twice the series of the inverse hyperbolic tangent of
/// `x / (2 + x)`, which is at most a third.
#[inline(always)]
fn ln_1p<R: Real>(x: R) -> R {
    let ratio = x / (R::constant(2.0) + x);
    let square = ratio * ratio;
    let mut sum = R::constant(0.0);
    for n in (0..17).rev() {
        sum = sum.fma(square, R::constant(1.0 / f64::from(2 * n + 1)));
    }
    R::constant(2.0) * ratio * sum
}

fn cases<T: Op + Copy>(op: T, low: f32, high: f32) -> Vec<Case> {
    [vec![], vec![0, 3], vec![3, 7], vec![70, 33, 31]]
        .into_iter()
        .map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            Case::new(shape.to_string(), op, [CaseInput::between(shape, low, high)]).without_gradient()
        })
        .collect()
}
