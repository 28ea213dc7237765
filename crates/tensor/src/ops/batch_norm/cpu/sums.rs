//! Sums over the elements of each channel.
//!
//! Short runs are summed in single precision, their sums in double precision. Terms are given by [`Terms`] rather than closures: a
//! closure that is not inlined is compiled without the instruction set of the kernel.

use super::blocks::{COLUMNS, NONE, PLANE, RELU, SIGMOID, TERMS, each_block};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::Activation;
use crate::ops::batch_norm::sizes::Sizes;

/// `K` terms for each element.
trait Terms<const K: usize> {
    /// Computes the terms of `len` elements from `at` on, whose channels have the shifts `shift`. Lanes from `len` on are 0.
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; K];
}

/// The term `x`.
struct Plain<'a>(&'a [f32]);

impl Terms<1> for Plain<'_> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, _shift: S) -> [S; 1] {
        [S::from_short_slice(&self.0[at..at + len])]
    }
}

/// The terms `(x - shift)²` and `x - shift`.
struct Deviation<'a>(&'a [f32]);

impl Terms<2> for Deviation<'_> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; 2] {
        let mut d = S::from_short_slice(&self.0[at..at + len]) - shift;
        if len < S::LANES {
            d = d * S::from_short_slice(&[1.0; 16][..len]);
        }
        [d * d, d]
    }
}

/// The terms `dz (x - shift)` and `dz`, the gradient before the activation `A`.
#[derive(Clone, Copy)]
pub(super) struct Grads<'a, const A: u8> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    /// Empty if there is no activation.
    pub y: &'a [f32],
}

impl<const A: u8> Grads<'_, A> {
    /// Computes `dz` of `len` elements from `at` on.
    #[inline(always)]
    pub fn dz<S: Simd>(&self, at: usize, len: usize) -> S {
        let dy = S::from_short_slice(&self.dy[at..at + len]);
        if A == NONE {
            return dy;
        }
        let y = S::from_short_slice(&self.y[at..at + len]);
        match A {
            RELU => Activation::Relu.grad_value(y, dy),
            SIGMOID => Activation::Sigmoid.grad_value(y, dy),
            _ => Activation::Tanh.grad_value(y, dy),
        }
    }
}

impl<const A: u8> Terms<2> for Grads<'_, A> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; 2] {
        let dz = self.dz::<S>(at, len);
        [dz * (S::from_short_slice(&self.x[at..at + len]) - shift), dz]
    }
}

/// Sums the terms of `len` elements from `at` on, in four interleaved parts.
#[inline(always)]
fn line<S: Simd, const K: usize, T: Terms<K>>(terms: &T, at: usize, len: usize, shift: S) -> [f64; K] {
    let mut total = [0.0; K];
    let end = at + len;
    let mut at = at;
    while at < end {
        let stop = end.min(at + 4 * TERMS * S::LANES);
        let mut sums = [[S::splat(0.0); K]; 4];
        while at + 4 * S::LANES <= stop {
            for sum in &mut sums {
                let a = terms.terms(at, S::LANES, shift);
                for k in 0..K {
                    sum[k] = sum[k] + a[k];
                }
                at += S::LANES;
            }
        }
        while at < stop {
            let len = S::LANES.min(stop - at);
            let a = terms.terms(at, len, shift);
            for k in 0..K {
                sums[0][k] = sums[0][k] + a[k];
            }
            at += len;
        }
        for k in 0..K {
            total[k] += f64::from(((sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k])).sum());
        }
    }
    total
}

/// Some columns of a matrix of `rows` rows.
#[derive(Clone, Copy)]
struct Columns {
    rows: usize,
    width: usize,
    first: usize,
    /// At most [`COLUMNS`].
    count: usize,
}

/// Sums the terms of each column.
#[inline(always)]
fn columns<S: Simd, const K: usize, T: Terms<K>>(
    terms: &T,
    c: Columns,
    shift: &[f32; COLUMNS],
) -> [[f64; COLUMNS]; K] {
    let mut total = [[0.0; COLUMNS]; K];
    let mut at = 0;
    while at + 4 * S::LANES <= c.count {
        vectors::<S, K, 4, T>(terms, c, at, S::LANES, shift, &mut total);
        at += 4 * S::LANES;
    }
    while at < c.count {
        let len = S::LANES.min(c.count - at);
        vectors::<S, K, 1, T>(terms, c, at, len, shift, &mut total);
        at += len;
    }
    total
}

/// Sums the terms of `V` vectors of `len` columns each, from column `at` of `c` on.
#[inline(always)]
fn vectors<S: Simd, const K: usize, const V: usize, T: Terms<K>>(
    terms: &T,
    c: Columns,
    at: usize,
    len: usize,
    shift: &[f32; COLUMNS],
    total: &mut [[f64; COLUMNS]; K],
) {
    let mut shifts = [S::splat(0.0); V];
    for (v, s) in shifts.iter_mut().enumerate() {
        *s = S::from_short_slice(&shift[at + v * S::LANES..][..len]);
    }
    let mut row = 0;
    while row < c.rows {
        let stop = c.rows.min(row + TERMS);
        let mut sums = [[S::splat(0.0); K]; V];
        while row < stop {
            let start = row * c.width + c.first + at;
            for v in 0..V {
                let a = terms.terms(start + v * S::LANES, len, shifts[v]);
                for k in 0..K {
                    sums[v][k] = sums[v][k] + a[k];
                }
            }
            row += 1;
        }
        for (v, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                let mut lanes = [0.0; 16];
                sum.to_slice(&mut lanes);
                for (total, lane) in total[k][at + v * S::LANES..][..len].iter_mut().zip(lanes) {
                    *total += f64::from(lane);
                }
            }
        }
    }
}

