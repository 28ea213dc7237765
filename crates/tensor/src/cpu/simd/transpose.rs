//! Transposition between rows of floats in memory and vectors with a lane for each row.
//!
//! ```text
//! row 0:  a0 a1 a2 …          vector 0:  a0 b0 c0 …
//! row 1:  b0 b1 b2 …    <->   vector 1:  a1 b1 c1 …
//! row 2:  c0 c1 c2 …          vector 2:  a2 b2 c2 …
//! ```

use super::vector::Simd;

/// Transposes `count` floats of each of `rows <= LANES` rows, `stride` apart, to `count` vectors: float `i`
/// of all rows becomes vector `i`. Lanes without a row are 0.
///
/// # Safety
/// The floats at `from` must be readable, and `count` vectors at `to` writable.
#[inline(always)]
pub(crate) unsafe fn rows_to_lanes<S: Simd>(
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
            // SAFETY: guaranteed by the caller.
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
            // SAFETY: guaranteed by the caller.
            unsafe { v.store(to.add((first + i) * S::LANES)) }
        }
    }
}

/// Transposes `count` vectors to `count` floats of each of `rows` rows: the inverse of [`rows_to_lanes`].
///
/// # Safety
/// `count` vectors at `from` must be readable, and the floats at `to` writable.
#[inline(always)]
pub(crate) unsafe fn lanes_to_rows<S: Simd>(
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
            // SAFETY: guaranteed by the caller.
            *v = unsafe { S::load(from.add((first + i) * S::LANES)) };
        }
        S::transpose(&mut block[..S::LANES]);
        for (row, v) in block[..rows.min(S::LANES)].iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let to = to.wrapping_add(row * stride + first);
                if wide == S::LANES { v.store(to) } else { v.store_partial(to, wide) }
            }
        }
    }
}
