//! Two-dimensional transforms of filters, and of products back to outputs.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use crate::cpu::simd::Simd;
use crate::ops::conv2d::cpu::taps::MAX_TAPS;
use crate::ops::conv2d::winograd::transform::{MAX_POINTS, filter_transform, output_transform, scaled};

/// Transforms a filter of `R` by `R` taps to its scaled values at the points, and writes them `step` floats
/// apart.
///
/// # Safety
/// `A · A` vectors must be writable.
#[inline(always)]
pub(super) unsafe fn transform_filter<S: Simd, const A: usize, const R: usize>(
    taps: &[S; MAX_TAPS],
    reverse: bool,
    to: *mut f32,
    step: usize,
) {
    let mut lines = [[S::splat(0.0); MAX_POINTS]; MAX_POINTS];
    for u in 0..R {
        let mut line = [S::splat(0.0); MAX_POINTS];
        for v in 0..R {
            let tap = u * R + v;
            line[v] = taps[if reverse { R * R - 1 - tap } else { tap }];
        }
        lines[u] = filter_transform::<S, A, R>(&line);
    }
    for j in 0..A {
        let mut column = [S::splat(0.0); MAX_POINTS];
        for u in 0..R {
            column[u] = lines[u][j];
        }
        let column = filter_transform::<S, A, R>(&column);
        for i in 0..A {
            // SAFETY: guaranteed by the caller.
            unsafe { scaled::<S, A>(column[i], i, j).store(to.add((i * A + j) * step)) }
        }
    }
}

/// Transforms the products at the points, `step` floats apart, to `M` by `M` outputs.
///
/// # Safety
/// `A · A` vectors must be readable.
#[inline(always)]
pub(super) unsafe fn transform_output<S: Simd, const A: usize, const M: usize>(
    from: *const f32,
    step: usize,
) -> [[S; MAX_POINTS]; MAX_POINTS] {
    let mut lines = [[S::splat(0.0); MAX_POINTS]; MAX_POINTS];
    for i in 0..A {
        let mut line = [S::splat(0.0); MAX_POINTS];
        for j in 0..A {
            // SAFETY: guaranteed by the caller.
            line[j] = unsafe { S::load(from.add((i * A + j) * step)) };
        }
        lines[i] = output_transform::<S, A, M>(&line);
    }
    let mut y = [[S::splat(0.0); MAX_POINTS]; MAX_POINTS];
    for j in 0..M {
        let mut column = [S::splat(0.0); MAX_POINTS];
        for i in 0..A {
            column[i] = lines[i][j];
        }
        let column = output_transform::<S, A, M>(&column);
        for i in 0..M {
            y[i][j] = column[i];
        }
    }
    y
}
