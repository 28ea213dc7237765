//! The gradient of the weight: for each weight, the products of the output gradient with the pixels under its tap.

use std::ops::Range;

use super::super::lane_sums;
use super::geometry::{BLOCK, Direction, Tap, copy_row};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::ops::conv2d::shape::ConvShape;

/// Number of taps that are computed together.
const TAP_BLOCK: usize = 9;

/// Computes the gradient of the weight.
pub(super) fn weight_grad(conv: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let direction = Direction::forward(conv);
    lane_sums::weight_grad(conv, dw, scratch, |images, groups, sums| {
        dispatch(WeightGrad { direction: &direction, groups, images, x, dy, sums, scratch });
    });
}

/// The sums of the weight gradients of some groups over some images, a vector for each weight.
struct WeightGrad<'a> {
    direction: &'a Direction<'a>,
    groups: Range<usize>,
    images: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let WeightGrad { direction, groups, images, x, dy, sums, scratch } = self;
        let (conv, pitch) = (direction.conv, direction.columns.len);
        let mut buffer = scratch.take(direction.buffer_len(S::LANES));
        buffer.fill(0.0);
        // The rows of the output gradient lie as far from each other as those of the buffer, with zeros between them.
        let len = ((conv.oh - 1) * pitch + conv.ow).next_multiple_of(S::LANES);
        let mut dy_rows = scratch.take(len + BLOCK * S::LANES);
        dy_rows.fill(0.0);
        sums.fill(0.0);
        let size = conv.out_per_group * conv.filter_len() * S::LANES;
        for image in images {
            for (group, sums) in groups.clone().zip(sums.chunks_exact_mut(size)) {
                direction.fill::<S>(x, image, group, &mut buffer);
                for plane in 0..conv.out_per_group {
                    let dy = &dy[direction.dst_start(image, group, plane)..][..conv.out_pixels()];
                    for (row, dy) in dy.chunks_exact(conv.ow).enumerate() {
                        copy_row::<S>(dy, 1, &mut dy_rows[row * pitch..]);
                    }
                    let sums = &mut sums[plane * conv.filter_len() * S::LANES..];
                    for taps in direction.taps.iter().flat_map(|taps| taps.all.chunks(TAP_BLOCK)) {
                        let dy = &dy_rows[..len];
                        Products { taps, buffer: &buffer, pitch, width: conv.ow, dy }.add::<S>(sums);
                    }
                }
            }
        }
    }
}

/// The products of an output gradient with the pixels under some taps.
struct Products<'a> {
    taps: &'a [Tap],
    buffer: &'a [f32],
    /// Floats from one row to the next, of the buffer and of `dy`.
    pitch: usize,
    /// Pixels of a row of `dy`.
    width: usize,
    dy: &'a [f32],
}

impl Products<'_> {
    /// Adds the sums of the taps to the totals.
    #[inline(always)]
    fn add<S: Simd>(&self, totals: &mut [f32]) {
        macro_rules! by_count {
            ($($n:literal)*) => {
                match self.taps.len() {
                    $($n => self.add_taps::<S, $n>(totals),)*
                    count => unreachable!("{count} taps"),
                }
            };
        }
        by_count!(1 2 3 4 5 6 7 8 9);
    }

    /// As [`add`](Self::add), for a constant number of taps.
    #[inline(always)]
    fn add_taps<S: Simd, const N: usize>(&self, totals: &mut [f32]) {
        let mut sums = self.joined_rows::<S, N>();
        // A pixel between two rows belongs to other windows: its product with 0 is 0, unless it is infinite or NaN.
        let zeros = sums.iter().fold(S::splat(0.0), |zeros, &sum| sum.mul_add(S::splat(0.0), zeros));
        if zeros.sum().is_nan() {
            sums = self.separate_rows::<S, N>();
        }
        for (sum, tap) in sums.into_iter().zip(self.taps) {
            let total = &mut totals[tap.index * S::LANES..];
            (S::from_slice(total) + sum).to_slice(total);
        }
    }

    /// Returns the sums over all pixels of `dy`, with the zeros between its rows.
    #[inline(always)]
    fn joined_rows<S: Simd, const N: usize>(&self) -> [S; N] {
        let mut offsets = [0; N];
        for (offset, tap) in offsets.iter_mut().zip(self.taps) {
            *offset = tap.offset;
            assert!(tap.offset + self.dy.len() <= self.buffer.len());
        }
        let mut sums = [S::splat(0.0); N];
        for (i, dy) in self.dy.chunks_exact(S::LANES).enumerate() {
            let dy = S::from_slice(dy);
            for (sum, &offset) in sums.iter_mut().zip(&offsets) {
                // SAFETY: the vector ends within `offset` plus the length of `dy`, which was asserted above.
                let x = unsafe { S::load(self.buffer.as_ptr().add(offset + i * S::LANES)) };
                *sum = dy.mul_add(x, *sum);
            }
        }
        sums
    }

    /// Returns the sums over the rows of `dy`; lanes behind the end of a row are 0 in both factors.
    #[inline(always)]
    fn separate_rows<S: Simd, const N: usize>(&self) -> [S; N] {
        let mut sums = [S::splat(0.0); N];
        for (row, dy) in self.dy.chunks(self.pitch).enumerate() {
            let count = self.width.min(dy.len());
            for (i, dy) in dy[..count].chunks(S::LANES).enumerate() {
                let at = row * self.pitch + i * S::LANES;
                let factor = S::from_short_slice(dy);
                for (sum, tap) in sums.iter_mut().zip(self.taps) {
                    let x = S::from_short_slice(&self.buffer[tap.offset + at..][..dy.len()]);
                    *sum = factor.mul_add(x, *sum);
                }
            }
        }
        sums
    }
}
