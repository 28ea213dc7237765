//! CPU kernel of channel sums.

use rayon::prelude::*;

use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// Sums `x [n, channels, plane]` over all axes but the channels.
pub(super) fn channel_sum(x: &[f32], channels: usize, plane: usize, y: &mut [f32]) {
    let sum = |start: usize, y: &mut [f32]| dispatch(Sum { x, channels, plane, start, y });
    // A channel is summed by one thread, in the order of the images.
    let each = (CHUNK * channels).checked_div(x.len()).unwrap_or(channels).max(16);
    if channels <= each {
        sum(0, y);
    } else {
        y.par_chunks_mut(each).enumerate().for_each(|(i, y)| sum(i * each, y));
    }
}

struct Sum<'a> {
    x: &'a [f32],
    channels: usize,
    plane: usize,
    /// Channel of `y[0]`.
    start: usize,
    y: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Sum { x, channels, plane, start, y } = self;
        y.fill(0.0);
        if plane == 1 {
            for row in x.chunks_exact(channels) {
                let row = &row[start..start + y.len()];
                for (y, x) in y.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
                    (S::from_short_slice(y) + S::from_short_slice(x)).to_short_slice(y);
                }
            }
            return;
        }
        for (c, y) in y.iter_mut().enumerate() {
            for image in x.chunks_exact((channels * plane).max(1)) {
                *y += sum::<S>(&image[(start + c) * plane..][..plane]);
            }
        }
    }
}

/// Sums a row, in four interleaved parts.
#[inline(always)]
pub(in crate::ops) fn sum<S: Simd>(row: &[f32]) -> f32 {
    let mut parts = [S::splat(0.0); 4];
    let mut blocks = row.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (part, v) in parts.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *part = *part + S::from_slice(v);
        }
    }
    for (part, v) in parts.iter_mut().zip(blocks.remainder().chunks(S::LANES)) {
        *part = *part + S::from_short_slice(v);
    }
    ((parts[0] + parts[1]) + (parts[2] + parts[3])).sum()
}
