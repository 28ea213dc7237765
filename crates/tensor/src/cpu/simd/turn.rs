//! Rows turned into lanes, and back.
//!
//! ```text
//! row 0:  a0 a1 a2 …          vector 0:  a0 b0 c0 …
//! row 1:  b0 b1 b2 …    <->   vector 1:  a1 b1 c1 …
//! row 2:  c0 c1 c2 …          vector 2:  a2 b2 c2 …
//! ```

use super::Simd;

/// Reads `count` numbers from each of `rows` rows, at most `LANES`, `stride` apart: number `i` of all rows becomes vector
/// `i`. Lanes without a row are zeros.
///
/// # Safety
/// The numbers must be readable, and `count` vectors writable.
#[inline(always)]
pub(crate) unsafe fn to_lanes<S: Simd>(
    from: *const f32,
    stride: usize,
    rows: usize,
    count: usize,
    to: *mut f32,
) {
    let mut block = [S::splat(0.0); 16];
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        for (row, v) in block[..S::LANES].iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe {
                let from = from.wrapping_add(row * stride + first);
                if row >= rows {
                    S::splat(0.0)
                } else if wide == S::LANES {
                    S::load(from)
                } else {
                    S::load_partial(from, wide)
                }
            };
        }
        S::transpose(&mut block[..S::LANES]);
        for (i, v) in block[..wide].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { v.store(to.add((first + i) * S::LANES)) }
        }
    }
}

/// The inverse of [`to_lanes`].
///
/// # Safety
/// `count` vectors must be readable, and the numbers writable.
#[inline(always)]
pub(crate) unsafe fn from_lanes<S: Simd>(
    from: *const f32,
    to: *mut f32,
    stride: usize,
    rows: usize,
    count: usize,
) {
    let mut block = [S::splat(0.0); 16];
    for first in (0..count).step_by(S::LANES) {
        let wide = S::LANES.min(count - first);
        for (i, v) in block[..wide].iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe { S::load(from.add((first + i) * S::LANES)) };
        }
        S::transpose(&mut block[..S::LANES]);
        for (row, v) in block[..rows.min(S::LANES)].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = to.wrapping_add(row * stride + first);
                if wide == S::LANES { v.store(to) } else { v.store_partial(to, wide) }
            }
        }
    }
}
