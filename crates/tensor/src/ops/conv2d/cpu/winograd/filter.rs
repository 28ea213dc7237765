//! The values of filters at the points, and outputs of the products there.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use super::TAPS;
use crate::cpu::simd::Simd;
use crate::ops::conv2d::winograd::transform::{MOST, evaluate, fold, weighted};

/// The values of a filter of `R` by `R` taps at the points, weighted, each written to `to`, `step` apart.
///
/// # Safety
/// `A · A` vectors must be writable.
#[inline(always)]
pub(super) unsafe fn values<S: Simd, const A: usize, const R: usize>(
    taps: &[S; TAPS],
    reverse: bool,
    to: *mut f32,
    step: usize,
) {
    let mut lines = [[S::splat(0.0); MOST]; MOST];
    for u in 0..R {
        let mut line = [S::splat(0.0); MOST];
        for v in 0..R {
            let tap = u * R + v;
            line[v] = taps[if reverse { R * R - 1 - tap } else { tap }];
        }
        lines[u] = evaluate::<S, A, R>(&line);
    }
    for j in 0..A {
        let mut column = [S::splat(0.0); MOST];
        for u in 0..R {
            column[u] = lines[u][j];
        }
        let column = evaluate::<S, A, R>(&column);
        for i in 0..A {
            // SAFETY: the caller's promise.
            unsafe { weighted::<S, A>(column[i], i, j).store(to.add((i * A + j) * step)) }
        }
    }
}

/// `M` by `M` outputs of the numbers at the points, which are `step` apart.
///
/// # Safety
/// `A · A` vectors must be readable.
#[inline(always)]
pub(super) unsafe fn outputs<S: Simd, const A: usize, const M: usize>(
    from: *const f32,
    step: usize,
) -> [[S; MOST]; MOST] {
    let mut lines = [[S::splat(0.0); MOST]; MOST];
    for i in 0..A {
        let mut line = [S::splat(0.0); MOST];
        for j in 0..A {
            // SAFETY: the caller's promise.
            line[j] = unsafe { S::load(from.add((i * A + j) * step)) };
        }
        lines[i] = fold::<S, A, M>(&line);
    }
    let mut y = [[S::splat(0.0); MOST]; MOST];
    for j in 0..M {
        let mut column = [S::splat(0.0); MOST];
        for i in 0..A {
            column[i] = lines[i][j];
        }
        let column = fold::<S, A, M>(&column);
        for i in 0..M {
            y[i][j] = column[i];
        }
    }
    y
}
