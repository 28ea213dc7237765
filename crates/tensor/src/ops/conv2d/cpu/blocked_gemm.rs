//! GEMM microkernels for channel-blocked operands: products with filters, and sums of outer products.
//!
//! A *block* is `LANES` channels, with a vector for each row of the matrix (an image, or a Winograd tile).
//! The operands are used in this layout and not packed again:
//!
//! ```text
//!   v: [block][row][LANES]                                  one float of each of up to 14 rows per step, 64 bytes apart
//!   u: [two blocks of outputs][channel][2 · LANES]          two vectors per step
//!
//!               u: two vectors
//!              +--------+--------+
//!   v: rows    | m[0]   | m[0]   |     m[i] += v[i] · u, for each channel
//!              | m[1]   | m[1]   |
//!              +--------+--------+
//! ```

use super::sums::limit;
use crate::cpu::simd::{Kernel, Simd, dispatch, prefetch};

/// Calls a function that is generic over the number of rows and vectors of a register tile.
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
        // SAFETY: guaranteed by the caller.
        unsafe { $function::<$s, $n, $w>($($argument),*) }
    };
}

pub(super) use by_size;

/// What is done besides a product, while the sums are in registers.
#[derive(Clone, Copy, Default)]
pub(super) struct Around {
    /// A vector for each block, from which the sums start.
    pub bias: Option<*const f32>,
    /// The memory that is needed next, and how many floats of it are asked for with each channel.
    pub ahead: Option<(*const f32, usize)>,
    /// The range to which the sums are limited.
    pub range: Option<[f32; 2]>,
}

/// Computes `rows` rows by `wide` blocks (one or two) of outputs over `depth` channels, added to `m` if
/// `add`. The blocks of `v` are `v.1` floats apart, those of `m` `m.1`.
///
/// It is not inlined into its callers, because it contains a loop for each number of rows.
///
/// # Safety
/// All three must be valid in these sizes.
pub(super) unsafe fn multiply(
    [rows, wide]: [usize; 2],
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
    add: bool,
) {
    // SAFETY: guaranteed by the caller; there is no bias.
    unsafe { multiply_around([rows, wide], depth, v, u, m, add, Around::default()) }
}

/// As [`multiply`], and does what is around it.
///
/// # Safety
/// As of [`multiply`]; the bias must have `wide` vectors.
pub(super) unsafe fn multiply_around(
    [rows, wide]: [usize; 2],
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
    add: bool,
    around: Around,
) {
    dispatch(Multiply { size: [rows, wide], depth, v, u, m, add, around });
}

struct Multiply {
    size: [usize; 2],
    depth: usize,
    v: (*const f32, usize),
    u: *const f32,
    m: (*mut f32, usize),
    add: bool,
    around: Around,
}

impl Kernel for Multiply {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Multiply { size: [rows, wide], depth, v, u, m, add, around } = self;
        by_size!(rows, wide, multiply_tile::<S>(depth, v, u, m, add, around));
    }
}

/// As [`multiply`], for a constant size.
///
/// # Safety
/// As of [`multiply`].
#[inline(always)]
unsafe fn multiply_tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    depth: usize,
    (mut v, v_step): (*const f32, usize),
    mut u: *const f32,
    (m, m_step): (*mut f32, usize),
    add: bool,
    Around { bias, mut ahead, range }: Around,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut start = [S::splat(0.0); WIDE];
        if let Some(bias) = bias {
            for (j, start) in start.iter_mut().enumerate() {
                *start = S::load(bias.add(j * S::LANES));
            }
        }
        let mut sums = [start; ROWS];
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
                if let Some((next, step)) = &mut ahead {
                    prefetch(*next);
                    *next = next.wrapping_add(*step);
                }
            }
            v = v.wrapping_add(v_step);
            left -= count;
        }
        if let Some(range) = range {
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, mut sum) in sums.into_iter().enumerate() {
                    let to = m.add(j * m_step + i * S::LANES);
                    if add {
                        sum = S::load(to) + sum;
                    }
                    limit(sum, range).store(to);
                }
            }
            return;
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let to = m.add(j * m_step + i * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}

/// Computes `sums[channel, ..] = Σ over pairs and rows of a[row, channel] · b[row, ..]` for `channels`
/// channels of one block of `a` and `wide` blocks (one or two) of `b`, `b.2` floats apart. It is added to the
/// old sums if `sums.2`; their rows are `sums.1` floats apart. For a pair `[i, j]` the rows start at `i *
/// a.1` and `j * b.1`.
///
/// # Safety
/// All must be valid in these sizes.
pub(super) unsafe fn accumulate_outer(
    [channels, wide]: [usize; 2],
    rows: usize,
    pairs: &[[u32; 2]],
    a: (*const f32, usize),
    b: (*const f32, usize, usize),
    sums: (*mut f32, usize, bool),
) {
    dispatch(OuterProducts { size: [channels, wide], rows, pairs, a, b, sums });
}

struct OuterProducts<'a> {
    size: [usize; 2],
    rows: usize,
    pairs: &'a [[u32; 2]],
    a: (*const f32, usize),
    b: (*const f32, usize, usize),
    sums: (*mut f32, usize, bool),
}

impl Kernel for OuterProducts<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let OuterProducts { size: [channels, wide], rows, pairs, a, b, sums } = self;
        by_size!(channels, wide, accumulate_tile::<S>(rows, pairs, a, b, sums));
    }
}

/// As [`accumulate_outer`], for a constant size.
///
/// # Safety
/// As of [`accumulate_outer`].
#[inline(always)]
unsafe fn accumulate_tile<S: Simd, const ROWS: usize, const WIDE: usize>(
    rows: usize,
    pairs: &[[u32; 2]],
    (a, a_pair): (*const f32, usize),
    (b, b_pair, b_step): (*const f32, usize, usize),
    (to, to_step, add): (*mut f32, usize, bool),
) {
    // SAFETY: guaranteed by the caller.
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
