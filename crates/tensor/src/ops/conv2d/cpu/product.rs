//! Products of matrices whose vectors have channels as lanes: with a filter, and with each other.
//!
//! Vectors come in *blocks* of `LANES` channels, with a vector for each row (a picture, or a tile of one), so that neither side
//! is packed again:
//!
//! ```text
//!   v: [block][row][LANES]                                  one number of each of up to 14 rows per step, 64 bytes apart
//!   u: [two blocks of outputs][channel][2 · LANES]          two vectors per step
//!
//!               u: two vectors
//!              +--------+--------+
//!   v: rows    | m[0]   | m[0]   |     m[i] += v[i] · u, for each channel
//!              | m[1]   | m[1]   |
//!              +--------+--------+
//! ```

use crate::cpu::simd::{Kernel, Simd, dispatch};

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

pub(super) use by_size;

/// `rows` rows by `wide` blocks of outputs, over `depth` channels; added to `m` if `add`. TileConfig of `v` are `v.1` apart, those
/// of `m` are `m.1` apart.
///
/// Compiled once, not into each caller: there is a loop for each number of rows.
///
/// # Safety
/// All three must be valid in these sizes.
pub(super) unsafe fn product(
    [rows, wide]: [usize; 2],
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
    add: bool,
) {
    dispatch(Product { size: [rows, wide], depth, v, u, m, add });
}

struct Product {
    size: [usize; 2],
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
    add: bool,
}

impl Kernel for Product {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Product { size: [rows, wide], depth, v, u, m, add } = self;
        by_size!(rows, wide, product_of::<S>(depth, v, u, m, add));
    }
}

#[inline(always)]
unsafe fn product_of<S: Simd, const ROWS: usize, const WIDE: usize>(
    depth: usize,
    (mut v, v_step): (*const f32, usize),
    mut u: *const f32,
    (m, m_step): (*mut f32, usize),
    add: bool,
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
                let to = m.add(j * m_step + i * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}

/// `sums[channel, ..] = Σ over pairs and rows of a[row, channel] · b[row, ..]` for `channels` channels of one block of `a` and
/// `wide` blocks of `b`, which are `b.2` apart; added to what is there if `sums.2`, its lines `sums.1` apart. A pair says how many times `a.1` and `b.1`
/// further on the rows begin.
///
/// # Safety
/// All must be valid in these sizes.
pub(super) unsafe fn add_outer(
    [channels, wide]: [usize; 2],
    rows: usize,
    pairs: &[[u32; 2]],
    a: (*const f32, usize),
    b: (*const f32, usize, usize),
    sums: (*mut f32, usize, bool),
) {
    dispatch(Outer { size: [channels, wide], rows, pairs, a, b, sums });
}

struct Outer<'a> {
    size: [usize; 2],
    rows: usize,
    pairs: &'a [[u32; 2]],
    a: (*const f32, usize),
    b: (*const f32, usize, usize),
    sums: (*mut f32, usize, bool),
}

impl Kernel for Outer<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Outer { size: [channels, wide], rows, pairs, a, b, sums } = self;
        by_size!(channels, wide, outer_of::<S>(rows, pairs, a, b, sums));
    }
}

#[inline(always)]
unsafe fn outer_of<S: Simd, const ROWS: usize, const WIDE: usize>(
    rows: usize,
    pairs: &[[u32; 2]],
    (a, a_pair): (*const f32, usize),
    (b, b_pair, b_step): (*const f32, usize, usize),
    (to, to_step, add): (*mut f32, usize, bool),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); WIDE]; ROWS];
        for pair in pairs {
            let mut a = a.add(pair[0] as usize * a_pair);
            let mut b = b.add(pair[1] as usize * b_pair);
            for _ in 0..rows {
                let mut columns = [S::splat(0.0); WIDE];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = S::load(b.wrapping_add(j * b_step));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = S::splat(*a.add(i));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = row.mul_add(column, *sum);
                    }
                }
                a = a.wrapping_add(S::LANES);
                b = b.wrapping_add(S::LANES);
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let to = to.add(i * to_step + j * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}
