//! CPU kernels.
//!
//! A task processes some channel planes. Within a plane, kernels are vectorized over adjacent outputs of a row, which stay in
//! registers while the elements of the window are compared:
//!
//! ```text
//! outputs   r: [s  s+1  …]               value, index: one lane each
//! pixels    row(u): x[first + v * dilation + lane * stride]     for each (u, v) of the window
//! ```
//!
//! For stride 2, two vectors of pixels are deinterleaved, for two values of `v`. Lanes beyond the row compute unspecified values
//! that are not stored. Windows at the left and right edge, and all windows with a larger stride, are computed one by one. Small
//! planes use the algorithm of `plane_vectorized`.

mod best;
mod plane_vectorized;

use std::ops::Range;

use rayon::prelude::*;

use self::best::Best;
use crate::cpu::parallel::{CHUNK, for_each_chunk, min_len};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::ops::channel_blocks::BlockMap;
use crate::ops::pooling::blocks::{Combine, pool_block};
use crate::ops::pooling::{Axis, LARGEST_INDEXED_PLANE};

/// Computes `y`, and the indices if requested.
pub(super) fn forward(
    axes: [Axis; 2],
    x: &[f32],
    y: &mut [f32],
    indices: Option<&mut [f32]>,
    scratch: &Scratch,
) {
    let [rows, columns] = axes;
    let (from, to) = (rows.input * columns.input, rows.output * columns.output);
    let planes = planes_per_task(from);
    match indices {
        None => for_each_chunk(y, planes * to, |start, y| {
            run::<false>(axes, &x[start / to * from..], y, &mut [], scratch);
        }),
        Some(indices) => {
            let tasks = y.par_chunks_mut(planes * to).zip(indices.par_chunks_mut(planes * to));
            tasks.enumerate().with_min_len(min_len()).for_each(|(i, (y, indices))| {
                run::<true>(axes, &x[i * planes * from..], y, indices, scratch);
            });
        }
    }
}

/// Computes the channel planes of a task; `x` may contain more.
fn run<const INDICES: bool>(
    axes: [Axis; 2],
    x: &[f32],
    y: &mut [f32],
    indices: &mut [f32],
    scratch: &Scratch,
) {
    if plane_vectorized::is_better(axes) {
        dispatch(plane_vectorized::Planes::<INDICES> { axes, x, y, indices, scratch });
    } else {
        dispatch(Forward::<INDICES> { axes, x, y, indices });
    }
}

/// Computes `dx`, with planes of `input_size`, from `dy` and the indices, with planes of `output_size`.
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

/// Returns the number of planes of a task; a multiple of the vector width for small planes.
fn planes_per_task(pixels: usize) -> usize {
    let planes = (4 * CHUNK).div_ceil(pixels);
    if planes < 16 { planes } else { planes.next_multiple_of(16) }
}

struct Forward<'a, const INDICES: bool> {
    axes: [Axis; 2],
    /// The channel planes of this task, and those that follow.
    x: &'a [f32],
    y: &'a mut [f32],
    indices: &'a mut [f32],
}

impl<const INDICES: bool> Kernel for Forward<'_, INDICES> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let columns = self.axes[1];
        match (columns.kernel, columns.stride, columns.dilation) {
            (2, 2, 1) => self.planes::<V, 2, 2>(),
            (3, 2, 1) => self.planes::<V, 3, 2>(),
            (3, 1, 1) => self.planes::<V, 3, 1>(),
            (_, 1, _) => self.planes::<V, 0, 1>(),
            (_, 2, _) => self.planes::<V, 0, 2>(),
            _ => self.planes::<V, 0, 0>(),
        }
    }
}

impl<const INDICES: bool> Forward<'_, INDICES> {
    /// `K` is the width of a window without dilation, `S` the stride of the columns; 0 means any.
    #[inline(always)]
    fn planes<V: Simd, const K: usize, const S: usize>(self) {
        let [rows, columns] = self.axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        let mut indices = self.indices.chunks_exact_mut(to);
        for (p, y) in self.y.chunks_exact_mut(to).enumerate() {
            let plane = Plane::<K, S, INDICES> { rows, columns, x: &self.x[p * from..] };
            plane.run::<V>(y, indices.next().unwrap_or_default());
        }
    }
}

