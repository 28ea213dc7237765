//! Reductions along the last axis other than sums.

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

/// What [`RowReduce`] computes of a row. NaN is larger and less than all numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowReduction {
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
    /// The product of all elements.
    Prod,
    /// The position of the largest element, the first of several.
    ArgMax,
    /// The position of the largest element, the last of several.
    LastArgMax,
    /// The position of the smallest element, the first of several.
    ArgMin,
    /// The position of the smallest element, the last of several.
    LastArgMin,
}

/// Reduces the last axis, which has at least one element. Input: `[.., n]`; output: `[..]`. It has no gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowReduce {
    /// What is computed.
    pub reduction: RowReduction,
}

/// Most elements of a row, whose positions are exact in single precision.
const LARGEST: usize = 1 << 24;

impl RowReduction {
    fn of<T: Copy + PartialOrd + std::ops::Mul<Output = T> + std::ops::Neg<Output = T>>(
        self,
        row: &[T],
    ) -> (T, usize) {
        use RowReduction as R;
        let (mut best, mut at) = (row[0], 0);
        for (i, &value) in row.iter().enumerate().skip(1) {
            #[allow(clippy::eq_op, reason = "NaN differs from itself")]
            let is_first_nan = value != value && best == best;
            let takes = match self {
                R::Prod => {
                    best = best * value;
                    false
                }
                R::Max | R::ArgMax => value > best,
                R::LastArgMax => value >= best,
                R::Min | R::ArgMin => value < best,
                R::LastArgMin => value <= best,
            };
            if takes || (is_first_nan && self != R::Prod) {
                (best, at) = (value, i);
            }
        }
        (best, at)
    }

    fn is_position(self) -> bool {
        !matches!(self, RowReduction::Max | RowReduction::Min | RowReduction::Prod)
    }
}

impl Op for RowReduce {
    fn name(&self) -> &'static str {
        "row_reduce"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        match x.extents() {
            [outer @ .., 1..=LARGEST] => Ok(smallvec![Shape::new(outer)?]),
            _ => Err(Error::shape(format!("expected [.., n] with n from 1 to {LARGEST}, found {x}"))),
        }
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let n = inputs[0].shape[inputs[0].shape.rank() - 1];
        for (row, out) in inputs[0].data.chunks_exact(n).zip(outputs[0].data.iter_mut()) {
            let (value, at) = self.reduction.of(row);
            *out = if self.reduction.is_position() { at as f64 } else { value };
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let x = inputs[0].data;
        let n = inputs[0].shape[inputs[0].shape.rank() - 1];
        for_each_chunk(outputs[0].data, (CHUNK / n).max(1), |start, part| {
            for (out, row) in part.iter_mut().zip(x[start * n..].chunks_exact(n)) {
                let (value, at) = self.reduction.of(row);
                *out = if self.reduction.is_position() { at as f32 } else { value };
            }
        });
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, out) = (call.input(0), call.output(0));
        let rows = out.buffer.len();
        let n = x.shape[x.shape.rank() - 1];
        let source =
            Source::new("row_reduce", include_str!("kernels.cl")).define("KIND", self.reduction as u8);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe {
            call.launch(
                &source,
                "row_reduce",
                &[x.into(), out.into(), n.into(), rows.into()],
                Grid::line(rows),
            )
        }
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        (only_first_is_batched(batched) && inputs[0].rank() > 1).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

register_op!("row_reduce", || {
    use RowReduction as R;
    let all = [R::Max, R::Min, R::Prod, R::ArgMax, R::LastArgMax, R::ArgMin, R::LastArgMin];
    let shapes: [&[usize]; 5] = [&[1], &[7], &[3, 5], &[0, 3], &[33, 17, 19]];
    let mut cases = Vec::new();
    for reduction in all {
        for shape in shapes {
            let shape = Shape::new(shape).expect("a small shape");
            let name = format!("{reduction:?} of {shape}");
            // Integers, some of which are equal.
            let input = if reduction == R::Prod {
                CaseInput::between(shape, 0.5, 1.5)
            } else {
                CaseInput::index(shape, 5)
            };
            cases.push(Case::new(name, RowReduce { reduction }, [input]).without_gradient());
        }
    }
    cases
});
