//! The costs of the two general algorithms, to which those of the specialized ones relate. All are in vector
//! multiply-adds.

use super::channel_blocked::window::MIN_IMAGES;
use super::taps::MAX_TAPS;
use crate::ops::conv2d::algorithm::NOT_FASTER;
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Number of pixels up to which a feature map is small.
const SMALL_MAP: usize = 256;
/// Maximum of the smaller of the numbers of input and output channels for which blocks of channels are too empty.
const FEW_CHANNELS: usize = 8;

/// Whether the pass reads each pixel of one matrix product where it lies: nothing is gathered.
fn is_matrix_product(conv: &ConvShape, pass: Pass) -> bool {
    conv.kh * conv.kw == 1
        && match pass {
            Pass::Forward => true,
            Pass::InputGrad => conv.stride == [1, 1],
            Pass::WeightGrad => false,
        }
}

/// Returns the cost of the implicit GEMM. Gathering costs three tenths of the product.
pub fn implicit_gemm(conv: &ConvShape, pass: Pass, lanes: usize) -> f64 {
    let factor = if is_matrix_product(conv, pass) { 1.0 } else { 1.3 };
    let positions = factor * (conv.n * conv.out_pixels() * conv.kh * conv.kw) as f64;
    positions * conv.vector_steps(pass, lanes) * conv.groups as f64
}

/// Returns the cost of the channel-blocked algorithm for one group, which skips taps over padding.
///
/// It is the faster one if there are enough images for its register tiles. For small feature maps one image is enough:
/// an implicit GEMM would leave lanes empty, and the weight is most of the memory traffic.
pub fn channel_blocked(conv: &ConvShape, pass: Pass, lanes: usize) -> f64 {
    let small = conv.out_pixels().max(conv.h * conv.w) <= SMALL_MAP;
    let enough = small || conv.n >= MIN_IMAGES;
    if !enough || conv.kh * conv.kw > MAX_TAPS || conv.in_per_group.min(conv.out_per_group) <= FEW_CHANNELS {
        return NOT_FASTER * implicit_gemm(conv, pass, lanes);
    }
    // All pixels are transposed, including those under no tap. The cost is never 0, so that multiples of it are larger.
    let taps = if is_matrix_product(conv, pass) { conv.out_pixels() } else { conv.inside_taps().max(1) };
    1.25 * (conv.n * taps) as f64 * conv.vector_steps(pass, lanes)
}

/// Returns the smaller of both costs.
pub fn general(conv: &ConvShape, pass: Pass, lanes: usize) -> f64 {
    let gemm = implicit_gemm(conv, pass, lanes);
    if conv.groups == 1 { gemm.min(channel_blocked(conv, pass, lanes)) } else { gemm }
}
