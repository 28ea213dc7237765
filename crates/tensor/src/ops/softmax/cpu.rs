//! CPU kernels.

use std::ops::Range;

use super::rows::{LANES, exps, largest, scale};
use super::rule::{Rule, around};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};

/// Computes any of the functions. The outer positions are split over the threads.
pub(super) fn run(rule: Rule, dim: isize, inputs: [View<'_, f32>; 2], out: &mut ViewMut<'_, f32>) {
    if out.data.is_empty() {
        return;
    }
    let [_, len, inner] = around(dim, out.shape);
    let block = len * inner;
    for_each_chunk(out.data, (CHUNK / block).max(1) * block, |start, out| {
        let [a, b] = inputs.map(|v| &v.data[start..start + out.len()]);
        dispatch(Lines { rule, len, inner, a, b, out });
    });
}

struct Lines<'a> {
    rule: Rule,
    len: usize,
    inner: usize,
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Lines<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Lines { rule, len, inner, a, b, out } = self;
        let block = len * inner;
        let blocks = a.chunks_exact(block).zip(b.chunks_exact(block)).zip(out.chunks_exact_mut(block));
        for ((a, b), out) in blocks {
            if inner == 1 {
                row::<S>(rule, a, b, out);
            } else {
                // Vectorized over adjacent lines.
                for start in (0..inner).step_by(S::LANES) {
                    columns::<S>(
                        rule,
                        Columns { a, b, inner, start, count: S::LANES.min(inner - start) },
                        out,
                    );
                }
            }
        }
    }
}

/// Computes a contiguous line.
#[inline(always)]
fn row<S: Simd>(rule: Rule, a: &[f32], b: &[f32], out: &mut [f32]) {
    match rule {
        Rule::Softmax => {
            let sum = exps::<S>(a, largest::<S>(a), out);
            scale::<S>(out, 1.0 / sum);
        }
        Rule::LogSoftmax => {
            let max = largest::<S>(a);
            let ln_sum = S::splat(f64::from(exps::<S>(a, max, out)).ln() as f32);
            for (to, x) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)) {
                (S::from_short_slice(x) - S::splat(max) - ln_sum).to_short_slice(to);
            }
        }
        Rule::SoftmaxGrad => {
            let mut sum = S::splat(0.0);
            for (y, dy) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
                sum = S::from_short_slice(y).mul_add(S::from_short_slice(dy), sum);
            }
            let sum = S::splat(sum.sum());
            for ((to, y), dy) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)).zip(b.chunks(S::LANES)) {
                (S::from_short_slice(y) * (S::from_short_slice(dy) - sum)).to_short_slice(to);
            }
        }
        Rule::LogSoftmaxGrad => {
            let mut sum = S::splat(0.0);
            for dy in b.chunks(S::LANES) {
                sum = sum + S::from_short_slice(dy);
            }
            let sum = S::splat(sum.sum());
            for ((to, y), dy) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)).zip(b.chunks(S::LANES)) {
                let share = Real::exp(S::from_short_slice(y)) * sum;
                (S::from_short_slice(dy) - share).to_short_slice(to);
            }
        }
    }
}

/// Up to `LANES` adjacent lines, whose elements have the stride `inner`.
#[derive(Clone, Copy)]
struct Columns<'a> {
    a: &'a [f32],
    b: &'a [f32],
    inner: usize,
    start: usize,
    count: usize,
}

impl Columns<'_> {
    #[inline(always)]
    fn at(&self, k: usize) -> Range<usize> {
        k * self.inner + self.start..k * self.inner + self.start + self.count
    }
    #[inline(always)]
    fn a<S: Simd>(&self, k: usize) -> S {
        S::from_short_slice(&self.a[self.at(k)])
    }
    #[inline(always)]
    fn b<S: Simd>(&self, k: usize) -> S {
        S::from_short_slice(&self.b[self.at(k)])
    }
}

#[inline(always)]
fn columns<S: Simd>(rule: Rule, c: Columns<'_>, out: &mut [f32]) {
    let len = out.len() / c.inner;
    let mut sum = S::splat(0.0);
    match rule {
        Rule::Softmax | Rule::LogSoftmax => {
            let mut max = S::splat(f32::NEG_INFINITY);
            for k in 0..len {
                max = Simd::max(c.a::<S>(k), max);
            }
            for k in 0..len {
                let e = Real::exp(c.a::<S>(k) - max);
                sum = sum + e;
                e.to_short_slice(&mut out[c.at(k)]);
            }
            if let Rule::Softmax = rule {
                let share = S::splat(1.0) / sum;
                for k in 0..len {
                    (S::from_short_slice(&out[c.at(k)]) * share).to_short_slice(&mut out[c.at(k)]);
                }
                return;
            }
            let mut sums = [0.0; LANES];
            sum.to_slice(&mut sums);
            let ln_sum = S::from_slice(&sums.map(|s| f64::from(s).ln() as f32));
            for k in 0..len {
                (c.a::<S>(k) - max - ln_sum).to_short_slice(&mut out[c.at(k)]);
            }
        }
        Rule::SoftmaxGrad => {
            for k in 0..len {
                sum = c.a::<S>(k).mul_add(c.b::<S>(k), sum);
            }
            for k in 0..len {
                (c.a::<S>(k) * (c.b::<S>(k) - sum)).to_short_slice(&mut out[c.at(k)]);
            }
        }
        Rule::LogSoftmaxGrad => {
            for k in 0..len {
                sum = sum + c.b::<S>(k);
            }
            for k in 0..len {
                (c.b::<S>(k) - Real::exp(c.a::<S>(k)) * sum).to_short_slice(&mut out[c.at(k)]);
            }
        }
    }
}
