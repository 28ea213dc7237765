//! The GEMM microkernel: a tile of the result that stays in registers.
//!
//! ```text
//!              b: two vectors of columns per step
//!             +--------+--------+
//!   a: one    | c[0]   | c[0]   |   c[i] += a[i] * b, for `depth` steps
//!   float per | c[1]   | c[1]   |
//!   row, step | ..     | ..     |
//!             +--------+--------+
//! ```

use crate::cpu::simd::Simd;

/// Returns the rows of tile `i` when `rows` rows are split as evenly as possible into tiles of at most
/// `max_rows`.
pub(crate) fn tile_rows(rows: usize, max_rows: usize, i: usize) -> std::ops::Range<usize> {
    let count = rows.div_ceil(max_rows).max(1);
    rows * i / count..rows * (i + 1) / count
}

/// Maximum number of terms that are summed one after the other. The rounding error of a sum of `n` terms
/// grows with the square root of `n`, so long sums are sums of blocks: this halves the error of a 3x3
/// convolution of 64 channels and quarters that of 256 channels, for 2 % of the time. It matters where a ReLU
/// or a maximum is close to a tie.
const CHAIN: usize = 128;

/// Computes `c[i, ..] = sum over k of a[k, i] * b[k, ..]`, added to the old `c` if `add`: `a [depth, rows]`,
/// `b [depth, 2 * LANES]`, `c [rows, 2 * LANES]`.
///
/// # Safety
/// All three must be valid in these sizes, and `rows` at most [`Simd::TILE_ROWS`].
#[inline(always)]
pub(super) unsafe fn tile<S: Simd>(
    rows: usize,
    depth: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    add: bool,
) {
    let chains = depth.div_ceil(CHAIN).max(1);
    for chain in 0..chains {
        let (start, end) = (depth * chain / chains, depth * (chain + 1) / chains);
        // SAFETY: guaranteed by the caller; the blocks lie within `a` and `b`.
        unsafe {
            let (a, b) = (a.add(start * rows), b.add(start * 2 * S::LANES));
            block::<S>(rows, end - start, a, b, c, add || chain > 0);
        }
    }
}

/// As [`tile`], with one chain of additions.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn block<S: Simd>(rows: usize, depth: usize, a: *const f32, b: *const f32, c: *mut f32, add: bool) {
    macro_rules! by_rows {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: guaranteed by the caller.
                $($n if $n <= S::TILE_ROWS => unsafe { fixed::<S, $n>(depth, a, b, c, add) },)*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// As [`block`], for a constant number of rows.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn fixed<S: Simd, const ROWS: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    add: bool,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; ROWS];
        for _ in 0..depth {
            let columns = [S::load(b), S::load(b.add(S::LANES))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*a.add(i));
                sums[0] = row.mul_add(columns[0], sums[0]);
                sums[1] = row.mul_add(columns[1], sums[1]);
            }
            a = a.add(ROWS);
            b = b.add(2 * S::LANES);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                let to = c.add((2 * i + half) * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}