/// Computes the mean and the biased variance of channels from `first` on.
pub(super) struct Moments<'a> {
    pub x: &'a [f32],
    pub sizes: Sizes,
    pub first: usize,
    pub mean: &'a mut [f32],
    pub var: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Moments { x, sizes, first, mean, var } = self;
        let Sizes { n, c: channels, pixels } = sizes;
        let count = sizes.count() as f64;
        if pixels < PLANE {
            let c = Columns {
                rows: n,
                width: channels * pixels,
                first: first * pixels,
                count: mean.len() * pixels,
            };
            let [sums] = columns::<S, 1, _>(&Plain(x), c, &[0.0; COLUMNS]);
            let mut shift = [0.0; COLUMNS];
            for (i, mean) in mean.iter_mut().enumerate() {
                let of = i * pixels..(i + 1) * pixels;
                *mean = (sums[of.clone()].iter().sum::<f64>() / count) as f32;
                shift[of].fill(*mean);
            }
            // Corrects the variance for the rounding of the mean.
            let [squares, rests] = columns::<S, 2, _>(&Deviation(x), c, &shift);
            for (i, var) in var.iter_mut().enumerate() {
                let [square, rest] =
                    [&squares, &rests].map(|s| s[i * pixels..(i + 1) * pixels].iter().sum::<f64>() / count);
                *var = (square - rest * rest).max(0.0) as f32;
            }
            return;
        }
        // One channel plane at a time, which stays in the cache for both passes. Combined by the formula of T. Chan, G. Golub and
        // R. LeVeque ("Updating formulae", 1979).
        let size = pixels as f64;
        for (i, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
            let (mut center, mut squares) = (0.0, 0.0);
            for image in 0..n {
                let at = (image * channels + first + i) * pixels;
                let [sum] = line::<S, 1, _>(&Plain(x), at, pixels, S::splat(0.0));
                let shift = (sum / size) as f32;
                let [square, rest] = line::<S, 2, _>(&Deviation(x), at, pixels, S::splat(shift));
                let step = f64::from(shift) + rest / size - center;
                let seen = image as f64;
                center += step / (seen + 1.0);
                squares += square - rest * rest / size + step * step * size * (seen / (seen + 1.0));
            }
            // The mean of no images is NaN.
            *mean = if n == 0 { f32::NAN } else { center as f32 };
            *var = (squares / count) as f32;
        }
    }
}

/// Computes `dot = Σ dz (x - mean)` and `sum = Σ dz` for each channel.
pub(super) fn grad_sums<const A: u8>(
    x: &[f32],
    dy: &[f32],
    y: &[f32],
    sizes: Sizes,
    mean: &[f32],
    dot: &mut [f32],
    sum: &mut [f32],
) {
    let grads = Grads::<A> { x, dy, y };
    each_block(sizes, dot, sum, |first, dot, sum| {
        dispatch(GradSums { grads, sizes, mean: &mean[first..first + dot.len()], first, dot, sum });
    });
}

pub(super) struct GradSums<'a, const A: u8> {
    pub grads: Grads<'a, A>,
    pub sizes: Sizes,
    pub mean: &'a [f32],
    pub first: usize,
    pub dot: &'a mut [f32],
    pub sum: &'a mut [f32],
}

impl<const A: u8> Kernel for GradSums<'_, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let GradSums { grads, sizes, mean, first, dot, sum } = self;
        let Sizes { n, c: channels, pixels } = sizes;
        if pixels < PLANE {
            let c = Columns {
                rows: n,
                width: channels * pixels,
                first: first * pixels,
                count: dot.len() * pixels,
            };
            let mut shift = [0.0; COLUMNS];
            for (i, mean) in mean.iter().enumerate() {
                shift[i * pixels..(i + 1) * pixels].fill(*mean);
            }
            let [dots, sums] = columns::<S, 2, _>(&grads, c, &shift);
            for (i, (dot, sum)) in dot.iter_mut().zip(sum).enumerate() {
                let of = i * pixels..(i + 1) * pixels;
                *dot = dots[of.clone()].iter().sum::<f64>() as f32;
                *sum = sums[of].iter().sum::<f64>() as f32;
            }
            return;
        }
        for (i, (dot, sum)) in dot.iter_mut().zip(sum).enumerate() {
            let mut total = [0.0; 2];
            for image in 0..n {
                let at = (image * channels + first + i) * pixels;
                let [a, b] = line::<S, 2, _>(&grads, at, pixels, S::splat(mean[i]));
                total = [total[0] + a, total[1] + b];
            }
            [*dot, *sum] = total.map(|t| t as f32);
        }
    }
}
