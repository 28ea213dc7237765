//! The products at each point: `m[tile, out] = Σ over channels of v[tile, channel] · u[channel, out]`, and the sums over
//! tiles for the gradient of the filter.
//!
//! Vectors come in *blocks* of `LANES` channels, a vector for each tile, so that neither side is packed again:
//!
//! ```text
//!   v: [block][tile][LANES]                 one number of each of up to 14 tiles per step, 64 bytes apart
//!   u: [two blocks of outputs][channel][2 · LANES]         two vectors per step
//!
//!               u: two vectors
//!              +--------+--------+
//!   v: tiles   | m[0]   | m[0]   |     m[i] += v[i] · u, for each channel
//!              | m[1]   | m[1]   |
//!              +--------+--------+
//! ```

use crate::simd::Simd;

/// Calls a function that is generic over the number of rows and vectors of a tile.
macro_rules! by_size {
    ($rows:expr, $wide:expr, $function:ident::<$s:ident>($($argument:expr),*)) => {
        by_size!(@ $rows, $wide, $function, $s, ($($argument),*), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $rows:expr, $wide:expr, $function:ident, $s:ident, $arguments:tt, $($n:literal)*) => {
        match ($rows, $wide) {
            $(($n, 1) if $n <= $s::TILE_ROWS => by_size!(call $function, $s, $n, 1, $arguments),
              ($n, 2) if $n <= $s::TILE_ROWS => by_size!(call $function, $s, $n, 2, $arguments),)*
            (rows, wide) => unreachable!("a tile of {rows} rows and {wide} vectors"),
        }
    };
    (call $function:ident, $s:ident, $n:literal, $w:literal, ($($argument:expr),*)) => {
        // SAFETY: the caller's promise.
        unsafe { $function::<$s, $n, $w>($($argument),*) }
    };
}

/// A tile of `rows` tiles by `wide` blocks of outputs, over `depth` channels. `step` is the distance of blocks in `v` and
/// in `m`.
///
/// # Safety
/// All three must be valid in these sizes.
#[inline(always)]
pub(super) unsafe fn product<S: Simd>(
    rows: usize,
    wide: usize,
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
) {
    by_size!(rows, wide, product_of::<S>(depth, v, u, m));
}

#[inline(always)]
unsafe fn product_of<S: Simd, const ROWS: usize, const WIDE: usize>(
    depth: usize,
    (mut v, v_step): (*const f32, usize),
    mut u: *const f32,
    (m, m_step): (*mut f32, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); WIDE]; ROWS];
        let mut left = depth;
        while left > 0 {
            let count = left.min(S::LANES);
            for c in 0..count {
                let mut columns = [S::splat(0.0); WIDE];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = S::load(u.add(j * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = S::splat(*v.add(i * S::LANES + c));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = row.mul_add(column, *sum);
                    }
                }
                u = u.add(WIDE * S::LANES);
            }
            v = v.wrapping_add(v_step);
            left -= count;
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                sum.store(m.add(j * m_step + i * S::LANES));
            }
        }
    }
}

/// `sums[row, ..] += Σ over tiles of a[tile, row] · b[tile, ..]` for `rows` channels of one block of `a` and `wide` blocks
/// of `b`, which are `b.1` apart; rows of `sums` are `sums.1` apart.
///
/// # Safety
/// All three must be valid in these sizes.
#[inline(always)]
pub(super) unsafe fn add_outer<S: Simd>(
    rows: usize,
    wide: usize,
    tiles: usize,
    a: *const f32,
    b: (*const f32, usize),
    sums: (*mut f32, usize),
) {
    by_size!(rows, wide, outer_of::<S>(tiles, a, b, sums));
}

#[inline(always)]
unsafe fn outer_of<S: Simd, const ROWS: usize, const WIDE: usize>(
    tiles: usize,
    mut a: *const f32,
    (mut b, b_step): (*const f32, usize),
    (to, to_step): (*mut f32, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); WIDE]; ROWS];
        for _ in 0..tiles {
            let mut columns = [S::splat(0.0); WIDE];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = S::load(b.add(j * b_step));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*a.add(i));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = row.mul_add(column, *sum);
                }
            }
            a = a.add(S::LANES);
            b = b.add(S::LANES);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let to = to.add(i * to_step + j * S::LANES);
                (S::load(to) + sum).store(to);
            }
        }
    }
}
