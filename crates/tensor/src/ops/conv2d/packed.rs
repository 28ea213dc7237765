//! A convolution whose weight stays the same from run to run.

use super::{Conv2d, cpu};
use crate::error::Result;
use crate::memory::{Buffer, Scratch};
use crate::op::{Gradient, InputGrads, Keeps, Op, Window};
use crate::opencl::Call;
use crate::shape::{Shape, Shapes};
use crate::view::{View, ViewMut};

/// [`Conv2d`] for pictures of one shape and one weight, which is kept in the order in which the CPU's kernel uses it: packed, or
/// taken to the points of Winograd's way. Its inputs are those of the convolution.
#[derive(Debug)]
pub(crate) struct PackedConv2d {
    op: Conv2d,
    x: Shape,
    packed: Packed,
}

/// A buffer that prints as its length.
struct Packed(Buffer);

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} floats", self.0.len())
    }
}

impl PackedConv2d {
    /// `op` of pictures of the shape `x`, and of `weight`, on the CPU.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn new(op: Conv2d, x: Shape, weight: View<'_, f32>) -> Result<Self> {
        let y = op.infer(&[x, *weight.shape])?[0];
        let p = op.geometry().problem(&x, weight.shape, &y);
        Ok(PackedConv2d { op, x, packed: Packed(cpu::pack(&p, weight.data, &Scratch::new())) })
    }
}

impl Op for PackedConv2d {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        self.op.infer(inputs)
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        self.op.reference(inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        assert_eq!(*inputs[0].shape, self.x, "the weight was packed for pictures of this shape");
        let p = self.op.geometry().problem(inputs[0].shape, inputs[1].shape, outputs[0].shape);
        self.op.cpu_packed(&p, &self.packed.0, inputs, outputs, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        self.op.opencl(call)
    }

    fn takes_gaps(&self) -> bool {
        self.op.takes_gaps()
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        self.op.window(inputs)
    }

    fn keeps(&self) -> Keeps {
        self.op.keeps()
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        self.op.grad(node)
    }

    fn multiply_adds(&self, inputs: &[Shape], outputs: &[Shape]) -> u64 {
        self.op.multiply_adds(inputs, outputs)
    }
}
