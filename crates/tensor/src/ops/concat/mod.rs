//! Concatenation along an axis, and narrowing to a range of an axis.

mod cases;
mod opencl;

use std::sync::Arc;

use smallvec::smallvec;

use super::channel_blocks::ToChannelBlocks;
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{BlockForm, Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, copy, for_each_chunk};
use crate::memory::Scratch;
use crate::opencl::Call;
use neocog_base::{Error, Result};

/// Concatenates one or more inputs along axis `dim`; all other extents must be equal.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// The axis; negative numbers count from the last axis.
    pub dim: isize,
}

/// Takes the range `start .. start + len` of axis `dim`.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// The axis; negative numbers count from the last axis.
    pub dim: isize,
    /// First position of the range.
    pub start: usize,
    /// Length of the range.
    pub len: usize,
}

/// The gradient of [`Narrow`]: places its input at position `start` of axis `dim` in a tensor of zeros.
#[derive(Clone, Copy, Debug)]
pub struct NarrowGrad {
    /// The axis; negative numbers count from the last axis.
    pub dim: isize,
    /// Position of the input in the output.
    pub start: usize,
    /// Extent of the output along the axis.
    pub extent: usize,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let Some(first) = inputs.first() else {
            return Err(Error::invalid_argument("concat expects at least one input"));
        };
        let axis = first.axis(self.dim)?;
        let mut extent = 0usize;
        for (k, shape) in inputs.iter().enumerate() {
            if shape.rank() != first.rank() || shape.with_extent(axis, first[axis])? != *first {
                return Err(Error::shape(format!(
                    "inputs concatenated along axis {axis} must have equal extents along the other axes: input 0 is {first}, input {k} is {shape}"
                )));
            }
            extent = extent
                .checked_add(shape[axis])
                .ok_or_else(|| Error::shape(format!("the sum of the extents along axis {axis} overflows")))?;
        }
        Ok(smallvec![first.with_extent(axis, extent)?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let axis = inputs[0].shape.axis(self.dim).expect("checked by infer");
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
        check_views(self, inputs, outputs);
        let axis = inputs[0].shape.axis(self.dim).expect("checked by infer");
        let out = &mut outputs[0];
        if out.data.is_empty() {
            return;
        }
        let outer: usize = out.shape[..axis].iter().product();
        // Only positions of the first axis may be strided.
        let stride = if axis == 1 { out.batch_stride } else { out.shape.elements() / outer };
        for_each_chunk(out.data, (CHUNK / stride).max(1) * stride, |start, part| {
            for (r, to) in part.chunks_mut(stride).enumerate() {
                let mut at = 0;
                for x in inputs {
                    let len = x.shape.elements() / outer;
                    let from = (start / stride + r) * if axis == 1 { x.batch_stride } else { len };
                    copy(&x.data[from..from + len], &mut to[at..at + len]);
                    at += len;
                }
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let axis = call.input(0).shape.axis(self.dim)?;
        let outer: usize = call.output(0).shape[..axis].iter().product();
        let row = call.output(0).buffer.len() / outer;
        let mut at = 0;
        for x in call.inputs() {
            let len = x.buffer.len() / outer;
            opencl::copy_rows(
                call,
                opencl::Rows { start: 0, stride: len },
                opencl::Rows { start: at, stride: row },
                *x,
                outer,
                len,
            )?;
            at += len;
        }
        Ok(())
    }
    fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<BlockForm> {
        let lanes = ToChannelBlocks::default().lanes;
        let (_, others) = inputs.split_last()?;
        let fits = inputs.iter().all(|shape| shape.rank() == 4) && inputs[0].axis(self.dim).ok()? == 1;
        if !fits {
            return None;
        }
        let all_full = others.iter().all(|shape| shape[1].is_multiple_of(lanes));
        all_full.then(|| BlockForm::new(Arc::new(Concat { dim: 1 }), inputs.iter().map(|_| true)))
    }
    fn supports_batch_stride(&self) -> bool {
        self.dim == 1
    }
    fn concat_axis(&self, rank: usize) -> Option<usize> {
        let dim = if self.dim < 0 { self.dim + rank as isize } else { self.dim };
        usize::try_from(dim).ok().filter(|axis| *axis < rank)
    }
    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        let axis = inputs.first()?.axis(self.dim).ok()?;
        (!batched.contains(&false) && axis > 0).then(|| Arc::new(*self) as Arc<dyn Op>)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = node.input_shapes[0].axis(self.dim)?;
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
        let axis = x.axis(self.dim)?;
        if self.start.checked_add(self.len).is_none_or(|end| end > x[axis]) {
            return Err(Error::shape(format!(
                "a range of length {} at position {} exceeds axis {axis} of {x}",
                self.len, self.start
            )));
        }
        Ok(smallvec![x.with_extent(axis, self.len)?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        let axis = x.shape.axis(self.dim).expect("checked by infer");
        for i in 0..out.data.len() {
            let mut index = out.shape.unravel(i);
            index[axis] += self.start;
            out.data[i] = x.data[position(x.shape, &index)];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (x, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let axis = x.shape.axis(self.dim).expect("checked by infer");
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
        check_call(self, call)?;
        let x = call.input(0);
        let axis = x.shape.axis(self.dim)?;
        let outer: usize = x.shape[..axis].iter().product();
        let inner: usize = x.shape[axis + 1..].iter().product();
        let (len, from_row) = (self.len * inner, x.shape[axis] * inner);
        let from = opencl::Rows { start: self.start * inner, stride: from_row };
        opencl::copy_rows(call, from, opencl::Rows { start: 0, stride: len }, x, outer, len)
    }
    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        let axis = inputs.first()?.axis(self.dim).ok()?;
        (only_first_is_batched(batched) && axis > 0).then(|| Arc::new(*self) as Arc<dyn Op>)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = node.input_shapes[0].axis(self.dim)?;
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
        let axis = dy.axis(self.dim)?;
        if self.start.checked_add(dy[axis]).is_none_or(|end| end > self.extent) {
            return Err(Error::shape(format!(
                "{dy} at position {} exceeds axis {axis} of extent {}",
                self.start, self.extent
            )));
        }
        Ok(smallvec![dy.with_extent(axis, self.extent)?])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (dy, out) = (inputs[0], &mut outputs[0]);
        let axis = dy.shape.axis(self.dim).expect("checked by infer");
        out.data.fill(0.0);
        for i in 0..dy.data.len() {
            let mut index = dy.shape.unravel(i);
            index[axis] += self.start;
            out.data[position(out.shape, &index)] = dy.data[i];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (dy, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let axis = dy.shape.axis(self.dim).expect("checked by infer");
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
        check_call(self, call)?;
        let (dy, out) = (call.input(0), call.output(0));
        let axis = dy.shape.axis(self.dim)?;
        let outer: usize = dy.shape[..axis].iter().product();
        let inner: usize = dy.shape[axis + 1..].iter().product();
        let (len, row) = (dy.shape[axis] * inner, self.extent * inner);
        call.fill(out.buffer, 0.0)?;
        opencl::copy_rows(
            call,
            opencl::Rows { start: 0, stride: len },
            opencl::Rows { start: self.start * inner, stride: row },
            dy,
            outer,
            len,
        )
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let axis = node.input_shapes[0].axis(self.dim)?;
        let part = Narrow { dim: axis as isize, start: self.start, len: node.input_shapes[0][axis] };
        Ok(smallvec![node.if_needed(0, || run_single(&part, &[node.output_grad()]))?])
    }
}

fn position(shape: &Shape, index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |flat, (e, i)| flat * e + i)
}
