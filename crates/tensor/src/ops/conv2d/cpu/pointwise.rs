//! The gradient of the weight of a convolution of 1x1: `dw[o, i] = sum over pixels of dy[o, pixel] * x[i, pixel]`.
//!
//! Lanes are output channels: `dy` is turned, piece by piece of the pixels, so that a vector holds a pixel of so many
//! channels; rows of `x` are copied next to each other. A tile of sums stays in registers for the pixels of a piece:
//!
//! ```text
//!                 dy: two vectors of channels o per pixel
//!                +---------+---------+
//!   x: a number  | sums    | sums    |   sums[i] += x[i, pixel] * dy[.., pixel]
//!   per row      | ..      | ..      |
//!                +---------+---------+
//! ```

use std::ops::Range;

use rayon::prelude::*;

use super::Problem;
use super::product::by_size;
use crate::cpu::parallel::Shared;
use crate::cpu::simd::turn::{from_lanes, to_lanes};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::cpu::tile_rows;
use crate::memory::Scratch;

/// The most pixels of a piece: no longer chain of additions, and few enough for the nearest cache.
const STEPS: usize = 128;
/// Tasks to aim at.
const TASKS: usize = 16;
/// Input channels of a task, at least: each task turns `dy` for itself.
const CHANNELS: usize = 112;
/// Pieces of a part of the batch, at least: the sums of parts have to be added up.
const PIECES: usize = 4;

pub(super) fn is_better(p: &Problem) -> bool {
    p.kh * p.kw == 1 && p.padding == [0, 0] && p.n * p.pixels() >= STEPS && p.og.min(p.cg) >= 8
}

/// The pixels of all pictures in pieces: of small pictures several, of large ones a part.
#[derive(Clone, Copy)]
struct Pieces {
    n: usize,
    pixels: usize,
    /// Pictures of a piece, or pieces of a picture.
    pictures: usize,
    cuts: usize,
}

impl Pieces {
    fn of(p: &Problem) -> Self {
        let pixels = p.pixels();
        // As even as they can be.
        let pictures = p.n.div_ceil(p.n.div_ceil((STEPS / pixels).max(1)));
        Pieces { n: p.n, pixels, pictures, cuts: pixels.div_ceil(STEPS) }
    }

    fn count(&self) -> usize {
        self.n.div_ceil(self.pictures) * self.cuts
    }

    /// The pictures of a piece, and the pixels of each.
    fn get(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (first, cut) = (i / self.cuts * self.pictures, i % self.cuts);
        let pixels = self.pixels * cut / self.cuts..self.pixels * (cut + 1) / self.cuts;
        (first..(first + self.pictures).min(self.n), pixels)
    }
}

pub(super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let vectors = p.og.div_ceil(lanes);
    let blocks = (p.cg / CHANNELS).next_power_of_two().min(TASKS);
    let pieces = Pieces::of(p);
    let parts = TASKS.div_ceil(blocks * p.groups).min(pieces.count() / PIECES).max(1);
    let channels_of = |block: usize| p.cg * block / blocks..p.cg * (block + 1) / blocks;
    // `[part, group]`, then for each block `[vector, channels of the block, lanes]`.
    let each = vectors * p.cg * lanes;
    let mut sums = scratch.take(parts * p.groups * each);
    let target = Shared::new(&mut sums);
    (0..parts * p.groups * blocks).into_par_iter().for_each(|i| {
        let (block, i) = (i % blocks, i / blocks);
        let (group, part) = (i % p.groups, i / p.groups);
        let channels = channels_of(block);
        let start = (part * p.groups + group) * each + vectors * channels.start * lanes;
        let len = vectors * channels.len() * lanes;
        // SAFETY: each task has its own part of the buffer.
        let sums = unsafe { std::slice::from_raw_parts_mut(target.get().add(start), len) };
        let part = pieces.count() * part / parts..pieces.count() * (part + 1) / parts;
        dispatch(Task { p, x, dy, group, channels, pieces, part, sums, scratch });
    });
    let target = Shared::new(dw);
    (0..p.groups * blocks * vectors).into_par_iter().for_each(|i| {
        let (vector, i) = (i % vectors, i / vectors);
        let (block, group) = (i % blocks, i / blocks);
        let channels = channels_of(block);
        let first = group * each + (vectors * channels.start + vector * channels.len()) * lanes;
        let len = channels.len() * lanes;
        let sums = (0..parts).map(|part| &sums[first + part * p.groups * each..][..len]);
        let outputs = vector * lanes..p.og.min((vector + 1) * lanes);
        dispatch(Finish { p, group, outputs, channels, sums, target, scratch });
    });
}