struct Plane<'a, const K: usize, const S: usize, const INDICES: bool> {
    rows: Axis,
    columns: Axis,
    /// The channel plane, and those that follow.
    x: &'a [f32],
}

impl<const K: usize, const S: usize, const INDICES: bool> Plane<'_, K, S, INDICES> {
    #[inline(always)]
    fn run<V: Simd>(&self, y: &mut [f32], indices: &mut [f32]) {
        let width = self.columns.output;
        let inside = if S == 0 { 0..0 } else { self.columns.inside() };
        let mut indices = indices.chunks_exact_mut(width);
        for (r, y) in y.chunks_exact_mut(width).enumerate() {
            let indices = indices.next().unwrap_or_default();
            let taps = self.rows.taps(r);
            for s in (0..inside.start).chain(inside.end..width) {
                self.edge(r, s, y, indices);
            }
            let mut s = inside.start;
            while s < inside.end {
                // The last vector is full; some outputs are computed twice.
                if s + V::LANES > inside.end && inside.len() >= V::LANES {
                    s = inside.end - V::LANES;
                }
                let count = V::LANES.min(inside.end - s);
                let best = self.vector::<V>(r, &taps, s);
                best.value.to_short_slice(&mut y[s..s + count]);
                if INDICES {
                    const LANES: [f32; 16] =
                        [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
                    let distance = V::from_slice(&LANES) * V::splat(S as f32);
                    (best.at + distance).to_short_slice(&mut indices[s..s + count]);
                }
                s += count;
            }
        }
    }

    /// Computes a vector of outputs of row `r` from `s` on, whose windows are within the image horizontally; `taps` are the rows of
    /// the windows within the image.
    #[inline(always)]
    fn vector<V: Simd>(&self, r: usize, taps: &Range<usize>, s: usize) -> Best<V> {
        let column = s * S - self.columns.padding;
        let start = |u| self.rows.pixel(r, u) * self.columns.input + column;
        let index = |at: usize| V::splat(at as f32);
        let mut best = Best { value: V::splat(f32::NEG_INFINITY), at: index(start(taps.start)) };
        for u in taps.clone() {
            let start = start(u);
            match (K, S) {
                (2 | 3, 2) => {
                    let (even, odd) = self.pairs::<V>(start);
                    best.see::<INDICES>(even, index(start));
                    best.see::<INDICES>(odd, index(start + 1));
                    if K == 3 {
                        best.see::<INDICES>(self.pairs::<V>(start + 2).0, index(start + 2));
                    }
                }
                _ => {
                    let (kernel, dilation) =
                        if K == 0 { (self.columns.kernel, self.columns.dilation) } else { (K, 1) };
                    for v in 0..kernel {
                        let at = start + v * dilation;
                        let value = if S == 2 { self.pairs::<V>(at).0 } else { self.pixels(at) };
                        best.see::<INDICES>(value, index(at));
                    }
                }
            }
        }
        best
    }

    /// Loads pixels from `at` on, and zeros beyond the last one.
    #[inline(always)]
    fn pixels<V: Simd>(&self, at: usize) -> V {
        V::from_short_slice(&self.x[at.min(self.x.len())..])
    }

    /// Loads pixels from `at` on, and separates even from odd positions.
    #[inline(always)]
    fn pairs<V: Simd>(&self, at: usize) -> (V, V) {
        self.pixels::<V>(at).deinterleave(self.pixels(at + V::LANES))
    }

    /// Computes one output, whose window may extend beyond any edge.
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
    fn run<V: Simd>(self) {
        let ([oh, ow], [h, w]) = (self.output_size, self.input_size);
        let (from, to) = (oh * ow, h * w);
        let cells = from > 0 && to <= LARGEST_INDEXED_PLANE && [h / 2, w / 2] == [oh, ow];
        for (p, dx) in self.dx.chunks_exact_mut(to).enumerate() {
            let part = p * from..(p + 1) * from;
            let (dy, indices) = (&self.dy[part.clone()], &self.indices[part]);
            if !(cells && fill_cells::<V>([ow, w], dy, indices, dx)) {
                scatter(dy, indices, dx);
            }
        }
    }
}

