//! CPU kernel of dropout.

use neocog_base::random::philox_block;

use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};

/// Returns the Philox counter of a block of four elements.
pub(super) fn counter(offset: u64, block: usize) -> u128 {
    u128::from(offset) << 64 | block as u128
}

/// Drops the elements whose random word is below `threshold`, and scales the others; drops all without a threshold.
pub(super) fn dropout(
    [seed, offset]: [u64; 2],
    threshold: Option<u32>,
    scale: f32,
    x: &[f32],
    y: &mut [f32],
) {
    for_each_chunk(y, CHUNK, |start, y| {
        let x = &x[start..start + y.len()];
        match threshold {
            Some(0) => y.copy_from_slice(x),
            Some(threshold) => dispatch(Drop { seed, offset, threshold, scale, start, x, y }),
            None => y.fill(0.0),
        }
    });
}

/// Number of Philox blocks generated together, which fills whole vectors.
const BLOCKS: usize = 16;

struct Drop<'a> {
    seed: u64,
    offset: u64,
    threshold: u32,
    scale: f32,
    /// Position of `x[0]` in the tensor, a multiple of four.
    start: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Drop<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        const SPAN: usize = 4 * BLOCKS;
        let Drop { seed, offset, threshold, scale, start, x, y } = self;
        let mut factors = [0.0; SPAN];
        for (k, (x, y)) in x.chunks(SPAN).zip(y.chunks_mut(SPAN)).enumerate() {
            let first = (start + k * SPAN) / 4;
            let words = philox_block::<BLOCKS>(seed, counter(offset, first));
            for block in 0..BLOCKS {
                for word in 0..4 {
                    let kept = words[word][block] >= threshold;
                    factors[4 * block + word] = if kept { scale } else { 0.0 };
                }
            }
            for ((y, x), factor) in y.iter_mut().zip(x).zip(&factors) {
                // Not a product: a dropped number may be infinite.
                *y = if *factor > 0.0 { x * factor } else { 0.0 };
            }
        }
    }
}
