//! CPU kernels. A task processes some channel planes. Within a plane, kernels are vectorized over adjacent windows of a row:
//!
//! ```text
//! outputs   r: [s  s+1  …]               the sum of one window in each lane
//! pixels    row(u): x[first + v + lane * stride]     for each (u, v) of the window
//! ```
//!
//! For stride 2, two vectors of pixels are deinterleaved. Lanes beyond the row compute unspecified values that are not stored.
//! Windows at the left and right edge, and all windows with a larger stride, are computed one by one.

use super::divisor::Divisor;
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::channel_blocks::BlockMap;
use crate::ops::pooling::Axis;
use crate::ops::pooling::blocks::{Combine, pool_block};

/// Computes `y` from `x`.
pub(super) fn forward(axes: [Axis; 2], divisor: Divisor, x: &[f32], y: &mut [f32]) {
    let [from, to] = [axes[0].input * axes[1].input, axes[0].output * axes[1].output];
    for_each_chunk(y, (4 * CHUNK).div_ceil(from) * to, |start, y| {
        let x = &x[start / to * from..];
        dispatch(Forward { axes, divisor, x, y });
    });
}

/// Computes `dx` from `dy`.
pub(super) fn backward(axes: [Axis; 2], divisor: Divisor, dy: &[f32], dx: &mut [f32]) {
    let [from, to] = [axes[0].output * axes[1].output, axes[0].input * axes[1].input];
    for_each_chunk(dx, (4 * CHUNK).div_ceil(to) * to, |start, dx| {
        let dy = &dy[start / to * from..][..dx.len() / to * from];
        dispatch(Backward { axes, divisor, dy, dx });
    });
}

struct Forward<'a> {
    axes: [Axis; 2],
    divisor: Divisor,
    /// The channel planes of this task, and those that follow.
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let columns = &self.axes[1];
        match (columns.kernel, columns.stride) {
            (2, 2) => self.planes::<V, 2, 2>(),
            (3, 1) => self.planes::<V, 3, 1>(),
            (_, 1) => self.planes::<V, 0, 1>(),
            (_, 2) => self.planes::<V, 0, 2>(),
            _ => self.planes::<V, 0, 0>(),
        }
    }
}

struct Backward<'a> {
    axes: [Axis; 2],
    divisor: Divisor,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let columns = &self.axes[1];
        match (columns.kernel, columns.stride) {
            (2, 2) => self.planes::<V, 2, 2>(),
            (3, 1) => self.planes::<V, 3, 1>(),
            (_, 1) => self.planes::<V, 0, 1>(),
            _ => self.planes::<V, 0, 0>(),
        }
    }
}

/// Returns the vectors of `lanes` windows of a row: the first window and the number of windows of each. With `overlap` the last
/// vector is full, and some windows are computed twice.
#[inline(always)]
fn vectors(
    inside: std::ops::Range<usize>,
    lanes: usize,
    overlap: bool,
) -> impl Iterator<Item = (usize, usize)> {
    let last = inside.end.saturating_sub(lanes).max(inside.start);
    inside.clone().step_by(lanes).map(move |s| {
        let s = if overlap { s.min(last) } else { s };
        (s, lanes.min(inside.end - s))
    })
}

impl Forward<'_> {
    /// `K` is the number of columns of the window, `S` their stride; 0 means any.
    #[inline(always)]
    fn planes<V: Simd, const K: usize, const S: usize>(self) {
        let [rows, columns] = &self.axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        let inside = if S == 0 { 0..0 } else { columns.inside() };
        for (p, y) in self.y.chunks_exact_mut(to).enumerate() {
            let x = &self.x[p * from..];
            for (r, y) in y.chunks_exact_mut(columns.output).enumerate() {
                let row = Row::<K, S> { rows, columns, r, divisor: self.divisor };
                for s in (0..inside.start).chain(inside.end..columns.output) {
                    y[s] = row.sum_edge(s, x);
                }
                for (s, count) in vectors(inside.clone(), V::LANES, true) {
                    row.sum::<V>(s, x).to_short_slice(&mut y[s..s + count]);
                }
            }
        }
    }
}

impl Backward<'_> {
    /// As [`Forward::planes`].
    #[inline(always)]
    fn planes<V: Simd, const K: usize, const S: usize>(self) {
        let [rows, columns] = &self.axes;
        let (from, to) = (rows.output * columns.output, rows.input * columns.input);
        let inside = if S == 0 { 0..0 } else { columns.inside() };
        for (dy, dx) in self.dy.chunks_exact(from).zip(self.dx.chunks_exact_mut(to)) {
            dx.fill(0.0);
            for (r, dy) in dy.chunks_exact(columns.output).enumerate() {
                let row = Row::<K, S> { rows, columns, r, divisor: self.divisor };
                for s in (0..inside.start).chain(inside.end..columns.output) {
                    row.scatter_edge(s, dy[s], dx);
                }
                for (s, count) in vectors(inside.clone(), V::LANES, false) {
                    row.scatter::<V>(s, &dy[s..s + count], dx);
                }
            }
        }
    }
}

