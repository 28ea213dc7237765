//! Sums that kernels in blocks of channels keep where the output is: a vector for each pixel of a block.

use std::ops::Range;

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

/// Returns the bias of some channels, up to two blocks, followed by zeros; zeros if there is none.
pub fn padded_bias(bias: Option<&[f32]>, channels: Range<usize>) -> [f32; 2 * MAX_LANES] {
    let mut padded = [0.0; 2 * MAX_LANES];
    if let Some(bias) = bias {
        padded[..channels.len()].copy_from_slice(&bias[channels]);
    }
    padded
}

/// Limits a sum to a range, as activations do: NaN stays NaN.
#[inline(always)]
pub fn limit<S: Simd>(sum: S, [low, high]: [f32; 2]) -> S {
    Simd::min(S::splat(high), Simd::max(S::splat(low), sum))
}

/// Sets the sums of some pixels of some blocks, which are `sums.1` floats apart, to a vector for each block.
///
/// # Safety
/// The vectors must be writable, and `bias` have one for each block.
#[inline(always)]
pub unsafe fn fill<S: Simd>(sums: (*mut f32, usize), [blocks, pixels]: [usize; 2], bias: *const f32) {
    for block in 0..blocks {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let value = S::load(bias.add(block * S::LANES));
            for pixel in 0..pixels {
                value.store(sums.0.add(block * sums.1 + pixel * S::LANES));
            }
        }
    }
}

/// Applies an activation to the sums of some pixels of some blocks, which are `sums.1` floats apart.
///
/// # Safety
/// The vectors must be readable and writable.
#[inline(always)]
pub unsafe fn activate<S: Simd>(
    sums: (*mut f32, usize),
    [blocks, pixels]: [usize; 2],
    activation: Activation,
) {
    const TOGETHER: usize = 8;
    let mut some = [S::splat(0.0); TOGETHER];
    for block in 0..blocks {
        for pixel in (0..pixels).step_by(TOGETHER) {
            let some = &mut some[..TOGETHER.min(pixels - pixel)];
            // SAFETY: guaranteed by the caller.
            unsafe {
                let at = sums.0.add(block * sums.1 + pixel * S::LANES);
                for (i, v) in some.iter_mut().enumerate() {
                    *v = S::load(at.add(i * S::LANES));
                }
                activation.apply_each(some);
                for (i, v) in some.iter().enumerate() {
                    v.store(at.add(i * S::LANES));
                }
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
