//! CPU kernels of global average pooling.

use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
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
