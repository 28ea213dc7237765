//! Sorting the columns of images by their phase modulo the stride, so that pixels under one tap are
//! contiguous.

use rayon::prelude::*;

use crate::cpu::parallel::{CHUNK, for_each_chunk, min_len};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::ConvShape;

/// Returns `x` with the columns of each row sorted by phase.
pub fn split_phases(conv: &ConvShape, x: &[f32], scratch: &Scratch) -> Buffer {
    let mut split = scratch.take(x.len());
    let each = chunk(conv);
    split.par_chunks_mut(each).zip(x.par_chunks(each)).with_min_len(min_len()).for_each(|(to, from)| {
        to.copy_from_slice(from);
        dispatch(SortPhases {
            rows: to,
            width: conv.w,
            stride: conv.stride[1],
            join: false,
            line: scratch.take(conv.w),
        });
    });
    split
}

/// Returns the number of pixels that are sorted in one task: whole rows.
fn chunk(conv: &ConvShape) -> usize {
    let width = conv.w.max(1);
    (CHUNK / width).max(1) * width
}

/// Restores the original order of columns in `dx`, whose rows are sorted by phase.
pub fn join_phases(conv: &ConvShape, dx: &mut [f32], scratch: &Scratch) {
    for_each_chunk(dx, chunk(conv), |_, rows| {
        let line = scratch.take(conv.w);
        dispatch(SortPhases { rows, width: conv.w, stride: conv.stride[1], join: true, line });
    });
}

/// Sorts the columns of each row by phase (0, s, 2 s, .., 1, s + 1, ..), or, with `join`, restores the
/// original order.
struct SortPhases<'a> {
    rows: &'a mut [f32],
    width: usize,
    stride: usize,
    join: bool,
    line: Buffer,
}

impl Kernel for SortPhases<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self) {
        for row in self.rows.chunks_exact_mut(self.width.max(1)) {
            self.line.copy_from_slice(row);
            // A constant stride compiles to vector shuffles.
            if self.stride == 2 {
                sort_row(row, &self.line, 2, self.join);
            } else {
                sort_row(row, &self.line, self.stride, self.join);
            }
        }
    }
}

#[inline(always)]
fn sort_row(row: &mut [f32], line: &[f32], stride: usize, join: bool) {
    let mut base = 0;
    for phase in 0..stride.min(line.len()) {
        let count = (line.len() - phase).div_ceil(stride);
        if join {
            row[phase..]
                .iter_mut()
                .step_by(stride)
                .zip(&line[base..base + count])
                .for_each(|(to, from)| *to = *from);
        } else {
            row[base..base + count]
                .iter_mut()
                .zip(line[phase..].iter().step_by(stride))
                .for_each(|(to, from)| *to = *from);
        }
        base += count;
    }
}
