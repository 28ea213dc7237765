//! Binary operations with broadcasting.

mod cases;
mod compare;
mod cpu;

pub use compare::{Div, Eq, Ge, Gt, Maximum, MaximumShare, Minimum, PowTensor};

use std::sync::Arc;

use smallvec::smallvec;

use super::broadcast::{self, broadcast_shape};
use super::elementwise::{AddRelu, Expression, Relu, Scale, apply, apply_opencl, expression};
use super::reduce::SumTo;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::{self, Symbol};
use neocog_base::Result;

/// `a + b`, with broadcasting as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Add;

/// `a - b`, with broadcasting as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Sub;

/// `a * b` (elementwise), with broadcasting as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Mul;

/// Parametric rectified linear unit: `x` if `x > 0`, else `slope * x`. Inputs: `x` and `slope`, with broadcasting as in NumPy. K. He
/// et al., "Delving deep into rectifiers", ICCV 2015.
#[derive(Clone, Copy, Debug)]
pub struct PRelu;

/// The derivative of [`PRelu`] by its first input: 1 if `x > 0`, else `slope`. Inputs: those of [`PRelu`].
#[derive(Clone, Copy, Debug)]
pub struct PReluSlope;

/// Gradients of a binary operation, in the shape of the result.
trait BinaryGrad {
    const SAVES: SavedTensors;
    const MULTIPLIES: bool = false;
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor>;

    /// Returns the operation with this activation.
    fn with_activation(_activation: Activation) -> Option<Arc<dyn Op>> {
        None
    }
}

impl BinaryGrad for Add {
    const SAVES: SavedTensors = SavedTensors::NONE;
    fn grads(node: &Gradient<'_>, _position: usize) -> Result<Tensor> {
        Ok(node.output_grad().clone())
    }

    fn with_activation(activation: Activation) -> Option<Arc<dyn Op>> {
        // Of the same shape: it does not broadcast.
        (activation == Activation::Relu).then(|| Arc::new(AddRelu) as Arc<dyn Op>)
    }
}

impl BinaryGrad for Sub {
    const SAVES: SavedTensors = SavedTensors::NONE;
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        if position == 0 {
            Ok(node.output_grad().clone())
        } else {
            run_single(&Scale { factor: -1.0 }, &[node.output_grad()])
        }
    }
}

impl BinaryGrad for Mul {
    const MULTIPLIES: bool = true;
    const SAVES: SavedTensors = SavedTensors::NONE.inputs(&[0, 1]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        run_single(&Mul, &[node.output_grad(), node.input(1 - position)])
    }
}

impl BinaryGrad for PRelu {
    const SAVES: SavedTensors = SavedTensors::NONE.inputs(&[0, 1]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        let (x, dy) = (node.input(0), node.output_grad());
        if position == 0 {
            return run_single(&Mul, &[dy, &run_single(&PReluSlope, &[x, node.input(1)])?]);
        }
        // The negative part of x.
        let magnitude = run_single(&Relu, &[&run_single(&Scale { factor: -1.0 }, &[x])?])?;
        run_single(&Mul, &[dy, &run_single(&Scale { factor: -1.0 }, &[&magnitude])?])
    }
}

impl BinaryGrad for PReluSlope {
    const SAVES: SavedTensors = SavedTensors::NONE;
    fn grads(_node: &Gradient<'_>, _position: usize) -> Result<Tensor> {
        no_gradient(&PReluSlope)
    }
}

/// Implements [`Op`] by an expression of two numbers.
macro_rules! binary {
    ($op:ident $name:literal ($c:ident; $a:ident, $b:ident) = $value:expr) => {
        expression!($op ($c; $a, $b) = $value);

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let inputs = expect_inputs::<2>(self, inputs)?;
                Ok(smallvec![broadcast_shape(&inputs)?])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                let out = &mut outputs[0];
                for i in 0..out.data.len() {
                    let index = out.shape.unravel(i);
                    out.data[i] = Self::eval([broadcast_element(&inputs[0], &index), broadcast_element(&inputs[1], &index)]);
                }
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                check_views(self, inputs, outputs);
                if inputs[0].shape == inputs[1].shape {
                    apply::<Self, 2>([inputs[0].data, inputs[1].data], outputs[0].data);
                } else {
                    cpu::apply_broadcast::<Self>(inputs, &mut outputs[0]);
                }
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                check_call(self, call)?;
                if call.input(0).shape == call.input(1).shape {
                    apply_opencl::<2, 0, 1>(call, concat!($name, "_elements"), |args, []| [Self::eval(args)])
                } else {
                    let formula = formula::function("formula", Self::eval::<Symbol>);
                    broadcast::opencl::apply::<2>(call, concat!($name, "_broadcast"), &formula)
                }
            }
            fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<std::sync::Arc<dyn $crate::Op>> {
                ($crate::batch::broadcasting_keeps_images(inputs, batched)).then(|| std::sync::Arc::new(*self) as std::sync::Arc<dyn $crate::Op>)
            }
            fn saves(&self) -> SavedTensors {
                <Self as BinaryGrad>::SAVES
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                $crate::ops::arithmetic::binary_grad::<Self>(node)
            }
            fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<$crate::BlockForm> {
                $crate::BlockForm::elementwise(std::sync::Arc::new(*self), inputs)
            }
            fn multiplies(&self) -> bool {
                <Self as BinaryGrad>::MULTIPLIES
            }
            fn absorb(&self, next: &dyn Op, _pass: $crate::Pass) -> Option<std::sync::Arc<dyn Op>> {
                <Self as BinaryGrad>::with_activation(next.activation()?)
            }
        }
    };
}

use binary;

binary!(Add "add" (c; a, b) = a + b);
binary!(Sub "sub" (c; a, b) = a - b);
binary!(Mul "mul" (c; a, b) = a * b);
binary!(PRelu "prelu" (c; x, slope) = R::select_gt(x, c(0.0), x, slope * x));
binary!(PReluSlope "prelu_slope" (c; x, slope) = R::select_gt(x, c(0.0), c(1.0), slope));

fn binary_grad<B: BinaryGrad>(node: &Gradient<'_>) -> Result<InputGrads> {
    (0..2)
        .map(|k| {
            node.if_needed(k, || {
                let grad = B::grads(node, k)?;
                let shape = node.input_shapes[k];
                if *grad.shape() == shape { Ok(grad) } else { run_single(&SumTo { shape }, &[&grad]) }
            })
        })
        .collect()
}

/// Returns an element of a broadcast input.
fn broadcast_element(view: &View<'_, f64>, index: &[usize]) -> f64 {
    let own = &index[index.len() - view.shape.rank()..];
    let flat = view.shape.iter().zip(own).fold(0, |flat, (&e, &i)| flat * e + if e == 1 { 0 } else { i });
    view.data[flat]
}
