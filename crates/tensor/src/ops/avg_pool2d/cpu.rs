//! The kernels of the CPU. A task does some whole planes; in a plane, blocks of `N` neighbouring windows of one row are
//! done together, and windows that reach beyond the left or right edge one by one.

use super::super::window::Axis;
use super::Divisor;
use crate::parallel::{CHUNK, for_each_chunk};
use crate::simd::{Kernel, Simd, dispatch};

/// `y` from `x`.
pub(super) fn forward(axes: [Axis; 2], divisor: Divisor, x: &[f32], y: &mut [f32]) {
    let [from, to] = [axes[0].input * axes[1].input, axes[0].output * axes[1].output];
    for_each_chunk(y, (4 * CHUNK).div_ceil(from) * to, |start, y| {
        let x = &x[start / to * from..][..y.len() / to * from];
        dispatch(Forward { axes, divisor, x, y });
    });
}

/// `dx` from `dy`.
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
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let columns = &self.axes[1];
        match (columns.kernel, columns.stride) {
            (2, 2) => self.planes::<2, 2>(),
            (3, 1) => self.planes::<3, 1>(),
            (_, 1) => self.planes::<0, 1>(),
            (_, 2) => self.planes::<0, 2>(),
            _ => self.planes::<0, 0>(),
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
    fn run<S: Simd>(self) {
        let columns = &self.axes[1];
        match (columns.kernel, columns.stride) {
            (2, 2) => self.planes::<2, 2>(),
            (3, 1) => self.planes::<3, 1>(),
            (_, 1) => self.planes::<0, 1>(),
            (_, 2) => self.planes::<0, 2>(),
            _ => self.planes::<0, 0>(),
        }
    }
}

/// The windows of a row as blocks, the wide ones first: `$edge(s)` for each window over the left or right edge,
/// `$block::<N>(s)` for the others.
macro_rules! for_each_block {
    ($columns:expr, |$s:ident| $edge:expr, |$b:ident, $n:ident| $block:expr) => {
        let inside = $columns.inside();
        for $s in (0..inside.start).chain(inside.end..$columns.output) {
            $edge;
        }
        let mut $b = inside.start;
        while $b < inside.end {
            let left = inside.end - $b;
            $b += if left >= 16 {
                const $n: usize = 16;
                $block;
                16
            } else if left >= 4 {
                const $n: usize = 4;
                $block;
                4
            } else {
                const $n: usize = 1;
                $block;
                1
            };
        }
    };
}

impl Forward<'_> {
    /// `K` is the number of columns of the window, `S` the stride along them; 0 stands for any.
    #[inline(always)]
    fn planes<const K: usize, const S: usize>(self) {
        let [rows, columns] = &self.axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        for (x, y) in self.x.chunks_exact(from).zip(self.y.chunks_exact_mut(to)) {
            for (r, y) in y.chunks_exact_mut(columns.output).enumerate() {
                let part = Row::<K, S> { rows, columns, r, divisor: self.divisor };
                for_each_block!(columns, |s| y[s] = part.sum_edge(s, x), |s, N| part.sum::<N>(s, x, y));
            }
        }
    }
}

impl Backward<'_> {
    /// As [`Forward::planes`].
    #[inline(always)]
    fn planes<const K: usize, const S: usize>(self) {
        let [rows, columns] = &self.axes;
        let (from, to) = (rows.output * columns.output, rows.input * columns.input);
        for (dy, dx) in self.dy.chunks_exact(from).zip(self.dx.chunks_exact_mut(to)) {
            dx.fill(0.0);
            for (r, dy) in dy.chunks_exact(columns.output).enumerate() {
                let part = Row::<K, S> { rows, columns, r, divisor: self.divisor };
                for_each_block!(columns, |s| part.spread_edge(s, dy[s], dx), |s, N| part
                    .spread::<N>(s, dy, dx));
            }
        }
    }
}

/// Row `r` of the windows.
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
    fn sizes(&self) -> (usize, usize) {
        (if K == 0 { self.columns.kernel } else { K }, if S == 0 { self.columns.stride } else { S })
    }

    /// Where the window's pixels of row `u` begin in the plane, for a window `s` that is inside.
    #[inline(always)]
    fn start(&self, u: usize, s: usize) -> usize {
        self.rows.pixel(self.r, u) * self.columns.input + s * self.sizes().1 - self.columns.padding
    }

    #[inline(always)]
    fn sum<const N: usize>(&self, s: usize, x: &[f32], y: &mut [f32]) {
        let (kernel, stride) = self.sizes();
        let mut sum = [0.0; N];
        for u in self.rows.taps(self.r) {
            let start = self.start(u, s);
            for v in 0..kernel {
                let from = &x[start + v..][..(N - 1) * stride + 1];
                for l in 0..N {
                    sum[l] += from[l * stride];
                }
            }
        }
        let divisor = self.divisor(s);
        y[s..s + N].copy_from_slice(&sum.map(|sum| sum / divisor));
    }

    #[inline(always)]
    fn sum_edge(&self, s: usize, x: &[f32]) -> f32 {
        let mut sum = 0.0;
        for u in self.rows.taps(self.r) {
            let row = self.rows.pixel(self.r, u) * self.columns.input;
            for v in self.columns.taps(s) {
                sum += x[row + self.columns.pixel(s, v)];
            }
        }
        sum / self.divisor(s)
    }

    #[inline(always)]
    fn spread<const N: usize>(&self, s: usize, dy: &[f32], dx: &mut [f32]) {
        let (kernel, stride) = self.sizes();
        let divisor = self.divisor(s);
        let mut share = [0.0; N];
        for l in 0..N {
            share[l] = dy[s + l] / divisor;
        }
        for u in self.rows.taps(self.r) {
            let start = self.start(u, s);
            for v in 0..kernel {
                let to = &mut dx[start + v..][..(N - 1) * stride + 1];
                for l in 0..N {
                    to[l * stride] += share[l];
                }
            }
        }
    }

    #[inline(always)]
    fn spread_edge(&self, s: usize, dy: f32, dx: &mut [f32]) {
        let share = dy / self.divisor(s);
        for u in self.rows.taps(self.r) {
            let row = self.rows.pixel(self.r, u) * self.columns.input;
            for v in self.columns.taps(s) {
                dx[row + self.columns.pixel(s, v)] += share;
            }
        }
    }
}