/// Row `r` of windows.
struct Row<'a, const K: usize, const S: usize> {
    rows: &'a Axis,
    columns: &'a Axis,
    r: usize,
    divisor: Divisor,
}

impl<const K: usize, const S: usize> Row<'_, K, S> {
    #[inline(always)]
    fn divisor(&self, s: usize) -> f32 {
        self.divisor.of([self.rows, self.columns], self.r, s) as f32
    }

    #[inline(always)]
    fn kernel(&self) -> usize {
        if K == 0 { self.columns.kernel } else { K }
    }

    /// Returns the position of the first pixel of row `u` of window `s`, which is within the image.
    #[inline(always)]
    fn start(&self, u: usize, s: usize) -> usize {
        self.rows.pixel(self.r, u) * self.columns.input + s * S - self.columns.padding
    }

    /// Computes a vector of windows from `s` on. `x` is the channel plane and those that follow.
    #[inline(always)]
    fn sum<V: Simd>(&self, s: usize, x: &[f32]) -> V {
        let pixels = |at: usize| V::from_short_slice(&x[at.min(x.len())..]);
        let pairs = |at: usize| pixels(at).deinterleave(pixels(at + V::LANES));
        let mut sum = V::splat(0.0);
        for u in self.rows.taps(self.r) {
            let start = self.start(u, s);
            if (K, S) == (2, 2) {
                let (even, odd) = pairs(start);
                sum = sum + even + odd;
            } else {
                for v in 0..self.kernel() {
                    sum = sum + if S == 2 { pairs(start + v).0 } else { pixels(start + v) };
                }
            }
        }
        sum / V::splat(self.divisor(s))
    }

    #[inline(always)]
    fn sum_edge(&self, s: usize, x: &[f32]) -> f32 {
        let mut sum = 0.0;
        let taps = self.columns.taps(s);
        for u in self.rows.taps(self.r) {
            let row = self.rows.pixel(self.r, u) * self.columns.input;
            for v in taps.clone() {
                sum += x[row + self.columns.pixel(s, v)];
            }
        }
        sum / self.divisor(s)
    }

    /// Distributes the gradients of at most a vector of windows, from `s` on, to `dx`.
    #[inline(always)]
    fn scatter<V: Simd>(&self, s: usize, dy: &[f32], dx: &mut [f32]) {
        let share = V::from_short_slice(dy) / V::splat(self.divisor(s));
        for u in self.rows.taps(self.r) {
            let start = self.start(u, s);
            if (K, S) == (2, 2) {
                let (low, high) = share.interleave(share);
                let dx = &mut dx[start..start + 2 * dy.len()];
                (V::from_short_slice(dx) + low).to_short_slice(dx);
                if let Some(dx) = dx.get_mut(V::LANES..) {
                    (V::from_short_slice(dx) + high).to_short_slice(dx);
                }
            } else {
                for v in 0..self.kernel() {
                    let dx = &mut dx[start + v..start + v + dy.len()];
                    (V::from_short_slice(dx) + share).to_short_slice(dx);
                }
            }
        }
    }

    #[inline(always)]
    fn scatter_edge(&self, s: usize, dy: f32, dx: &mut [f32]) {
        let share = dy / self.divisor(s);
        let taps = self.columns.taps(s);
        for u in self.rows.taps(self.r) {
            let row = self.rows.pixel(self.r, u) * self.columns.input;
            for v in taps.clone() {
                dx[row + self.columns.pixel(s, v)] += share;
            }
        }
    }
}

/// Pooling in blocks of channels.
pub(super) struct Blockwise {
    pub axes: [Axis; 2],
    pub divisor: Divisor,
}

impl BlockMap for Blockwise {
    #[inline(always)]
    fn block<S: Simd>(&self, _channels: std::ops::Range<usize>, x: &[f32], y: &mut [f32]) {
        pool_block::<S>(self, &self.axes, x, y);
    }
}

impl Combine for Blockwise {
    #[inline(always)]
    fn start<S: Simd>(&self) -> S {
        S::splat(0.0)
    }

    #[inline(always)]
    fn add<S: Simd>(&self, value: S, pixel: S) -> S {
        value + pixel
    }

    #[inline(always)]
    fn finish<S: Simd>(&self, value: S, axes: [&Axis; 2], r: usize, s: usize) -> S {
        value / S::splat(self.divisor.of(axes, r, s) as f32)
    }
}
