//! The layout, and the operations that bring feature maps into it and out of it.

use smallvec::smallvec;

use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::instruction_set;
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use neocog_base::{Error, Result};

/// Brings a feature map into blocks of `lanes` channels. Input: `[n, c, h, w]`; output: `[n, ceil(c / lanes), h, w, lanes]`, with
/// zeros behind the last channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToChannelBlocks {
    /// Number of channels of a block.
    pub lanes: usize,
}

impl Default for ToChannelBlocks {
    /// Blocks of as many channels as a vector of this machine's CPU has lanes.
    fn default() -> Self {
        ToChannelBlocks { lanes: instruction_set().1 }
    }
}

/// The inverse of [`ToChannelBlocks`]. Input: `[n, ceil(channels / lanes), h, w, lanes]`; output: `[n, channels, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FromChannelBlocks {
    /// Number of channels.
    pub channels: usize,
}

/// Returns the shape of a feature map in blocks.
pub(crate) fn to_blocks(x: &Shape, lanes: usize) -> Result<Shape> {
    let [n, c, h, w] = x.nchw()?;
    if lanes == 0 {
        return Err(Error::invalid_argument("a block has at least one channel"));
    }
    Shape::new(&[n, c.div_ceil(lanes), h, w, lanes])
}

/// Returns the shape of a feature map of `channels` that is in blocks.
pub(super) fn from_blocks(x: &Shape, channels: usize) -> Result<Shape> {
    match *x.extents() {
        [n, blocks, h, w, lanes] if lanes > 0 && channels.div_ceil(lanes) == blocks => {
            Shape::new(&[n, channels, h, w])
        }
        _ => Err(Error::shape(format!("{x} is not a feature map of {channels} channels in blocks"))),
    }
}

/// Where the elements of a feature map are in blocks.
#[derive(Clone, Copy)]
pub(super) struct Positions {
    channels: usize,
    pixels: usize,
    lanes: usize,
}

impl Positions {
    pub fn of(x: &Shape, lanes: usize) -> Self {
        Positions { channels: x[1], pixels: x[2] * x[3], lanes }
    }

    /// Returns the position in blocks of the element at a position of `[n, c, h, w]`.
    pub fn in_blocks(self, at: usize) -> usize {
        let Positions { channels, pixels, lanes } = self;
        let (pixel, channel, image) = (at % pixels, at / pixels % channels, at / pixels / channels);
        ((image * channels.div_ceil(lanes) + channel / lanes) * pixels + pixel) * lanes + channel % lanes
    }
}

impl Op for ToChannelBlocks {
    fn name(&self) -> &'static str {
        "to_channel_blocks"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        Ok(smallvec![to_blocks(&x, self.lanes)?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let positions = Positions::of(inputs[0].shape, self.lanes);
        outputs[0].data.fill(0.0);
        inputs[0].data.iter().enumerate().for_each(|(at, x)| outputs[0].data[positions.in_blocks(at)] = *x);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        super::cpu::to_blocks(&inputs[0], self.lanes, &mut outputs[0]);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let pixels = x.shape[2] * x.shape[3];
        let args =
            [x.into(), y.into(), y.buffer.len().into(), x.shape[1].into(), pixels.into(), self.lanes.into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&program(), "to_channel_blocks", &args, Grid::line(y.buffer.len())) }
    }

    fn supports_batch_stride(&self) -> bool {
        true
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let back = FromChannelBlocks { channels: node.input_shapes[0][1] };
        Ok(smallvec![node.if_needed(0, || run_single(&back, &[node.output_grad()]))?])
    }
}

impl Op for FromChannelBlocks {
    fn name(&self) -> &'static str {
        "from_channel_blocks"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        Ok(smallvec![from_blocks(&x, self.channels)?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let positions = Positions::of(outputs[0].shape, inputs[0].shape[4]);
        for (at, y) in outputs[0].data.iter_mut().enumerate() {
            *y = inputs[0].data[positions.in_blocks(at)];
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        super::cpu::from_blocks(&inputs[0], &mut outputs[0]);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let (pixels, lanes) = (y.shape[2] * y.shape[3], x.shape[4]);
        let args =
            [x.into(), y.into(), y.buffer.len().into(), self.channels.into(), pixels.into(), lanes.into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&program(), "from_channel_blocks", &args, Grid::line(y.buffer.len())) }
    }

    fn supports_batch_stride(&self) -> bool {
        true
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let back = ToChannelBlocks { lanes: node.input_shapes[0][4] };
        Ok(smallvec![node.if_needed(0, || run_single(&back, &[node.output_grad()]))?])
    }
}

fn program() -> Source {
    Source::new("channel_blocks", include_str!("kernels.cl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_shapes_are_errors() {
        let error = |op: &dyn Op, shape: Shape| op.infer(&[shape]).unwrap_err().to_string();
        assert!(error(&ToChannelBlocks { lanes: 0 }, [1, 2, 3, 4].into()).contains("at least one channel"));
        assert!(error(&ToChannelBlocks { lanes: 8 }, [1, 2].into()).contains("[n, c, h, w]"));
        let back = FromChannelBlocks { channels: 9 };
        for shape in [Shape::from([1, 1, 3, 3, 8]), [1, 9, 3, 3].into(), [1, 2, 3, 3, 0].into()] {
            assert!(error(&back, shape).contains("is not a feature map of 9 channels in blocks"));
        }
    }
}