struct Task<'a> {
    p: &'a Problem,
    x: &'a [f32],
    dy: &'a [f32],
    group: usize,
    channels: Range<usize>,
    pieces: Pieces,
    part: Range<usize>,
    sums: &'a mut [f32],
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, group, pieces) = (self.p, self.group, self.pieces);
        let (channels, part) = (self.channels.clone(), self.part.clone());
        let vectors = p.og.div_ceil(S::LANES);
        let tiles = channels.len().div_ceil(S::TILE_ROWS);
        let mut a = self.scratch.take(channels.len() * STEPS);
        let mut b = self.scratch.take(vectors * STEPS * S::LANES);
        for i in part.clone() {
            let steps = self.read::<S>(pieces.get(i), group, &mut a, &mut b);
            let add = i > part.start;
            for vector in (0..vectors).step_by(2) {
                for t in 0..tiles {
                    let rows = tile_rows(channels.len(), S::TILE_ROWS, t);
                    let b = &b[vector * STEPS * S::LANES..];
                    let sums = &mut self.sums[(vector * channels.len() + rows.start) * S::LANES..];
                    let a = &a[rows.start * STEPS..];
                    let step = channels.len() * S::LANES;
                    let wide = 2.min(vectors - vector);
                    let (a, b, to) = (a.as_ptr(), b.as_ptr(), sums.as_mut_ptr());
                    by_size!(rows.len(), wide, tile::<S>(steps, a, b, to, step, add));
                }
            }
        }
    }
}

impl Task<'_> {
    /// The channels of `x` in rows of `STEPS`, and `dy` turned, in vectors of channels; gives how many pixels there are.
    #[inline(always)]
    fn read<S: Simd>(
        &self,
        (pictures, pixels): (Range<usize>, Range<usize>),
        group: usize,
        a: &mut [f32],
        b: &mut [f32],
    ) -> usize {
        let p = self.p;
        let mut at = 0;
        for picture in pictures {
            let dy = &self.dy[picture * p.y_step + group * p.og * p.pixels()..];
            for (vector, b) in b.chunks_exact_mut(STEPS * S::LANES).enumerate() {
                let first = vector * S::LANES;
                let rows = S::LANES.min(p.og - first);
                let dy = &dy[first * p.pixels()..(first + rows) * p.pixels()];
                let b = &mut b[at * S::LANES..(at + pixels.len()) * S::LANES];
                // SAFETY: `dy` has so many rows of so many pixels, and `b` a vector for each pixel.
                unsafe {
                    let from = dy.as_ptr().add(pixels.start);
                    to_lanes::<S>(from, p.pixels(), rows, pixels.len(), b.as_mut_ptr());
                }
            }
            let plane = p.h * p.w;
            let x = &self.x[picture * p.x_step + (group * p.cg + self.channels.start) * plane..];
            for (x, a) in x.chunks_exact(plane).zip(a.chunks_exact_mut(STEPS)) {
                read_row::<S>(p, x, pixels.clone(), &mut a[at..at + pixels.len()]);
            }
            at += pixels.len();
        }
        at
    }
}

/// Pixels of a plane that the output's pixels see.
#[inline(always)]
fn read_row<S: Simd>(p: &Problem, x: &[f32], pixels: Range<usize>, to: &mut [f32]) {
    if p.stride == [1, 1] {
        let from = &x[pixels];
        // Short rows, for which a call would take longer than the copy.
        for (from, to) in from.chunks(S::LANES).zip(to.chunks_mut(S::LANES)) {
            S::from_short_slice(from).to_short_slice(to);
        }
        return;
    }
    let mut done = 0;
    while done < to.len() {
        let (row, column) = ((pixels.start + done) / p.ow, (pixels.start + done) % p.ow);
        let count = (p.ow - column).min(to.len() - done);
        let from = x[row * p.stride[0] * p.w + column * p.stride[1]..].iter().step_by(p.stride[1]);
        to[done..done + count].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        done += count;
    }
}

/// `to[v][i] (+)= sum over steps of a[i, step] * b[v, step]`, for `ROWS` rows and `VECTORS` vectors; from one vector of sums to
/// the next it is `to_step`.
///
/// # Safety
/// `a` must have so many rows of `STEPS`, `b` and `to` so many vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    steps: usize,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    to_step: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); VECTORS]; ROWS];
        for step in 0..steps {
            let columns: [S; VECTORS] =
                std::array::from_fn(|v| S::load(b.add((v * STEPS + step) * S::LANES)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*a.add(i * STEPS + step));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = row.mul_add(column, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = to.add(v * to_step + i * S::LANES);
                if add { (S::load(to) + sum).store(to) } else { sum.store(to) }
            }
        }
    }
}

/// Adds the parts' sums of some channels, in their order, and turns them to where they belong.
struct Finish<'a, I> {
    p: &'a Problem,
    group: usize,
    outputs: Range<usize>,
    channels: Range<usize>,
    sums: I,
    target: Shared,
    scratch: &'a Scratch,
}

impl<'a, I: Iterator<Item = &'a [f32]>> Kernel for Finish<'a, I> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Finish { p, group, outputs, channels, mut sums, target, scratch } = self;
        let Some(first) = sums.next() else { return };
        let mut all = scratch.take(first.len());
        all.copy_from_slice(first);
        for sums in sums {
            for (all, sums) in all.chunks_exact_mut(S::LANES).zip(sums.chunks_exact(S::LANES)) {
                (S::from_slice(all) + S::from_slice(sums)).to_slice(all);
            }
        }
        let place = (group * p.og + outputs.start) * p.cg + channels.start;
        // SAFETY: each task has its own rows and columns of the gradient.
        unsafe {
            let to = target.get().add(place);
            from_lanes::<S>(all.as_ptr(), to, p.cg, outputs.len(), channels.len());
        }
    }
}
