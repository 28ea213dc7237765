//! The kernels of the CPU.
//!
//! A task does some whole planes. In a plane, a block of `N` neighbouring outputs of one row is kept in registers while
//! the window's elements go by:
//!
//! ```text
//! outputs   r: [s s+1 … s+N-1]            best[l], at[l]
//! pixels    row(u): x[first + v * dilation + l * stride],  l = 0 … N-1     for each (u, v) of the window
//! ```
//!
//! Windows that reach beyond the left or right edge are done one by one.

use rayon::prelude::*;

use super::super::window::Axis;
use crate::parallel::{CHUNK, for_each_chunk};
use crate::simd::{Kernel, Simd, dispatch};

/// `y` and, if wanted, the indices.
pub(super) fn forward(axes: [Axis; 2], x: &[f32], y: &mut [f32], indices: Option<&mut [f32]>) {
    let [rows, columns] = axes;
    let (from, to) = (rows.input * columns.input, rows.output * columns.output);
    let planes = planes_per_task(from);
    match indices {
        None => for_each_chunk(y, planes * to, |start, y| {
            let x = &x[start / to * from..][..y.len() / to * from];
            dispatch(Forward::<false> { axes, x, y, indices: &mut [] });
        }),
        Some(indices) => {
            let tasks = y.par_chunks_mut(planes * to).zip(indices.par_chunks_mut(planes * to));
            tasks.enumerate().for_each(|(i, (y, indices))| {
                let x = &x[i * planes * from..][..y.len() / to * from];
                dispatch(Forward::<true> { axes, x, y, indices });
            });
        }
    }
}

/// `dx`, of planes `input_size`, from `dy` and the indices, of planes `output_size`.
pub(super) fn backward(
    input_size: [usize; 2],
    output_size: [usize; 2],
    dy: &[f32],
    indices: &[f32],
    dx: &mut [f32],
) {
    let [from, to] = [output_size, input_size].map(|[h, w]| h * w);
    if to == 0 {
        return;
    }
    let planes = planes_per_task(to);
    for_each_chunk(dx, planes * to, |start, dx| {
        let part = start / to * from..(start + dx.len()) / to * from;
        let (dy, indices) = (&dy[part.clone()], &indices[part]);
        dispatch(Backward { input_size, output_size, dy, indices, dx });
    });
}

/// How many planes of `pixels` pixels make a task.
fn planes_per_task(pixels: usize) -> usize {
    (4 * CHUNK).div_ceil(pixels)
}

struct Forward<'a, const INDICES: bool> {
    axes: [Axis; 2],
    x: &'a [f32],
    y: &'a mut [f32],
    indices: &'a mut [f32],
}

impl<const INDICES: bool> Kernel for Forward<'_, INDICES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let [rows, columns] = self.axes;
        let square = rows.kernel == columns.kernel && columns.dilation == 1;
        match (columns.kernel, columns.stride) {
            (2, 2) if square => self.planes::<2, 2>(),
            (3, 2) if square => self.planes::<3, 2>(),
            (3, 1) if square => self.planes::<3, 1>(),
            (_, 1) => self.planes::<0, 1>(),
            (_, 2) => self.planes::<0, 2>(),
            _ => self.planes::<0, 0>(),
        }
    }
}

impl<const INDICES: bool> Forward<'_, INDICES> {
    /// `K` is the size of a square window without dilation, `S` the stride along the columns; 0 stands for any.
    #[inline(always)]
    fn planes<const K: usize, const S: usize>(self) {
        let [rows, columns] = self.axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        let mut indices = self.indices.chunks_exact_mut(to);
        for (x, y) in self.x.chunks_exact(from).zip(self.y.chunks_exact_mut(to)) {
            let plane = Plane::<K, S, INDICES> { rows, columns, x };
            plane.run(y, indices.next().unwrap_or_default());
        }
    }
}

struct Plane<'a, const K: usize, const S: usize, const INDICES: bool> {
    rows: Axis,
    columns: Axis,
    x: &'a [f32],
}

