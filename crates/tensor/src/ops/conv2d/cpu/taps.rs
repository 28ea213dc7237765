//! Filters in memory, `[out, in, taps]`, as vectors for each tap whose lanes are channels.

use crate::simd::Simd;

/// The most taps of a filter: 5 by 5, rounded up to whole vectors.
pub(super) const TAPS: usize = 32;

/// Reads `count` numbers from each of `lanes` places, `stride` apart: number `i` of all lanes becomes vector `i`.
///
/// # Safety
/// They must be readable.
#[inline(always)]
pub(super) unsafe fn read_taps<S: Simd>(
    from: *const f32,
    stride: usize,
    lanes: usize,
    count: usize,
    to: &mut [S; TAPS],
) {
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        let block = &mut to[first..first + S::LANES];
        for (lane, v) in block.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe {
                let from = from.wrapping_add(lane * stride + first);
                if lane >= lanes {
                    S::splat(0.0)
                } else if wide == S::LANES {
                    S::load(from)
                } else {
                    S::load_partial(from, wide)
                }
            };
        }
        S::transpose(block);
    }
}

/// The inverse of [`read_taps`].
///
/// # Safety
/// They must be writable.
#[inline(always)]
pub(super) unsafe fn write_taps<S: Simd>(
    from: &mut [S; TAPS],
    to: *mut f32,
    stride: usize,
    lanes: usize,
    count: usize,
) {
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        let block = &mut from[first..first + S::LANES];
        S::transpose(block);
        for (lane, v) in block[..lanes.min(S::LANES)].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.wrapping_add(lane * stride + first);
                if wide == S::LANES { v.store(to) } else { v.store_partial(to, wide) }
            }
        }
    }
}
