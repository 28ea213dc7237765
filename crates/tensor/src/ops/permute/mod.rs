//! Permutation of axes.

mod cases;
mod cpu;
mod opencl;
mod walk;

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use self::walk::Walk;
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::{Error, Result};

/// Reorders the axes, as PyTorch's `permute`: axis `i` of the output is axis `dims[i]` of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permute {
    /// For each axis of the output, the axis of the input; each axis exactly once.
    pub dims: SmallVec<[usize; Shape::MAX_RANK]>,
}

impl Permute {
    /// Creates a permutation.
    pub fn new(dims: &[usize]) -> Self {
        Permute { dims: dims.into() }
    }

    /// Returns the permutation that undoes this one, whose axes are valid.
    fn inverse(&self) -> Self {
        let mut dims = self.dims.clone();
        self.dims.iter().enumerate().for_each(|(to, from)| dims[*from] = to);
        Permute { dims }
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if sorted.len() != x.rank() || sorted.iter().enumerate().any(|(i, dim)| i != *dim) {
            return Err(Error::shape(format!(
                "dims must contain each axis of {x} once, they are {:?}",
                self.dims.as_slice()
            )));
        }
        let extents: SmallVec<[usize; Shape::MAX_RANK]> = self.dims.iter().map(|&axis| x[axis]).collect();
        Ok(smallvec![Shape::new(&extents)?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        for i in 0..out.data.len() {
            let index = out.shape.unravel(i);
            let mut from = [0; Shape::MAX_RANK];
            self.dims.iter().zip(index).for_each(|(&axis, at)| from[axis] = at);
            out.data[i] = x.data[x.shape.iter().zip(from).fold(0, |flat, (extent, at)| flat * extent + at)];
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        if !outputs[0].data.is_empty() {
            cpu::permute(&Walk::new(&self.dims, inputs[0].shape), inputs[0].data, outputs[0].data);
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::permute(call, &Walk::new(&self.dims, call.input(0).shape))
    }

    fn split_batch(&self, _inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        (only_first_is_batched(batched) && self.dims.first() == Some(&0))
            .then(|| Arc::new(self.clone()) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(&self.inverse(), &[node.output_grad()]))?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_axes_are_errors() {
        for dims in [&[0, 1][..], &[0, 0, 1], &[1, 2, 3]] {
            let error = Permute::new(dims).infer(&[Shape::from([2, 3, 4])]).unwrap_err().to_string();
            assert!(error.contains("each axis of [2, 3, 4] once"), "{error}");
        }
    }
}
