//! Two-dimensional transforms of filters, and of products back to outputs.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use crate::cpu::simd::Simd;
use crate::ops::conv2d::cpu::taps::MAX_TAPS;
use crate::ops::conv2d::winograd::transform::{
    ConstantResponse, MAX_POINTS, filter_transform, output_transform, scaled,
};

/// Maximum number of lanes.
const MAX_LANES: usize = 16;

/// Transforms a filter of `R` by `R` taps to its scaled values at the points, and writes them `step` floats
/// apart. With a response, rounding errors of the values do not change the sum over a tile's outputs of a constant input.
///
/// # Safety
/// `A · A` vectors must be writable.
#[inline(always)]
pub(super) unsafe fn transform_filter<S: Simd, const A: usize, const R: usize>(
    taps: &[S; MAX_TAPS],
    reverse: bool,
    response: Option<&ConstantResponse>,
    to: *mut f32,
    step: usize,
) {
    let mut lines = [[S::splat(0.0); MAX_POINTS]; R];
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
    if let Some(response) = response {
        // SAFETY: guaranteed by the caller; the values were written above.
        unsafe { correct::<S, A, R>(&taps[..R * R], response, to, step) }
    }
}

/// Corrects the values of a filter so that their response to a constant input is that of the taps.
///
/// # Safety
/// `A · A` vectors must be readable and writable.
#[inline(always)]
unsafe fn correct<S: Simd, const A: usize, const R: usize>(
    taps: &[S],
    response: &ConstantResponse,
    values: *mut f32,
    step: usize,
) {
    const { assert!(S::LANES <= MAX_LANES) };
    let outputs = ((A + 1 - R) * (A + 1 - R)) as f64;
    let mut off = [0.0f64; MAX_LANES];
    for tap in taps {
        add_product(&mut off, *tap, outputs);
    }
    for point in 0..A * A {
        // SAFETY: guaranteed by the caller.
        let value = unsafe { S::load(values.add(point * step)) };
        add_product(&mut off, value, -response.factors[point]);
    }
    let mut lanes = [0.0; MAX_LANES];
    let factor = response.factors[response.corrected];
    let value = values.wrapping_add(response.corrected * step);
    // SAFETY: guaranteed by the caller.
    unsafe { S::load(value) }.to_slice(&mut lanes[..S::LANES]);
    for (lane, off) in lanes[..S::LANES].iter_mut().zip(off) {
        *lane = (f64::from(*lane) + off / factor) as f32;
    }
    // SAFETY: guaranteed by the caller.
    unsafe { S::from_slice(&lanes).store(value) }
}

/// Adds the products of all lanes with `factor` to `sums`.
#[inline(always)]
fn add_product<S: Simd>(sums: &mut [f64; MAX_LANES], v: S, factor: f64) {
    let mut lanes = [0.0; MAX_LANES];
    v.to_slice(&mut lanes[..S::LANES]);
    for i in 0..S::LANES {
        sums[i] += f64::from(lanes[i]) * factor;
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
) -> [[S; M]; M] {
    // No more than is written: the rest would be set to 0 for each tile.
    let mut lines = [[S::splat(0.0); MAX_POINTS]; A];
    for i in 0..A {
        let mut line = [S::splat(0.0); MAX_POINTS];
        for j in 0..A {
            // SAFETY: guaranteed by the caller.
            line[j] = unsafe { S::load(from.add((i * A + j) * step)) };
        }
        lines[i] = output_transform::<S, A, M>(&line);
    }
    let mut y = [[S::splat(0.0); M]; M];
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
