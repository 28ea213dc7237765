//! The gradient of an input with few channels: a GEMM with the transposed weight, then col2im.
//!
//! With few rows, gathering the columns of an implicit GEMM costs more than the GEMM itself. Here the right
//! matrix is `dy` in its own layout, the rows of the result are all (channel, tap) pairs, and col2im adds
//! each of them to the pixel under its tap:
//!
//! ```text
//! columns[(channel, tap), pixel] = Σ weight[out, (channel, tap)] · dy[out, pixel]
//! dx[channel, pixel under the tap] += columns[(channel, tap), pixel]
//! ```

use rayon::prelude::*;

use super::backend::{Cpu, InstructionSet};
use super::cost;
use super::implicit_gemm::pixels::{output_grid, whole_rows};
use crate::cpu::parallel::min_len;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{Bias, GatherMap, Gemm, LeftMatrix, OutputMatrix, PixelGrid, RightMatrix};
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};

/// Number of images whose columns share panels.
const IMAGES: usize = 8;

/// Maximum number of input channels for which gathering costs more than the product.
const MAX_CHANNELS: usize = 8;
/// Minimum number of rows of the product that fill its register tiles.
const MIN_ROWS: usize = 16;

/// The algorithm; see the module's documentation.
///
/// It computes input gradients of one group only.
///
/// It is exact enough for all inputs: a pixel is the sum of its terms in single precision, a chain over the output
/// channels for each tap.
pub(super) struct Col2im;

impl ConvAlgorithm<Cpu> for Col2im {
    fn name(&self) -> &'static str {
        "col2im"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, device: &InstructionSet) -> Option<f64> {
        if pass != Pass::InputGrad || conv.groups != 1 || conv.n == 0 {
            return None;
        }
        let is_fastest = conv.in_per_group <= MAX_CHANNELS && conv.filter_len() >= MIN_ROWS;
        let gemm = cost::implicit_gemm(conv, pass, device.lanes);
        Some(if is_fastest { gemm } else { NOT_FASTER * gemm })
    }

    fn pack(&self, _scratch: &Scratch, _conv: &ConvShape, _weight: &[f32]) -> Option<Buffer> {
        None
    }

    fn run(&self, scratch: &Scratch, conv: &ConvShape, operands: Operands<'_, Cpu>) {
        let Operands::InputGrad { dy, weight, dx } = operands else {
            unreachable!("{} has no cost for this pass", self.name())
        };
        input_grad(conv, dy, weight, dx, scratch);
    }
}

/// Computes the gradient of the input.
fn input_grad(conv: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let (depth, pixels, image) = (conv.filter_len(), conv.out_pixels(), conv.in_per_group * conv.h * conv.w);
    let grid = PixelGrid { image_stride: conv.out_per_group * pixels, ..output_grid(conv, IMAGES) };
    let from = GatherMap::new(grid, std::iter::once(whole_rows(conv.ow)), scratch);
    let grid = PixelGrid { image_stride: depth * pixels, ..grid };
    let to = GatherMap::new(grid, std::iter::once(whole_rows(conv.ow)), scratch);
    // One GEMM for the whole batch: it splits itself into tasks, and no task waits for another while it holds
    // scratch memory.
    let mut columns = scratch.take(conv.n * depth * pixels);
    let gemm = Gemm {
        groups: 1,
        rows: depth,
        channels: conv.out_per_group,
        columns: conv.n * pixels,
        a: LeftMatrix { data: weight, group_stride: 0, row_stride: 1, channel_stride: depth, taps: &[0] },
        b: RightMatrix::Gathered {
            data: dy,
            unit_stride: IMAGES * conv.out_per_group * pixels,
            group_stride: 0,
            channel_stride: pixels,
            map: &from,
        },
        bias: Bias::None,
        activation: None,
    };
    let target = OutputMatrix {
        data: &mut columns,
        unit_stride: IMAGES * depth * pixels,
        group_stride: 0,
        row_stride: pixels,
        map: &to,
    };
    gemm.run(target, scratch);
    let columns = &columns[..];
    dx.par_chunks_mut(image).zip(columns.par_chunks(depth * pixels)).with_min_len(min_len()).for_each(
        |(dx, columns)| {
            dispatch(AddColumns { conv, columns, dx });
        },
    );
}

/// Adds the columns of an image to the pixels under their taps.
struct AddColumns<'a> {
    conv: &'a ConvShape,
    columns: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for AddColumns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let AddColumns { conv, columns, dx } = self;
        dx.fill(0.0);
        for channel in 0..conv.in_per_group {
            for kr in 0..conv.kh {
                for kc in 0..conv.kw {
                    let row = channel * conv.kh * conv.kw + conv.tap(kr, kc);
                    let lines = columns[row * conv.out_pixels()..][..conv.out_pixels()].chunks(conv.ow);
                    for (r, line) in lines.enumerate() {
                        let y = (r * conv.stride[0] + kr * conv.dilation[0]).wrapping_sub(conv.padding[0]);
                        if y >= conv.h {
                            continue;
                        }
                        let dx = &mut dx[(channel * conv.h + y) * conv.w..][..conv.w];
                        // The outputs whose source column is not padding.
                        let shift = kc * conv.dilation[1];
                        let first = conv.padding[1].saturating_sub(shift).div_ceil(conv.stride[1]);
                        let end = (conv.w + conv.padding[1])
                            .saturating_sub(shift)
                            .div_ceil(conv.stride[1])
                            .min(conv.ow);
                        if first >= end {
                            continue;
                        }
                        let start = first * conv.stride[1] + shift - conv.padding[1];
                        let line = &line[first..end];
                        if conv.stride[1] == 1 {
                            let dx = &mut dx[start..start + line.len()];
                            for (to, from) in dx.chunks_mut(S::LANES).zip(line.chunks(S::LANES)) {
                                (S::from_short_slice(to) + S::from_short_slice(from)).to_short_slice(to);
                            }
                        } else {
                            for (to, from) in dx[start..].iter_mut().step_by(conv.stride[1]).zip(line) {
                                *to += from;
                            }
                        }
                    }
                }
            }
        }
    }
}
