//! Reshaping.

mod cases;

use std::sync::Arc;

use smallvec::smallvec;

use crate::core::batch::{only_first_is_batched, shape_of_part};
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, Window, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::copy;
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::text::count;
use neocog_base::{Error, Result};

/// Changes the shape, as [`Tensor::reshape`](crate::Tensor::reshape), in a form that can be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Reshape {
    /// Shape of the output.
    pub shape: Shape,
}

/// Merges the axes `start_dim ..= end_dim`, where negative numbers count from the last axis.
///
/// As PyTorch's `Flatten(start_dim, end_dim)`, whose defaults are 1 and -1. A scalar becomes a vector of one element.
#[derive(Clone, Copy, Debug)]
pub struct Flatten {
    /// First merged axis.
    pub start_dim: isize,
    /// Last merged axis.
    pub end_dim: isize,
}

impl Flatten {
    /// Returns the flattened shape.
    ///
    /// # Errors
    /// If there is no such axis, or `start_dim` is greater than `end_dim`.
    pub fn flattened(&self, shape: &Shape) -> Result<Shape> {
        if shape.rank() == 0 {
            let one = Shape::from([1]);
            one.axis(self.start_dim)?;
            one.axis(self.end_dim)?;
            return Ok(one);
        }
        let (start, end) = (shape.axis(self.start_dim)?, shape.axis(self.end_dim)?);
        if start > end {
            return Err(Error::invalid_argument(format!(
                "start_dim {} is greater than end_dim {} for the shape {shape}",
                self.start_dim, self.end_dim
            )));
        }
        let mut extents = shape[..start].to_vec();
        extents.push(shape[start..=end].iter().product());
        extents.extend_from_slice(&shape[end + 1..]);
        Shape::new(&extents)
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        if x.elements() != self.shape.elements() {
            return Err(Error::shape(format!(
                "a tensor of shape {x} has {} and cannot become {}, which has {}",
                count(x.elements(), "element"),
                self.shape,
                self.shape.elements()
            )));
        }
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data.copy_from_slice(inputs[0].data);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        copy(inputs[0].data, outputs[0].data);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        call.copy(call.input(0).buffer, call.output(0).buffer)
    }
    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        Window::whole(&inputs[0])
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], images: usize) -> Option<Arc<dyn Op>> {
        let shape = shape_of_part(&self.shape, inputs, batched, images)?;
        Some(Arc::new(Reshape { shape }))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        reshape_grad(node)
    }
    fn reshapes(&self) -> bool {
        true
    }
}

impl Op for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        Ok(smallvec![self.flattened(&x)?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data.copy_from_slice(inputs[0].data);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        copy(inputs[0].data, outputs[0].data);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        call.copy(call.input(0).buffer, call.output(0).buffer)
    }
    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        Window::whole(&inputs[0])
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        let start = inputs.first()?.axis(self.start_dim).ok()?;
        (only_first_is_batched(batched) && start > 0).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        reshape_grad(node)
    }
    fn reshapes(&self) -> bool {
        true
    }
}

fn reshape_grad(node: &Gradient<'_>) -> Result<InputGrads> {
    let shape = node.input_shapes[0];
    Ok(smallvec![node.if_needed(0, || run_single(&Reshape { shape }, &[node.output_grad()]))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_shapes_are_errors() {
        let shape = Shape::from([2, 3, 4]);
        let flatten = |start_dim, end_dim| Flatten { start_dim, end_dim }.flattened(&shape);
        assert_eq!(flatten(-2, -1).unwrap(), Shape::from([2, 12]));
        assert!(flatten(2, 1).is_err());
        assert!(flatten(0, 3).is_err());
        assert!(flatten(-4, 1).is_err());
        assert!(Reshape { shape: Shape::from([5]) }.infer(&[shape]).is_err());
    }
}
