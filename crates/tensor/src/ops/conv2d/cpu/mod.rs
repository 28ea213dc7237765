//! CPU kernels of convolutions and their gradients, and the choice between them.
//!
//! | module | used for | a vector holds |
//! |---|---|---|
//! | `winograd` | 3x3 and 5x5, stride 1 | one pixel of `LANES` channels |
//! | `channel_blocked` | many channels, several images | one pixel of `LANES` channels |
//! | `batch_vectorized` | few channels, many images | one pixel of `LANES` images |
//! | `conv1x1` | weight gradient of 1x1 kernels | one pixel of `LANES` output channels |
//! | `col2im` | input gradient with few input channels | `LANES` pixels |
//! | `implicit_gemm` | everything else | `LANES` pixels |
//!
//! The choice depends on the shapes alone, never on the number of threads.

mod batch_vectorized;
mod blocked_gemm;
mod channel_blocked;
mod col2im;
mod conv1x1;
mod implicit_gemm;
mod layout;
mod taps;
mod transposed_tile;
mod winograd;

use super::shape::ConvShape;
use super::winograd::{Pass, TileSize};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;

/// The algorithm of the forward pass.
enum ConvAlgorithm {
    Winograd(TileSize),
    BatchVectorized,
    ChannelBlocked,
    ImplicitGemm,
}

impl ConvAlgorithm {
    fn of(conv: &ConvShape) -> Self {
        if let Some(tile_size) = winograd::choose(conv, Pass::Forward) {
            ConvAlgorithm::Winograd(tile_size)
        } else if batch_vectorized::is_better(conv) {
            ConvAlgorithm::BatchVectorized
        } else if channel_blocked::is_better(conv) {
            ConvAlgorithm::ChannelBlocked
        } else {
            ConvAlgorithm::ImplicitGemm
        }
    }
}

/// Returns the weight in the layout that [`forward`] expects for this shape.
pub(super) fn pack(conv: &ConvShape, weight: &[f32], scratch: &Scratch) -> Buffer {
    match ConvAlgorithm::of(conv) {
        ConvAlgorithm::Winograd(tile_size) => winograd::pack(conv, tile_size, weight, scratch),
        ConvAlgorithm::BatchVectorized => batch_vectorized::pack(conv, weight, scratch),
        ConvAlgorithm::ChannelBlocked => channel_blocked::pack(conv, weight, scratch),
        ConvAlgorithm::ImplicitGemm => implicit_gemm::pack(conv, weight, scratch),
    }
}

/// Computes `y = activation(x * weight + bias)`; `packed` is the result of [`pack`].
pub(super) fn forward(
    conv: &ConvShape,
    x: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    if y.is_empty() {
        return;
    }
    match ConvAlgorithm::of(conv) {
        ConvAlgorithm::Winograd(tile_size) => {
            winograd::forward(conv, tile_size, x, packed, (bias, activation), y, scratch);
        }
        ConvAlgorithm::BatchVectorized => {
            batch_vectorized::forward(conv, x, packed, bias, activation, y, scratch);
        }
        ConvAlgorithm::ChannelBlocked => {
            channel_blocked::forward(conv, x, packed, bias, activation, y, scratch);
        }
        ConvAlgorithm::ImplicitGemm => {
            implicit_gemm::forward(conv, x, packed, bias, activation, y, scratch);
        }
    }
}

/// Computes the gradient of the weight.
pub(super) fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    match winograd::choose(conv, Pass::WeightGrad) {
        Some(tile_size) => winograd::weight_grad(conv, tile_size, x, dy, dw, scratch),
        None if conv1x1::is_better(conv) => conv1x1::weight_grad(conv, x, dy, dw, scratch),
        None if batch_vectorized::is_better(conv) => batch_vectorized::weight_grad(conv, x, dy, dw, scratch),
        None if channel_blocked::is_possible(conv) => channel_blocked::weight_grad(conv, x, dy, dw, scratch),
        None => implicit_gemm::weight_grad(conv, x, dy, dw, scratch),
    }
}

/// Computes the gradient of the input.
pub(super) fn input_grad(conv: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    if dx.is_empty() {
        return;
    }
    if let Some(tile_size) = winograd::choose(conv, Pass::InputGrad) {
        winograd::input_grad(conv, tile_size, dy, weight, dx, scratch);
    } else if batch_vectorized::is_better_for_input_grad(conv) {
        batch_vectorized::input_grad(conv, dy, weight, dx, scratch);
    } else if channel_blocked::is_better_for_input_grad(conv) {
        channel_blocked::input_grad(conv, dy, weight, dx, scratch);
    } else if col2im::is_better(conv) {
        col2im::input_grad(conv, dy, weight, dx, scratch);
    } else {
        implicit_gemm::input_grad(conv, dy, weight, dx, scratch);
    }
}
