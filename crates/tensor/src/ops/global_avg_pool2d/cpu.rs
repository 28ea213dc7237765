//! CPU kernels of global average pooling.

use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::channel_blocks::BlockMap;
use crate::ops::channel_sum::cpu::sum;

/// Computes the mean of each channel plane of `plane` pixels.
pub(super) fn forward(plane: usize, x: &[f32], y: &mut [f32]) {
    for_each_chunk(y, CHUNK.div_ceil(plane), |start, y| {
        let x = &x[start * plane..][..y.len() * plane];
        dispatch(Means { plane, x, y });
    });
}

/// Distributes each gradient evenly over its channel plane.
pub(super) fn backward(plane: usize, dy: &[f32], dx: &mut [f32]) {
    let planes = CHUNK.div_ceil(plane);
    for_each_chunk(dx, planes * plane, |start, dx| {
        for (dx, dy) in dx.chunks_exact_mut(plane).zip(&dy[start / plane..]) {
            dx.fill(dy / plane as f32);
        }
    });
}

struct Means<'a> {
    plane: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Means<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for (x, y) in self.x.chunks_exact(self.plane).zip(self.y) {
            *y = sum::<S>(x) / self.plane as f32;
        }
    }
}

/// Pooling in blocks of channels.
pub(super) struct Blockwise;

impl BlockMap for Blockwise {
    #[inline(always)]
    fn block<S: Simd>(&self, _channels: std::ops::Range<usize>, x: &[f32], y: &mut [f32]) {
        // Several sums: an addition waits for the previous one, and a long chain loses digits.
        let mut sums = [S::splat(0.0); 8];
        let pixels = x.chunks_exact(8 * S::LANES);
        let rest = pixels.remainder();
        for some in pixels {
            for (sum, pixel) in sums.iter_mut().zip(some.chunks_exact(S::LANES)) {
                *sum = *sum + S::from_slice(pixel);
            }
        }
        for (sum, pixel) in sums.iter_mut().zip(rest.chunks_exact(S::LANES)) {
            *sum = *sum + S::from_slice(pixel);
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
        (sum / S::splat((x.len() / S::LANES) as f32)).to_slice(y);
    }
}