impl<const K: usize, const S: usize, const INDICES: bool> Plane<'_, K, S, INDICES> {
    #[inline(always)]
    fn run(&self, y: &mut [f32], indices: &mut [f32]) {
        let width = self.columns.output;
        let inside = self.columns.inside();
        let mut indices = indices.chunks_exact_mut(width);
        for (r, y) in y.chunks_exact_mut(width).enumerate() {
            let indices = indices.next().unwrap_or_default();
            for s in (0..inside.start).chain(inside.end..width) {
                self.edge(r, s, y, indices);
            }
            let mut s = inside.start;
            while s + 16 <= inside.end {
                self.block::<16>(r, s, y, indices);
                s += 16;
            }
            if s + 8 <= inside.end {
                self.block::<8>(r, s, y, indices);
                s += 8;
            }
            if s + 4 <= inside.end {
                self.block::<4>(r, s, y, indices);
                s += 4;
            }
            while s < inside.end {
                self.block::<1>(r, s, y, indices);
                s += 1;
            }
        }
    }

    /// Outputs `s` to `s + N` of row `r`, whose windows do not reach beyond the edges left and right.
    #[inline(always)]
    fn block<const N: usize>(&self, r: usize, s: usize, y: &mut [f32], indices: &mut [f32]) {
        let (kernel, stride, dilation) = (
            if K == 0 { self.columns.kernel } else { K },
            if S == 0 { self.columns.stride } else { S },
            if K == 0 { self.columns.dilation } else { 1 },
        );
        let taps = self.rows.taps(r);
        let column = s * stride - self.columns.padding;
        let mut best = [f32::NEG_INFINITY; N];
        let mut at = [(self.rows.pixel(r, taps.start) * self.columns.input + column) as f32; N];
        for u in taps {
            let start = self.rows.pixel(r, u) * self.columns.input + column;
            for v in 0..kernel {
                let start = start + v * dilation;
                let from = &self.x[start..start + (N - 1) * stride + 1];
                let here = start as f32;
                for l in 0..N {
                    let value = from[l * stride];
                    let wins = value > best[l] || value.is_nan();
                    best[l] = if wins { value } else { best[l] };
                    if INDICES {
                        at[l] = if wins { here } else { at[l] };
                    }
                }
            }
        }
        y[s..s + N].copy_from_slice(&best);
        if INDICES {
            for (l, index) in indices[s..s + N].iter_mut().enumerate() {
                *index = at[l] + (l * stride) as f32;
            }
        }
    }

    /// One output, whose window may reach beyond any edge.
    #[inline(always)]
    fn edge(&self, r: usize, s: usize, y: &mut [f32], indices: &mut [f32]) {
        let (us, vs) = (self.rows.taps(r), self.columns.taps(s));
        let mut at = self.rows.pixel(r, us.start) * self.columns.input + self.columns.pixel(s, vs.start);
        let mut best = f32::NEG_INFINITY;
        for u in us {
            let row = self.rows.pixel(r, u) * self.columns.input;
            for v in vs.clone() {
                let here = row + self.columns.pixel(s, v);
                let value = self.x[here];
                if value > best || value.is_nan() {
                    (best, at) = (value, here);
                }
            }
        }
        y[s] = best;
        if INDICES {
            indices[s] = at as f32;
        }
    }
}

struct Backward<'a> {
    input_size: [usize; 2],
    output_size: [usize; 2],
    dy: &'a [f32],
    indices: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let [from, to] = [self.output_size, self.input_size].map(|[h, w]| h * w);
        for (p, dx) in self.dx.chunks_exact_mut(to).enumerate() {
            let part = p * from..(p + 1) * from;
            let (dy, indices) = (&self.dy[part.clone()], &self.indices[part]);
            scatter(dy, indices, dx);
        }
    }
}

/// Adds each gradient where its index points to; windows may overlap.
#[inline(always)]
fn scatter(dy: &[f32], indices: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    for (d, &at) in dy.iter().zip(indices) {
        if at >= 0.0
            && let Some(x) = dx.get_mut(at as usize)
        {
            *x += d;
        }
    }
}
