//! Resampling along an axis: adaptive pooling and upsampling.

mod axis_map;
mod cases;
mod cpu;

use std::sync::Arc;

use smallvec::smallvec;

pub use self::axis_map::AxisMap;
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, Window, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use neocog_base::{Error, Result};

/// Applies a linear map along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Resample {
    /// The axis; negative numbers count from the last axis.
    pub dim: isize,
    /// The map.
    pub map: AxisMap,
    /// Whether to apply the transposed map: the gradient.
    pub transposed: bool,
}

impl Resample {
    /// Returns the matrix of the map, for each output: the position of the first input and the weights of the inputs from there.
    pub fn rows(&self) -> Vec<(usize, Vec<f64>)> {
        let taps = self.map.taps(self.transposed);
        (0..taps.starts.len())
            .map(|output| {
                let (start, weights) = taps.of(output);
                (start, weights.to_vec())
            })
            .collect()
    }

    /// Returns the extents before, of and after the axis, for a valid input.
    fn extents(&self, x: &Shape) -> Result<[usize; 3]> {
        let axis = x.axis(self.dim)?;
        Ok([x[..axis].iter().product(), x[axis], x[axis + 1..].iter().product()])
    }
}

impl Op for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        let axis = x.axis(self.dim)?;
        let taps = self.map.taps(self.transposed);
        if x[axis] != taps.input {
            return Err(Error::shape(format!(
                "the map has {} inputs, but axis {axis} of {x} has {}",
                taps.input, x[axis]
            )));
        }
        Ok(smallvec![x.with_extent(axis, taps.starts.len())?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        let [_, extent, inner] = self.extents(x.shape).expect("checked by infer");
        let taps = self.map.taps(self.transposed);
        let count = taps.starts.len();
        for i in 0..out.data.len() {
            let (outer, o, k) = (i / inner / count, i / inner % count, i % inner);
            let (start, weights) = taps.of(o);
            let term = |(t, weight): (usize, &f64)| weight * x.data[(outer * extent + start + t) * inner + k];
            // Inputs past the end, or without a weight, are not seen: they may be no numbers.
            out.data[i] = weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0).map(term).sum();
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        if outputs[0].data.is_empty() {
            return;
        }
        let [_, extent, inner] = self.extents(inputs[0].shape).expect("checked by infer");
        let taps = self.map.taps(self.transposed);
        cpu::resample(taps, extent, inner, inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, out) = (call.input(0), call.output(0));
        let [_, extent, inner] = self.extents(x.shape)?;
        let taps = self.map.taps(self.transposed);
        let (starts, weights) = (call.scratch(taps.starts.len())?, call.scratch(taps.weights.len())?);
        starts.write(taps.starts.iter().map(|start| *start as f32).collect())?;
        weights.write(taps.weights.iter().map(|weight| *weight as f32).collect())?;
        let elements = out.buffer.len();
        let args = [
            x.into(),
            (&starts).into(),
            (&weights).into(),
            out.into(),
            extent.into(),
            taps.starts.len().into(),
            inner.into(),
            taps.width.into(),
            elements.into(),
        ];
        let source = Source::new("resample", include_str!("kernels.cl"));
        // SAFETY: `check_call` has compared shapes and buffers; the kernel stays within them and the tables of the map.
        unsafe { call.launch(&source, "resample", &args, Grid::line(elements)) }
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        let axis = inputs.first()?.axis(self.dim).ok()?;
        (only_first_is_batched(batched) && axis > 0).then(|| Arc::new(self.clone()) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let grad = Resample { transposed: !self.transposed, ..self.clone() };
        Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.output_grad()]))?])
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        // Windows of different sizes: the largest, in steps of the mean distance.
        let (x, axis) = (inputs.first()?, inputs.first()?.axis(self.dim).ok()?);
        x.nchw().ok()?;
        let taps = self.map.taps(self.transposed);
        let mut window = Window { kernel_size: [1, 1], stride: [1, 1], padding: [0, 0], dilation: [1, 1] };
        let along = axis.checked_sub(2)?;
        window.kernel_size[along] = taps.width;
        window.stride[along] = (taps.input / taps.starts.len()).max(1);
        Some(window)
    }
}
