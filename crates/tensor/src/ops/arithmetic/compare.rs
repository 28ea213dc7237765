//! Division, powers, the larger and the smaller number, and comparisons, with broadcasting.

use super::{BinaryGrad, Mul, binary, broadcast_element, cpu};
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::{self, Symbol};
use crate::ops::broadcast::{self, broadcast_shape};
use crate::ops::elementwise::{Expression, Scale, apply, apply_opencl, expression};
use neocog_base::Result;
use smallvec::smallvec;

/// `a / b`, with broadcasting as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Div;

/// `a^b`, with broadcasting as in NumPy. It has no gradient.
#[derive(Clone, Copy, Debug)]
pub struct PowTensor;

/// The larger of `a` and `b`, with broadcasting as in NumPy; NaN if either is. Equal numbers share the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Maximum;

/// The smaller of `a` and `b`, with broadcasting as in NumPy; NaN if either is. Equal numbers share the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Minimum;

/// 1 where `a > b`, 1/2 where they are equal, else 0: the derivative of [`Maximum`] by `a`.
#[derive(Clone, Copy, Debug)]
pub struct MaximumShare;

/// 1 where `a > b`, else 0, with broadcasting as in NumPy. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Gt;

/// 1 where `a >= b`, else 0, with broadcasting as in NumPy. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Ge;

/// 1 where `a == b`, else 0, with broadcasting as in NumPy. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Eq;

impl BinaryGrad for Div {
    const SAVES: SavedTensors = SavedTensors::NONE.inputs(&[1]).outputs(&[0]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        let quotient = run_single(&Div, &[node.output_grad(), node.input(1)])?;
        if position == 0 {
            return Ok(quotient);
        }
        let product = run_single(&Mul, &[&quotient, node.output(0)])?;
        run_single(&Scale { factor: -1.0 }, &[&product])
    }
}

impl BinaryGrad for Maximum {
    const SAVES: SavedTensors = SavedTensors::NONE.inputs(&[0, 1]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        let share = run_single(&MaximumShare, &[node.input(position), node.input(1 - position)])?;
        run_single(&Mul, &[node.output_grad(), &share])
    }
}

impl BinaryGrad for Minimum {
    const SAVES: SavedTensors = SavedTensors::NONE.inputs(&[0, 1]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        let share = run_single(&MaximumShare, &[node.input(1 - position), node.input(position)])?;
        run_single(&Mul, &[node.output_grad(), &share])
    }
}

/// Operations without a gradient.
macro_rules! not_differentiable {
    ($($op:ident)*) => {$(
        impl BinaryGrad for $op {
            const SAVES: SavedTensors = SavedTensors::NONE;
            fn grads(_node: &Gradient<'_>, _position: usize) -> Result<Tensor> {
                no_gradient(&$op)
            }
        }
    )*};
}
not_differentiable!(PowTensor MaximumShare Gt Ge Eq);

binary!(Div "div" (c; a, b) = a / b);
binary!(PowTensor "pow_tensor" (c; a, b) = a.pow(b));
// Where neither is larger, they are equal, or one is NaN: the sum of the halves is right for both.
binary!(Maximum "maximum" (c; a, b) = R::select_gt(a, b, a, R::select_gt(b, a, b, c(0.5) * a + c(0.5) * b)));
binary!(Minimum "minimum" (c; a, b) = R::select_gt(b, a, a, R::select_gt(a, b, b, c(0.5) * a + c(0.5) * b)));
binary!(MaximumShare "maximum_share" (c; a, b) = R::select_gt(a, b, c(1.0), R::select_gt(b, a, c(0.0), c(0.5))));
binary!(Gt "gt" (c; a, b) = R::select_gt(a, b, c(1.0), c(0.0)));
binary!(Ge "ge" (c; a, b) = R::select_gt(a, b, c(1.0), R::select_gt(b, a, c(0.0), {
    // Equal, or one is NaN, which is neither above -1 nor below 1.
    let is_number = |x| R::select_gt(x, c(-1.0), c(1.0), R::select_gt(c(1.0), x, c(1.0), c(0.0)));
    is_number(a) * is_number(b)
})));
binary!(Eq "eq" (c; a, b) = R::select_gt(a, b, c(0.0), R::select_gt(b, a, c(0.0), {
    let is_number = |x| R::select_gt(x, c(-1.0), c(1.0), R::select_gt(c(1.0), x, c(1.0), c(0.0)));
    is_number(a) * is_number(b)
})));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Device;

    #[test]
    fn nan_and_ties_are_as_in_pytorch() {
        let numbers = [f32::NEG_INFINITY, -1.0, 0.0, 2.5, f32::INFINITY, f32::NAN];
        for device in [Device::Cpu, Device::Reference] {
            let a = Tensor::from_f32([6, 1], &numbers, &device).unwrap();
            let b = Tensor::from_f32([6], &numbers, &device).unwrap();
            let of = |op: &dyn Op| run_single(op, &[&a, &b]).unwrap().to_f32().unwrap();
            let [max, min, gt, ge, eq] = [&Maximum as &dyn Op, &Minimum, &Gt, &Ge, &Eq].map(of);
            let pairs = numbers.iter().flat_map(|a| numbers.map(|b| (*a, b)));
            for (i, (a, b)) in pairs.enumerate() {
                let nan = a.is_nan() || b.is_nan();
                assert!(if nan { max[i].is_nan() } else { max[i] == a.max(b) }, "max {a} {b}: {}", max[i]);
                assert!(if nan { min[i].is_nan() } else { min[i] == a.min(b) }, "min {a} {b}: {}", min[i]);
                let truth = |is: bool| f32::from(u8::from(is));
                assert_eq!([gt[i], ge[i], eq[i]], [truth(a > b), truth(a >= b), truth(a == b)], "{a} {b}");
            }
            let shares = run_single(&MaximumShare, &[&b, &b]).unwrap().to_f32().unwrap();
            assert_eq!(shares[..5], [0.5; 5]);
        }
    }
}
