//! Reductions, and expansion by broadcasting.

mod cases;
mod cpu;
pub(super) mod opencl;

use std::sync::Arc;

use smallvec::smallvec;

use super::Scale;
use super::broadcast::{self, Strided, expect_broadcasts};
use crate::core::batch::shape_of_part;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::{self, Symbol};
use neocog_base::Result;

/// The sum of all elements. Output: a scalar.
#[derive(Clone, Copy, Debug)]
pub struct Sum;

/// The mean of all elements; NaN for a tensor without elements. Output: a scalar.
#[derive(Clone, Copy, Debug)]
pub struct Mean;

/// Sums along the axes that broadcasting from `shape` to the input's shape repeats. This is the gradient of [`Expand`].
#[derive(Clone, Copy, Debug)]
pub struct SumTo {
    /// Shape of the output, which must broadcast to the input's.
    pub shape: Shape,
}

/// Broadcasts the input to `shape`.
#[derive(Clone, Copy, Debug)]
pub struct Expand {
    /// Shape of the output.
    pub shape: Shape,
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        expect_inputs::<1>(self, inputs)?;
        Ok(smallvec![Shape::scalar()])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data[0] = inputs[0].data.iter().sum();
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        outputs[0].data[0] = cpu::sum(inputs[0].data) as f32;
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::sum(call, call.input(0), call.output(0), 1.0)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let expand = Expand { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&expand, &[node.output_grad()]))?])
    }
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        expect_inputs::<1>(self, inputs)?;
        Ok(smallvec![Shape::scalar()])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data[0] = inputs[0].data.iter().sum::<f64>() / inputs[0].data.len() as f64;
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        outputs[0].data[0] = (cpu::sum(inputs[0].data) / inputs[0].data.len() as f64) as f32;
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let n = call.input(0).buffer.len();
        if n == 0 {
            return call.fill(call.output(0).buffer, f32::NAN);
        }
        opencl::sum(call, call.input(0), call.output(0), 1.0 / n as f32)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let shape = node.input_shapes[0];
        Ok(smallvec![node.if_needed(0, || {
            let scaled = run_single(&Scale { factor: 1.0 / shape.elements() as f64 }, &[node.output_grad()])?;
            run_single(&Expand { shape }, &[&scaled])
        })?])
    }
}

impl Op for SumTo {
    fn name(&self) -> &'static str {
        "sum_to"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        expect_broadcasts(&self.shape, &x)?;
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        out.data.fill(0.0);
        for (i, value) in x.data.iter().enumerate() {
            out.data[broadcast_position(out.shape, &x.shape.unravel(i))] += value;
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        cpu::sum_to(inputs[0], &mut outputs[0]);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        opencl::sum(call, call.input(0), call.output(0), 1.0)
    }
    fn split_batch(&self, inputs: &[Shape], batched: &[bool], images: usize) -> Option<Arc<dyn Op>> {
        let shape = shape_of_part(&self.shape, inputs, batched, images)?;
        (inputs[0].rank() == shape.rank()).then(|| Arc::new(SumTo { shape }) as Arc<dyn Op>)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let expand = Expand { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&expand, &[node.output_grad()]))?])
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        expect_broadcasts(&x, &self.shape)?;
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        for i in 0..out.data.len() {
            out.data[i] = x.data[broadcast_position(x.shape, &out.shape.unravel(i))];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (x, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let walk = Strided::new(out.shape, [x.shape]);
        let inner = walk.inner();
        for_each_chunk(out.data, (CHUNK / inner).max(1) * inner, |start, part| {
            for (r, row) in part.chunks_exact_mut(inner).enumerate() {
                let [from] = walk.starts(start / inner + r);
                match walk.inner_strides() {
                    [0] => row.fill(x.data[from]),
                    _ => row.copy_from_slice(&x.data[from..from + inner]),
                }
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        broadcast::opencl::apply::<1>(call, "expand", &formula::function("formula", |[x]: [Symbol; 1]| x))
    }
    fn split_batch(&self, inputs: &[Shape], batched: &[bool], images: usize) -> Option<Arc<dyn Op>> {
        let shape = shape_of_part(&self.shape, inputs, batched, images)?;
        (inputs[0].rank() == shape.rank()).then(|| Arc::new(Expand { shape }) as Arc<dyn Op>)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let sum_to = SumTo { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&sum_to, &[node.output_grad()]))?])
    }
}

/// Returns the position in `shape` of an element of a shape to which it broadcasts.
fn broadcast_position(shape: &Shape, index: &[usize]) -> usize {
    let own = &index[index.len() - shape.rank()..];
    shape.iter().zip(own).fold(0, |flat, (&e, &i)| flat * e + if e == 1 { 0 } else { i })
}
