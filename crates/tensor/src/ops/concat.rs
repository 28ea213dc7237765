//! Joining tensors along an axis, and taking a part along an axis: each is the other's gradient.

use smallvec::smallvec;

use super::axis_of;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::memory::Scratch;
use crate::opencl::{self, Call, Grid, Source};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// Joins its inputs, one or more, along axis `dim`; all other extents are the same.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// The axis; negative numbers count from the last.
    pub dim: isize,
}

/// The part `start .. start + len` along axis `dim`.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// The axis; negative numbers count from the last.
    pub dim: isize,
    /// The first position taken.
    pub start: usize,
    /// How many are taken.
    pub len: usize,
}

/// The gradient of [`Narrow`]: puts its input at `start` along axis `dim` of a tensor that is 0 elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct NarrowGrad {
    /// The axis; negative numbers count from the last.
    pub dim: isize,
    /// Where the input goes.
    pub start: usize,
    /// The result's extent along the axis.
    pub extent: usize,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let Some(first) = inputs.first() else {
            return Err(Error::invalid_argument("concat needs at least one input"));
        };
        let axis = axis_of(self.dim, first)?;
        let mut extent = 0usize;
        for (k, shape) in inputs.iter().enumerate() {
            if shape.rank() != first.rank() || shape.with_extent(axis, first[axis]) != *first {
                return Err(Error::shape(format!(
                    "inputs joined along axis {axis} must agree in all other extents: input 0 is {first}, input {k} is {shape}"
                )));
            }
            extent = extent.checked_add(shape[axis]).ok_or_else(|| {
                Error::shape(format!("the extents along axis {axis} add up to more than can be counted"))
            })?;
        }
        Ok(smallvec![Shape::new(first.with_extent(axis, extent).extents())?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let axis = axis_of(self.dim, inputs[0].shape).expect("checked by infer");
        let out = &mut outputs[0];
        for i in 0..out.data.len() {
            let mut index = out.shape.unravel(i);
            let mut k = 0;
            while index[axis] >= inputs[k].shape[axis] {
                index[axis] -= inputs[k].shape[axis];
                k += 1;
            }
            out.data[i] = inputs[k].data[position(inputs[k].shape, &index)];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let axis = axis_of(self.dim, inputs[0].shape).expect("checked by infer");
        let out = &mut outputs[0];
        if out.data.is_empty() {
            return;
        }
        let outer: usize = out.shape[..axis].iter().product();
        // Only rows along the first axis have gaps between them.
        let step = if axis == 1 { out.step } else { out.shape.elements() / outer };
        for_each_chunk(out.data, (CHUNK / step).max(1) * step, |start, part| {
            for (r, to) in part.chunks_mut(step).enumerate() {
                let mut at = 0;
                for x in inputs {
                    let len = x.shape.elements() / outer;
                    let from = (start / step + r) * if axis == 1 { x.step } else { len };
                    copy(&x.data[from..from + len], &mut to[at..at + len]);
                    at += len;
                }
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let axis = axis_of(self.dim, call.input(0).shape)?;
        let outer: usize = call.output(0).shape[..axis].iter().product();
        let row = call.output(0).buffer.len() / outer;
        let mut at = 0;
        for x in call.inputs() {
            let len = x.buffer.len() / outer;
            copy_rows(call, Rows { start: 0, step: len }, Rows { start: at, step: row }, *x, outer, len)?;
            at += len;
        }
        Ok(())
    }
    fn supports_batch_stride(&self) -> bool {
        self.dim == 1
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = axis_of(self.dim, &node.input_shapes[0])?;
        let mut start = 0;
        let mut grads = InputGrads::new();
        for (k, shape) in node.input_shapes.iter().enumerate() {
            let part = Narrow { dim: axis as isize, start, len: shape[axis] };
            grads.push(node.if_needed(k, || run_single(&part, &[node.output_grad()]))?);
            start += shape[axis];
        }
        Ok(grads)
    }
}

impl Op for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let axis = axis_of(self.dim, &x)?;
        if self.start.checked_add(self.len).is_none_or(|end| end > x[axis]) {
            return Err(Error::shape(format!(
                "cannot take {} from position {} along axis {axis} of {x}",
                self.len, self.start
            )));
        }
        Ok(smallvec![x.with_extent(axis, self.len)])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        let axis = axis_of(self.dim, x.shape).expect("checked by infer");
        for i in 0..out.data.len() {
            let mut index = out.shape.unravel(i);
            index[axis] += self.start;
            out.data[i] = x.data[position(x.shape, &index)];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let axis = axis_of(self.dim, x.shape).expect("checked by infer");
        let inner: usize = x.shape[axis + 1..].iter().product();
        let (row, from_row) = (self.len * inner, x.shape[axis] * inner);
        for_each_chunk(out.data, (CHUNK / row).max(1) * row, |start, part| {
            for (r, to) in part.chunks_exact_mut(row).enumerate() {
                let from = (start / row + r) * from_row + self.start * inner;
                copy(&x.data[from..from + row], to);
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let x = call.input(0);
        let axis = axis_of(self.dim, x.shape)?;
        let outer: usize = x.shape[..axis].iter().product();
        let inner: usize = x.shape[axis + 1..].iter().product();
        let (len, from_row) = (self.len * inner, x.shape[axis] * inner);
        let from = Rows { start: self.start * inner, step: from_row };
        copy_rows(call, from, Rows { start: 0, step: len }, x, outer, len)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = axis_of(self.dim, &node.input_shapes[0])?;
        let extent = node.input_shapes[0][axis];
        let grad = NarrowGrad { dim: axis as isize, start: self.start, extent };
        Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.output_grad()]))?])
    }
}

impl Op for NarrowGrad {
    fn name(&self) -> &'static str {
        "narrow_grad"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [dy] = expect_inputs::<1>(self, inputs)?;
        let axis = axis_of(self.dim, &dy)?;
        if self.start.checked_add(dy[axis]).is_none_or(|end| end > self.extent) {
            return Err(Error::shape(format!(
                "{dy} at position {} of axis {axis} does not fit into an extent of {}",
                self.start, self.extent
            )));
        }
        Ok(smallvec![Shape::new(dy.with_extent(axis, self.extent).extents())?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (dy, out) = (inputs[0], &mut outputs[0]);
        let axis = axis_of(self.dim, dy.shape).expect("checked by infer");
        out.data.fill(0.0);
        for i in 0..dy.data.len() {
            let mut index = dy.shape.unravel(i);
            index[axis] += self.start;
            out.data[position(out.shape, &index)] = dy.data[i];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (dy, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let axis = axis_of(self.dim, dy.shape).expect("checked by infer");
        let inner: usize = dy.shape[axis + 1..].iter().product();
        let (row, from_row) = (self.extent * inner, dy.shape[axis] * inner);
        for_each_chunk(out.data, (CHUNK / row).max(1) * row, |start, part| {
            for (r, to) in part.chunks_exact_mut(row).enumerate() {
                let from = (start / row + r) * from_row;
                let (before, rest) = to.split_at_mut(self.start * inner);
                let (middle, after) = rest.split_at_mut(from_row);
                before.fill(0.0);
                copy(&dy.data[from..from + from_row], middle);
                after.fill(0.0);
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let (dy, out) = (call.input(0), call.output(0));
        let axis = axis_of(self.dim, dy.shape)?;
        let outer: usize = dy.shape[..axis].iter().product();
        let inner: usize = dy.shape[axis + 1..].iter().product();
        let (len, row) = (dy.shape[axis] * inner, self.extent * inner);
        call.fill(out.buffer, 0.0)?;
        copy_rows(
            call,
            Rows { start: 0, step: len },
            Rows { start: self.start * inner, step: row },
            dy,
            outer,
            len,
        )
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = axis_of(self.dim, &node.input_shapes[0])?;
        let part = Narrow { dim: axis as isize, start: self.start, len: node.input_shapes[0][axis] };
        Ok(smallvec![node.if_needed(0, || run_single(&part, &[node.output_grad()]))?])
    }
}

/// Copies, on all threads where it is much.
pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    for_each_chunk(to, 4 * CHUNK, |start, part| part.copy_from_slice(&from[start..start + part.len()]));
}

/// Rows within a buffer: where the first starts, and how far it is from one to the next.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    step: usize,
}

/// Copies `rows` rows of `len` elements of `x` to the output.
fn copy_rows(
    call: &Call<'_>,
    from: Rows,
    to: Rows,
    x: opencl::View<'_>,
    rows: usize,
    len: usize,
) -> Result<()> {
    let args = [
        x.into(),
        from.start.into(),
        from.step.into(),
        call.output(0).into(),
        to.start.into(),
        to.step.into(),
        rows.into(),
        len.into(),
    ];
    let source = Source::new("concat", include_str!("concat/kernels.cl"));
    call.launch(&source, "copy_rows", &args, Grid::line(rows * len.div_ceil(call.width())))
}

fn position(shape: &Shape, index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |flat, (e, i)| flat * e + i)
}

register_op!("concat", || {
    let case = |name: &str, dim, shapes: &[&[usize]]| {
        let inputs = shapes.iter().map(|s| CaseInput::uniform(Shape::new(s).expect("a small shape")));
        Case::new(name, Concat { dim }, inputs)
    };
    vec![
        case("one input", 1, &[&[2, 3]]),
        case("vectors", 0, &[&[2], &[1], &[5]]),
        case("channels", 1, &[&[2, 3, 4, 5], &[2, 1, 4, 5], &[2, 6, 4, 5]]),
        case("batch", 0, &[&[2, 3, 4], &[1, 3, 4]]),
        case("last axis", -1, &[&[2, 3, 4], &[2, 3, 1]]),
        case("an empty input", 1, &[&[2, 3], &[2, 0], &[2, 2]]),
        case("empty batch", 1, &[&[0, 3, 2, 2], &[0, 1, 2, 2]]),
        case("large rows", 0, &[&[3, CHUNK], &[7, CHUNK]]).without_gradient(),
        case("DenseNet", 1, &[&[32, 64, 28, 28], &[32, 32, 28, 28]]).timed(),
    ]
});

register_op!("narrow", || {
    let case = |name: &str, dim, start, len, shape: &[usize]| {
        Case::new(
            name,
            Narrow { dim, start, len },
            [CaseInput::uniform(Shape::new(shape).expect("a small shape"))],
        )
    };
    vec![
        case("all", 0, 0, 5, &[5]),
        case("nothing", 1, 2, 0, &[2, 3]),
        case("channels", 1, 2, 3, &[2, 6, 3, 4]),
        case("last axis", -1, 1, 2, &[2, 3, 4]),
        case("large", 1, CHUNK, CHUNK, &[3, 3 * CHUNK]).without_gradient(),
    ]
});

register_op!("narrow_grad", || {
    let case = |name: &str, dim, start, extent, shape: &[usize]| {
        Case::new(
            name,
            NarrowGrad { dim, start, extent },
            [CaseInput::uniform(Shape::new(shape).expect("a small shape"))],
        )
    };
    vec![
        case("all", 0, 0, 5, &[5]),
        case("nothing", 1, 2, 3, &[2, 0]),
        case("channels", 1, 2, 6, &[2, 3, 3, 4]),
        case("last axis", -1, 1, 4, &[2, 3, 2]),
        case("large", 1, CHUNK, 3 * CHUNK, &[3, CHUNK]).without_gradient(),
    ]
});
