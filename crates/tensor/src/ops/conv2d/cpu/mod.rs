//! CPU kernels of convolutions and their gradients.
//!
//! | algorithm | computes | chosen for | a vector holds |
//! |---|---|---|---|
//! | `conv1x1` | weight gradient of 1x1 kernels without padding | many pixels and channels | one pixel of `LANES` output channels |
//! | `batch_vectorized` | one group, no dilation | few channels, many images | one pixel of `LANES` images |
//! | `channel_blocked` | one group | many channels, several images | one pixel of `LANES` channels |
//! | `col2im` | input gradient of one group | few input channels | `LANES` pixels |
//! | `depthwise` | groups of one input and one output channel, square kernels up to 7 | those | `LANES` pixels |
//! | `depthwise_blocks` | the same in blocks of channels, forward | what is in blocks | one pixel of `LANES` channels |
//! | `few_channels` | forward pass of one group, to blocks of channels | few channels | one pixel of `LANES` channels |
//! | `grouped` | everything | groups of few channels | `LANES` pixels |
//! | `implicit_gemm` | everything | everything else | `LANES` pixels |
//! | `pixel_rows` | forward pass of one group | many channels, few images, no Winograd | one pixel of `LANES` channels |
//! | `winograd` | 3x3 and 5x5, stride 1, one group, no dilation | many channels | one pixel of `LANES` channels |

mod backend;
mod batch_vectorized;
mod blocked_gemm;
mod channel_blocked;
#[cfg(test)]
mod choice_tests;
mod col2im;
mod conv1x1;
mod cost;
mod depthwise;
mod depthwise_blocks;
#[cfg(test)]
mod error_tests;
mod few_channels;
mod grouped;
mod implicit_gemm;
mod lane_sums;
mod layout;
mod pixel_rows;
mod sums;
mod taps;
mod transposed_tile;
mod winograd;

use super::algorithm::{self, Algorithm, Operands, note_run};
use super::shape::{ConvShape, Pass};
use crate::memory::Scratch;
use crate::ops::Activation;
use backend::{Cpu, InstructionSet};

pub(super) use backend::Packed;

/// All algorithms. Of several with the same cost the first is chosen.
static ALGORITHMS: &[Algorithm<Cpu>] = &[
    &conv1x1::Conv1x1,
    &batch_vectorized::BatchVectorized,
    &channel_blocked::ChannelBlocked,
    &col2im::Col2im,
    &depthwise::Depthwise,
    &depthwise_blocks::DepthwiseBlocks,
    &few_channels::FewChannels,
    &grouped::Grouped,
    &implicit_gemm::ImplicitGemm,
    &pixel_rows::PixelRows,
    &winograd::Winograd,
];

/// Returns the names of all algorithms.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALGORITHMS.iter().map(|algorithm| algorithm.name())
}

/// Returns the names of the algorithms that can compute a pass, the chosen one first.
pub(super) fn applicable(conv: &ConvShape, pass: Pass) -> Vec<&'static str> {
    algorithm::applicable(ALGORITHMS, conv, pass, &InstructionSet::current())
}

/// Returns how a convolution can be computed to an output in blocks of channels: whether its input is in blocks, too.
pub(super) fn in_blocks(conv: &ConvShape) -> Option<[bool; 2]> {
    let lanes = InstructionSet::current().lanes;
    if conv.in_per_group < lanes && conv.h * conv.w > 1 && few_channels::has_few_channels(conv) {
        return Some([false, true]);
    }
    (conv.groups == 1 || depthwise_blocks::is_depthwise(conv)).then_some([true; 2])
}

fn choose(conv: &ConvShape, pass: Pass) -> Algorithm<Cpu> {
    algorithm::choose(ALGORITHMS, conv, pass, &InstructionSet::current())
}

/// Chooses the algorithm of the forward pass, and packs the weight for it.
pub(super) fn pack(conv: &ConvShape, weight: &[f32], scratch: &Scratch) -> Packed {
    let algorithm = choose(conv, Pass::Forward);
    Packed { algorithm, weight: algorithm.pack(scratch, conv, weight) }
}

/// Computes `y = activation(x * weight + bias)`; `packed` is the result of [`pack`] for this `weight` and shape.
#[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
pub(super) fn forward(
    conv: &ConvShape,
    x: &[f32],
    weight: &[f32],
    packed: &Packed,
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    if y.is_empty() {
        return;
    }
    note_run(packed.algorithm.name());
    let (original, weight) = (weight, packed.weight.as_deref().unwrap_or(weight));
    packed.algorithm.run(scratch, conv, Operands::Forward { x, weight, original, bias, activation, y });
}

/// Computes the gradient of the weight.
pub(super) fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    if x.is_empty() || dy.is_empty() {
        dw.fill(0.0);
        return;
    }
    let algorithm = choose(conv, Pass::WeightGrad);
    note_run(algorithm.name());
    algorithm.run(scratch, conv, Operands::WeightGrad { x, dy, dw });
}

/// Computes the gradient of the input.
pub(super) fn input_grad(conv: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    if dx.is_empty() {
        return;
    }
    let algorithm = choose(conv, Pass::InputGrad);
    note_run(algorithm.name());
    algorithm.run(scratch, conv, Operands::InputGrad { dy, weight, dx });
}
