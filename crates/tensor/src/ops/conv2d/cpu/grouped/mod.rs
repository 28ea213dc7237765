//! Convolution of groups of few channels; with one input channel each it is depthwise. A vector holds `LANES` neighboring
//! pixels of one plane.
//!
//! The planes of a group are copied once, with their padding, into a buffer that stays in the cache; a stride splits each
//! into planes of every `stride`-th pixel. Then all taps of an output read the same distance from it, whatever stride and
//! dilation:
//!
//! ```text
//!   padded plane, rows one behind the other      y[i] = Σ w[t] · x[i + offset[t]]
//!   0 0 0 0 0 0 | 0 a b c d 0 | 0 e f g h 0 | …
//!               └ i + offset ┘
//! ```
//!
//! Rows that are shorter than a vector are computed as one long row, with the pixels between them, which are dropped.
//! The input gradient is the same sum over the padded planes of the output gradient, for each phase of a stride.

mod geometry;
mod planes;
mod weight_grad;

use super::backend::{Cpu, InstructionSet};
use super::cost;
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use geometry::Direction;
use planes::{Epilogue, planes};
use weight_grad::weight_grad;

/// The algorithm; see the module's documentation.
///
/// It can compute everything. It is exact enough for all inputs: an output is the sum of its
/// taps in one chain, and a weight's gradient the sum over images of chains over one image.
pub(super) struct Grouped;

impl ConvAlgorithm<Cpu> for Grouped {
    fn name(&self) -> &'static str {
        "grouped"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if conv.n == 0 {
            return None;
        }
        if conv.groups == 1 {
            // Others compute several outputs from one vector.
            return Some(NOT_FASTER * cost::general(conv, pass, device.lanes));
        }
        // Each multiply-add loads a vector.
        Some(2.0 * conv.multiply_adds() as f64 / device.lanes as f64)
    }

    fn pack(&self, _: &Scratch, _: &ConvShape, _: &[f32]) -> Option<Buffer> {
        None
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                let epilogue = Epilogue { bias, activation };
                planes(&Direction::forward(conv), x, weight, &epilogue, y, scratch);
            }
            Operands::InputGrad { dy, weight, dx } => {
                planes(&Direction::input_grad(conv), dy, weight, &Epilogue::default(), dx, scratch);
            }
            Operands::WeightGrad { x, dy, dw } => weight_grad(conv, x, dy, dw, scratch),
        }
    }
}