/// Adds each gradient at its index; windows may overlap.
#[inline(always)]
fn scatter(dy: &[f32], indices: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let end = dx.len() as f32;
    for (d, &at) in dy.iter().zip(indices) {
        if at >= 0.0 && at < end {
            // SAFETY: at least 0, and less than the length of a slice, which fits `usize`.
            let at: usize = unsafe { at.to_int_unchecked() };
            if let Some(x) = dx.get_mut(at) {
                *x += d;
            }
        }
    }
}

/// For windows of 2 x 2 that do not overlap: each gradient is stored in one pixel of its own cell of four, so each pixel is written
/// once. Returns `false`, and leaves `dx` incomplete, if an index is outside of its cell.
///
/// ```text
/// output (r, s)  ->  row 2r:      2s  2s+1      offset from the first:  0  1
///                    row 2r + 1:  2s  2s+1                              w  w+1
/// ```
#[inline(always)]
fn fill_cells<V: Simd>([ow, w]: [usize; 2], dy: &[f32], indices: &[f32], dx: &mut [f32]) -> bool {
    const TWICE: [f32; 16] = [0., 2., 4., 6., 8., 10., 12., 14., 16., 18., 20., 22., 24., 26., 28., 30.];
    let (zero, one, half) = (V::splat(0.0), V::splat(1.0), V::splat(0.5));
    let mut expected = 0;
    let mut found = zero;
    let mut both_rows = dx.chunks_exact_mut(2 * w);
    let rows = dy.chunks_exact(ow).zip(indices.chunks_exact(ow)).zip(&mut both_rows);
    for (r, ((dy, indices), dx)) in rows.enumerate() {
        let (upper, lower) = dx.split_at_mut(w);
        let mut s = 0;
        while s < ow {
            if s + V::LANES > ow && ow >= V::LANES {
                s = ow - V::LANES;
            }
            let count = V::LANES.min(ow - s);
            let gradient = V::from_short_slice(&dy[s..s + count]);
            let first = V::from_slice(&TWICE) + V::splat((2 * (r * w + s)) as f32);
            let offset = V::from_short_slice(&indices[s..s + count]) - first;
            let mut take = |here: usize| {
                let distance = (offset - V::splat(here as f32)).abs();
                found = found + V::select_gt(half, distance, one, zero);
                V::select_gt(half, distance, gradient, zero)
            };
            let (a, b, c, d) = (take(0), take(1), take(w), take(w + 1));
            store_pairs(a.interleave(b), &mut upper[2 * s..2 * (s + count)]);
            store_pairs(c.interleave(d), &mut lower[2 * s..2 * (s + count)]);
            expected += count;
            s += count;
        }
        upper[2 * ow..].fill(0.0);
        lower[2 * ow..].fill(0.0);
    }
    both_rows.into_remainder().fill(0.0);
    found.sum() == expected as f32
}

#[inline(always)]
fn store_pairs<V: Simd>((low, high): (V, V), to: &mut [f32]) {
    low.to_short_slice(to);
    if let Some(rest) = to.get_mut(V::LANES..) {
        high.to_short_slice(rest);
    }
}

/// Pooling in blocks of channels.
pub(super) struct Blockwise {
    pub axes: [Axis; 2],
}

impl BlockMap for Blockwise {
    #[inline(always)]
    fn block<S: Simd>(&self, _channels: Range<usize>, x: &[f32], y: &mut [f32]) {
        pool_block::<S>(&Largest, &self.axes, x, y);
    }
}

struct Largest;

impl Combine for Largest {
    #[inline(always)]
    fn start<S: Simd>(&self) -> S {
        S::splat(f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn add<S: Simd>(&self, value: S, pixel: S) -> S {
        S::select_gt_or_nan(pixel, value, pixel, value)
    }

    #[inline(always)]
    fn finish<S: Simd>(&self, value: S, _axes: [&Axis; 2], _r: usize, _s: usize) -> S {
        value
    }
}
