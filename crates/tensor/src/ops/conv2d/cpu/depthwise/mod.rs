//! Convolution of single channels: one input and one output channel in each group. A vector holds `LANES` neighboring pixels of
//! one row, and reads the pixels under its taps where they lie: nothing is copied, the lanes over padding are loaded as zeros.
//!
//! The rows of the input pass one after the other, and each is read once for all output rows that it belongs to:
//!
//! ```text
//!   input row i ──► sum of output row i + padding      (first row of the kernel)
//!               ──► sum of output row i + padding - 1
//!               ──► sum of output row i + padding - 2  (last row of the kernel: the sum is complete)
//! ```

mod rows;
mod weight_grad;
mod window;

use super::backend::{Cpu, InstructionSet};
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use rows::planes;
use weight_grad::weight_grad;
use window::Window;

/// The algorithm; see the module's documentation.
///
/// It computes square kernels of 3, 5 and 7 without dilation, with strides of 1 and 2, and their gradients, but the input gradient of
/// a stride. It is exact enough for all inputs: an output is the sum of its taps in one chain, and a weight's gradient
/// the sum over images of chains over one image.
pub(super) struct Depthwise;

impl ConvAlgorithm<Cpu> for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        let window = Window::of(conv, pass)?;
        // A row is read once for all taps in it. The vectors at the end of a row are not full.
        let vectors = window.dst[0] * window.dst[1].div_ceil(device.lanes);
        Some(0.5 * (conv.n * conv.groups * vectors * conv.filter_len()) as f64)
    }

    fn pack(&self, _: &Scratch, _: &ConvShape, _: &[f32]) -> Option<Buffer> {
        None
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let window = |pass| Window::of(conv, pass).expect("it has a cost");
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                planes(&window(Pass::Forward), x, weight, bias, activation, y);
            }
            Operands::InputGrad { dy, weight, dx } => {
                planes(&window(Pass::InputGrad), dy, weight, None, None, dx);
            }
            Operands::WeightGrad { x, dy, dw } => {
                weight_grad(conv, &window(Pass::WeightGrad), x, dy, dw, scratch);
            }
        }
    }
}
