//! Addition followed by a ReLU.

use super::activation::ReluGrad;
use super::cases;
use super::expression::{Expression, apply, expression};
use super::op::{ElementwiseGrad, elementwise, same_shape};
use super::opencl::apply as apply_opencl;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use neocog_base::Result;

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
