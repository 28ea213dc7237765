//! Multiplication by a constant.

use std::sync::Arc;

use smallvec::smallvec;

use super::map::{self, ElementwiseMap};
use crate::core::batch::broadcasting_keeps_images;
use crate::core::check::{check_call, check_views};
use crate::core::op::BlockForm;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::Result;

/// `y = factor * x`.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The constant.
    pub factor: f64,
}

impl ElementwiseMap<1, 1> for Scale {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], _old: [R; 1]) -> [R; 1] {
        [R::constant(self.factor) * x]
    }
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
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
        // The output is not state: its old value is not read.
        super::opencl::apply::<1, 0, 1>(call, self.name(), |x, []| self.eval(x, x))
    }
    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        BlockForm::elementwise(Arc::new(*self), inputs)
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        broadcasting_keeps_images(inputs, batched).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(self, &[node.output_grad()]))?])
    }
}
