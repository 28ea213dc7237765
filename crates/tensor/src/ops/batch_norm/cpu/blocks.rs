//! Constants of the CPU kernels, and the distribution of channels over threads.

use rayon::prelude::*;

use crate::cpu::parallel::{CHUNK, min_len};
use crate::ops::batch_norm::sizes::Sizes;

/// Channel planes of at least this many pixels are processed one by one.
pub(super) const PLANE: usize = 32;

/// Largest number of columns of a task.
pub(super) const COLUMNS: usize = 64;

/// Number of terms that each lane sums in single precision.
pub(super) const TERMS: usize = 32;

/// The number of no activation, [`Activation::number`](crate::ops::Activation::number).
pub(super) const NONE: u8 = 0;

/// Calls `work` for blocks of channels, with the first channel and the parts of two outputs, on all threads.
pub(super) fn each_block(
    sizes: Sizes,
    a: &mut [f32],
    b: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let block = if sizes.pixels >= PLANE { 1 } else { COLUMNS / sizes.pixels.max(1) };
    let one = |(i, (a, b)): (usize, (&mut [f32], &mut [f32]))| work(i * block, a, b);
    if sizes.c * sizes.count() <= CHUNK {
        a.chunks_mut(block).zip(b.chunks_mut(block)).enumerate().for_each(one);
    } else {
        a.par_chunks_mut(block)
            .zip(b.par_chunks_mut(block))
            .enumerate()
            .with_min_len(min_len())
            .for_each(one);
    }
}
