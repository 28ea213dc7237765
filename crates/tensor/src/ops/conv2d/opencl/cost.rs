//! The cost of the implicit GEMM, to which those of the specialized algorithms relate, in vector multiply-adds.

use super::backend::{Limits, RegisterTiles};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// The cost of the implicit GEMM relative to its multiply-adds alone.
const FACTOR: f64 = 1.3;
/// The cost of packing a vector of the input, in multiply-adds.
const PACK: f64 = 14.0;

/// Returns the cost of the implicit GEMM. It is not comparable between devices.
pub fn implicit_gemm(conv: &ConvShape, pass: Pass, limits: &Limits) -> f64 {
    let tiles = limits.tiles.unwrap_or(RegisterTiles { width: 1, rows: 1 });
    let vectors = |numbers: usize| numbers.div_ceil(tiles.width) as f64;
    let rows = |numbers: usize| numbers.next_multiple_of(tiles.rows) as f64;
    let taps = (conv.kh * conv.kw) as f64;
    let each = match pass {
        Pass::Forward => {
            vectors(conv.n * conv.out_pixels()) * conv.in_per_group as f64 * (rows(conv.out_per_group) + PACK)
        }
        Pass::InputGrad => {
            vectors(conv.n * conv.h * conv.w) * conv.out_per_group as f64 * (rows(conv.in_per_group) + PACK)
        }
        Pass::WeightGrad => {
            vectors(conv.out_per_group) * conv.in_per_group as f64 * (conv.n * conv.out_pixels()) as f64
        }
    };
    FACTOR * taps * each * conv.groups as f64
}
