//! Feature maps in blocks of channels (oneDNN's nChw16c): `[n, blocks, h, w, lanes]` in place of `[n, c, h, w]`.
//!
//! A vector of the CPU then holds one pixel of `lanes` neighboring channels. Convolutions compute with such vectors in any case: a
//! network whose values stay in blocks is not transposed before and after each. A rewrite of `neocog-graph` brings graphs into
//! blocks; it asks operations by [`Op::in_channel_blocks`].
//!
//! The last block may have fewer channels than lanes. [`ToChannelBlocks`] and [`InChannelBlocks`] set its other lanes to 0, elementwise
//! operations compute something in them, and no operation depends on them.

mod blockwise;
mod cases;
mod cpu;
mod wrapper;

use smallvec::{SmallVec, smallvec};

use std::sync::Arc;

use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::instruction_set;
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use neocog_base::{Error, Result};

pub(crate) use blockwise::{BlockMap, for_each_block};
pub use wrapper::InChannelBlocks;
pub(crate) use wrapper::{BlockKernel, Blocks};

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

/// An operation that computes with feature maps in blocks of channels what another one computes with `[n, c, h, w]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockForm {
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Which inputs are in blocks; the only output is.
    pub inputs: SmallVec<[bool; 4]>,
    /// Whether it is faster even if its inputs have to be brought into blocks first.
    pub is_faster: bool,
}

impl BlockForm {
    /// Creates the form in which these inputs and the output are in blocks.
    pub fn new(op: Arc<dyn Op>, inputs: impl IntoIterator<Item = bool>) -> Self {
        BlockForm { op, inputs: inputs.into_iter().collect(), is_faster: false }
    }

    /// Returns the form of an operation on `[n, c, h, w]` whose kernel works in blocks, with or without its first input in blocks;
    /// `None` for other inputs.
    pub(crate) fn kernel(op: impl BlockKernel, inputs: &[Shape], first_in_blocks: bool) -> Option<Self> {
        inputs.first().filter(|x| x.rank() == 4)?;
        let op = InChannelBlocks::new(op, Blocks::of_first(inputs, first_in_blocks));
        let in_blocks = op.blocks.inputs.iter().map(Option::is_some).collect();
        Some(BlockForm { inputs: in_blocks, op: Arc::new(op), is_faster: false })
    }

    /// Returns the form of an elementwise operation with broadcasting: itself, with all inputs that have channels in blocks.
    pub(crate) fn elementwise(op: Arc<dyn Op>, inputs: &[Shape]) -> Option<Self> {
        let whole = inputs.iter().filter(|shape| shape.rank() == 4).max_by_key(|shape| shape.elements())?;
        let blocks = inputs.iter().map(|shape| match shape.extents() {
            all if all == whole.extents() => Some(true),
            [n, c, 1, 1] if [1, whole[0]].contains(n) && *c == whole[1] => Some(true),
            all if all.iter().all(|extent| *extent == 1) => Some(false),
            _ => None,
        });
        Some(BlockForm::new(op, blocks.collect::<Option<Vec<bool>>>()?))
    }
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
fn from_blocks(x: &Shape, channels: usize) -> Result<Shape> {
    match *x.extents() {
        [n, blocks, h, w, lanes] if lanes > 0 && channels.div_ceil(lanes) == blocks => {
            Shape::new(&[n, channels, h, w])
        }
        _ => Err(Error::shape(format!("{x} is not a feature map of {channels} channels in blocks"))),
    }
}

/// Where the elements of a feature map are in blocks.
#[derive(Clone, Copy)]
struct Positions {
    channels: usize,
    pixels: usize,
    lanes: usize,
}

impl Positions {
    fn of(x: &Shape, lanes: usize) -> Self {
        Positions { channels: x[1], pixels: x[2] * x[3], lanes }
    }

    /// Returns the position in blocks of the element at a position of `[n, c, h, w]`.
    fn in_blocks(self, at: usize) -> usize {
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
        cpu::to_blocks(&inputs[0], self.lanes, &mut outputs[0]);
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
        cpu::from_blocks(&inputs[0], &mut outputs[0]);
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
