//! The gradient of the input where it has few channels: one product for each picture, then a fold.
//!
//! With few rows, gathering the columns of a product costs more than the product. Turned round, the columns are `dy` as
//! it lies in memory, and the rows are all (channel, tap) pairs; what comes out is added to the pixels that each
//! tap came from:
//!
//! ```text
//! unfolded[(channel, tap), pixel] = Σ weight[out, (channel, tap)] · dy[out, pixel]
//! dx[channel, source of the tap at the pixel] += unfolded[(channel, tap), pixel]
//! ```

use super::super::Problem;
use super::{Grid, Rows, Table, Target, whole_rows};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{Bias, Columns, Product};
use crate::memory::Scratch;
use rayon::prelude::*;

/// Pictures whose columns share panels.
const PICTURES: usize = 8;

/// Whether this way is the faster one.
pub(super) fn is_better(p: &Problem) -> bool {
    p.groups == 1 && p.cg <= 8 && p.depth() >= 16 && p.pixels() > 0
}

pub(super) fn input_grad(p: &Problem, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let (depth, pixels, picture) = (p.depth(), p.pixels(), p.cg * p.h * p.w);
    let grid = Grid { picture_stride: p.og * pixels, ..p.output_grid(PICTURES) };
    let from = Table::new(grid, std::iter::once(whole_rows(p.ow)), scratch);
    let grid = Grid { picture_stride: depth * pixels, ..grid };
    let to = Table::new(grid, std::iter::once(whole_rows(p.ow)), scratch);
    // One product for the whole batch: it splits itself, and no task waits for another while it holds memory.
    let mut unfolded = scratch.take(p.n * depth * pixels);
    let product = Product {
        groups: 1,
        rows: depth,
        channels: p.og,
        columns: p.n * pixels,
        a: Rows { data: weight, group_stride: 0, row_stride: 1, channel_stride: depth, taps: &[0] },
        b: Columns::Gathered {
            data: dy,
            unit_stride: PICTURES * p.og * pixels,
            group_stride: 0,
            channel_stride: pixels,
            table: &from,
        },
        bias: Bias::None,
        activation: None,
    };
    let target = Target {
        data: &mut unfolded,
        unit_stride: PICTURES * depth * pixels,
        group_stride: 0,
        row_stride: pixels,
        table: &to,
    };
    product.run(target, scratch);
    let unfolded = &unfolded[..];
    dx.par_chunks_mut(picture).zip(unfolded.par_chunks(depth * pixels)).for_each(|(dx, unfolded)| {
        dispatch(Fold { p, unfolded, dx });
    });
}

/// Adds a picture's unfolded numbers to its pixels.
struct Fold<'a> {
    p: &'a Problem,
    unfolded: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Fold<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Fold { p, unfolded, dx } = self;
        dx.fill(0.0);
        for channel in 0..p.cg {
            for kr in 0..p.kh {
                for kc in 0..p.kw {
                    let row = channel * p.kh * p.kw + p.tap(kr, kc);
                    let lines = unfolded[row * p.pixels()..][..p.pixels()].chunks(p.ow);
                    for (r, line) in lines.enumerate() {
                        let y = (r * p.stride[0] + kr * p.dilation[0]).wrapping_sub(p.padding[0]);
                        if y >= p.h {
                            continue;
                        }
                        let dx = &mut dx[(channel * p.h + y) * p.w..][..p.w];
                        // The outputs whose source column lies in the picture.
                        let shift = kc * p.dilation[1];
                        let first = p.padding[1].saturating_sub(shift).div_ceil(p.stride[1]);
                        let end = (p.w + p.padding[1]).saturating_sub(shift).div_ceil(p.stride[1]).min(p.ow);
                        if first >= end {
                            continue;
                        }
                        let start = first * p.stride[1] + shift - p.padding[1];
                        let line = &line[first..end];
                        if p.stride[1] == 1 {
                            let dx = &mut dx[start..start + line.len()];
                            for (to, from) in dx.chunks_mut(S::LANES).zip(line.chunks(S::LANES)) {
                                (S::from_short_slice(to) + S::from_short_slice(from)).to_short_slice(to);
                            }
                        } else {
                            for (to, from) in dx[start..].iter_mut().step_by(p.stride[1]).zip(line) {
                                *to += from;
                            }
                        }
                    }
                }
            }
        }
    }
}
