//! In-place addition.

use smallvec::smallvec;

use super::map::{self, ElementwiseMap};
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::Result;

/// Adds its input to its state, in place. Sums the gradients of a tensor that was used more than once.
#[derive(Clone, Copy, Debug)]
pub struct Accumulate;

impl ElementwiseMap<1, 1> for Accumulate {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], [sum]: [R; 1]) -> [R; 1] {
        [sum + x]
    }
}

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        Ok(smallvec![expect_inputs::<1>(self, inputs)?[0]])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        map::reference(self, inputs, outputs);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        map::cpu::<Self, 1, 1>(*self, inputs, outputs);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        map::opencl::<Self, 1, 1>(*self, self.name(), call)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
    fn state_outputs(&self) -> usize {
        1
    }
}
