//! CPU kernel: blocks of rows of the output, so that what is read across rows stays in the cache.

use super::walk::Walk;
use crate::cpu::parallel::{CHUNK, for_each_chunk};

/// Number of rows and of columns of a block: a cache line of floats.
const BLOCK: usize = 16;

/// Computes `out`, which is not empty, from `x`.
pub(super) fn permute(walk: &Walk, x: &[f32], out: &mut [f32]) {
    let (inner, stride) = walk.inner();
    let rows = (CHUNK / inner).max(1).next_multiple_of(BLOCK);
    for_each_chunk(out, rows * inner, |start, part| {
        let mut row = start / inner;
        for block in part.chunks_mut(BLOCK * inner) {
            let mut starts = [0; BLOCK];
            let count = block.len() / inner;
            starts[..count].iter_mut().enumerate().for_each(|(i, start)| *start = walk.start(row + i));
            for first in (0..inner).step_by(BLOCK) {
                let columns = first..inner.min(first + BLOCK);
                for (row, start) in block.chunks_exact_mut(inner).zip(starts) {
                    for column in columns.clone() {
                        row[column] = x[start + column * stride];
                    }
                }
            }
            row += count;
        }
    });
}
