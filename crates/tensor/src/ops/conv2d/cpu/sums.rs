//! Sums that kernels in blocks of channels keep where the output is: a vector for each pixel of a block.

use super::transposed_tile::store_planes;
use crate::cpu::simd::Simd;
use crate::ops::Activation;

/// Maximum number of lanes.
pub const MAX_LANES: usize = 16;

/// Returns the range to which an activation limits values, if it does nothing else: that is done while sums are in registers.
pub fn range(activation: Option<Activation>) -> Option<[f32; 2]> {
    match activation {
        None => Some([f32::NEG_INFINITY, f32::INFINITY]),
        Some(Activation::Relu) => Some([0.0, f32::INFINITY]),
        Some(Activation::Relu6) => Some([0.0, 6.0]),
        Some(_) => None,
    }
}

/// Replaces the vectors of some pixels of some blocks, which are `sums.1` floats apart; `value` gets the block and the old value.
///
/// # Safety
/// They must be readable and writable.
#[inline(always)]
pub unsafe fn for_each_vector<S: Simd>(
    sums: (*mut f32, usize),
    [blocks, pixels]: [usize; 2],
    value: impl Fn(usize, S) -> S,
) {
    for block in 0..blocks {
        for pixel in 0..pixels {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let to = sums.0.add(block * sums.1 + pixel * S::LANES);
                value(block, S::load(to)).store(to);
            }
        }
    }
}

/// Sets the lanes of some pixels of a block that has `planes` planes to 0 beyond those.
///
/// # Safety
/// The vectors must be readable and writable.
#[inline(always)]
pub unsafe fn clear_planes<S: Simd>(sums: *mut f32, pixels: usize, planes: usize) {
    if planes < S::LANES {
        for pixel in 0..pixels {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let to = sums.add(pixel * S::LANES);
                store_planes(S::load(to), planes, to);
            }
        }
    }
}
