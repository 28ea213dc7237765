//! Selection of positions along an axis.

use std::sync::Arc;

use smallvec::smallvec;

use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// Takes the given positions along axis `dim`, in their order, as PyTorch's `index_select`. It has no gradient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSelect {
    /// The axis; negative numbers count from the last axis.
    pub dim: isize,
    /// The positions.
    pub indices: Arc<[usize]>,
}

/// Largest extent of the axis: kernels on OpenCL devices hold positions as floats.
const LARGEST: usize = 1 << 24;

impl IndexSelect {
    /// Returns the extent of the axis and the number of elements at one of its positions, for a valid input.
    fn sizes(&self, x: &Shape) -> Result<[usize; 2]> {
        let axis = x.axis(self.dim)?;
        Ok([x[axis], x[axis + 1..].iter().product()])
    }
}

impl Op for IndexSelect {
    fn name(&self) -> &'static str {
        "index_select"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let axis = x.axis(self.dim)?;
        if let Some(index) = self.indices.iter().find(|index| **index >= x[axis]) {
            return Err(Error::shape(format!("there is no position {index} along axis {axis} of {x}")));
        }
        if x[axis] > LARGEST {
            return Err(Error::shape(format!("axis {axis} of {x} has more than {LARGEST} positions")));
        }
        Ok(smallvec![x.with_extent(axis, self.indices.len())?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        let [extent, inner] = self.sizes(x.shape).expect("checked by infer");
        for i in 0..out.data.len() {
            let row = i / inner;
            let index = self.indices[row % self.indices.len()];
            out.data[i] = x.data[(row / self.indices.len() * extent + index) * inner + i % inner];
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (x, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let [extent, inner] = self.sizes(x.shape).expect("checked by infer");
        let count = self.indices.len();
        for_each_chunk(out.data, (CHUNK / inner).max(1) * inner, |start, part| {
            for (r, to) in part.chunks_exact_mut(inner).enumerate() {
                let row = start / inner + r;
                let from = (row / count * extent + self.indices[row % count]) * inner;
                to.copy_from_slice(&x.data[from..from + inner]);
            }
        });
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, out) = (call.input(0), call.output(0));
        let [extent, inner] = self.sizes(x.shape)?;
        let indices = call.scratch(self.indices.len())?;
        indices.write(self.indices.iter().map(|index| *index as f32).collect())?;
        let elements = out.buffer.len();
        let args = [
            x.into(),
            (&indices).into(),
            out.into(),
            extent.into(),
            self.indices.len().into(),
            inner.into(),
            elements.into(),
        ];
        let source = Source::new("index_select", include_str!("kernels.cl"));
        // SAFETY: `check_call` has compared shapes and buffers, and `infer` the indices with the extent.
        unsafe { call.launch(&source, "index_select", &args, Grid::line(elements)) }
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        let axis = inputs.first()?.axis(self.dim).ok()?;
        (only_first_is_batched(batched) && axis > 0).then(|| Arc::new(self.clone()) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

register_op!("index_select", || {
    let case = |name: &str, dim, indices: &[usize], shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        Case::new(name, IndexSelect { dim, indices: indices.into() }, [CaseInput::uniform(shape)])
            .without_gradient()
    };
    vec![
        case("a vector, reversed", 0, &[4, 3, 2, 1, 0], &[5]),
        case("rows, some twice", 1, &[0, 2, 2, 1], &[2, 3, 4]),
        case("columns", -1, &[1, 6], &[2, 3, 7]),
        case("nothing", 1, &[], &[2, 3, 7]),
        case("empty", 1, &[2], &[0, 3, 7]),
        case("many", 1, &[5, 0, 3], &[40, 7, 33, 31]),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_do_not_exist_are_errors() {
        let select = IndexSelect { dim: 1, indices: [0, 3].into() };
        let error = select.infer(&[Shape::from([2, 3])]).unwrap_err().to_string();
        assert!(error.contains("no position 3 along axis 1"), "{error}");
        assert!(select.infer(&[Shape::from([2])]).is_err());
    }
}
