//! The gradient of the weight: for each tap, sums over pixels and pictures of the output's gradient times the picture.
//!
//! A task has some pieces of the work and some blocks of outputs. Pieces are dealt out in parts, whose sums are added in their
//! order.

use rayon::prelude::*;

use super::super::Problem;
use super::super::product::add_outer;
use super::super::taps::{TAPS, write_taps};
use super::{Cut, TASKS, Window, part, read_pictures};
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::Scratch;

/// TileConfig of outputs of a task: fewer would turn the picture round too often.
const BLOCKS: usize = 4;
/// The least pixels of all pictures of a part: writing and reading its sums should be little beside making them.
const PART_ROWS: usize = 128;
/// The most floats of all sums, unless one part alone has more.
const SUMS: usize = 4 << 20;

pub(in super::super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let lanes = instruction_set().1;
    let window = Window::forward(p);
    let [depth, blocks] = [window.side.blocks(lanes), window.out.blocks(lanes)];
    let taps = p.kh * p.kw;
    let cut = window.cut();
    let splits = (blocks / BLOCKS).max(1);
    let size = taps * p.og * depth * lanes;
    let rows = p.n * p.pixels();
    let parts = TASKS.div_ceil(splits).min(SUMS / size).min(rows / PART_ROWS).min(cut.count()).max(1);
    let mut sums = scratch.take(parts * size);
    let target = Shared::new(&mut sums);
    (0..parts * splits).into_par_iter().for_each(|i| {
        dispatch(Task {
            window: &window,
            cut,
            pieces: part(cut.count(), parts, i / splits),
            blocks: part(blocks, splits, i % splits),
            start: i / splits * size,
            x,
            dy,
            target,
            scratch,
        });
    });
    let sums = &sums[..];
    dw.par_chunks_mut(p.cg * taps).with_min_len(8).enumerate().for_each(|(row, dw)| {
        dispatch(Finish { p, sums, parts, size, row, dw });
    });
}

struct Task<'a> {
    window: &'a Window,
    cut: Cut,
    pieces: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
    /// Where this part's sums begin: `[tap][out][channel]`, channels filled up to whole vectors.
    start: usize,
    x: &'a [f32],
    dy: &'a [f32],
    target: Shared,
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Window { side, out, kernel, .. } = *self.window;
        let (depth, taps) = (side.blocks(S::LANES), kernel[0] * kernel[1]);
        let width = depth * S::LANES;
        let place = |tap: usize, row: usize| self.start + (tap * out.channels + row) * width;
        for (piece, i) in self.pieces.clone().enumerate() {
            let [pictures, rows] = self.cut.piece(self.window, i);
            let sources = self.window.sources(&rows);
            let layout = self.window.layout(pictures.len(), rows.len());
            let step = layout.count * S::LANES;
            let [x_pixel, dy_pixel] = [depth, self.blocks.len()].map(|blocks| blocks * step);
            // Where all pixels are rows, one pixel stands for all.
            let pixels = |rows: usize, columns: usize| if layout.pixels > 1 { 1 } else { rows * columns };
            let mut x = self.scratch.take(pixels(sources.len(), side.w) * x_pixel);
            let mut dy = self.scratch.take(pixels(rows.len(), out.w) * dy_pixel);
            let mut pairs = self.scratch.take(2 * rows.len() * out.w);
            // SAFETY: the buffers were taken for these pictures and rows.
            unsafe {
                read_pictures::<S>(&side, layout, &pictures, &sources, &(0..depth), self.x, x.as_mut_ptr());
                read_pictures::<S>(&out, layout, &pictures, &rows, &self.blocks, self.dy, dy.as_mut_ptr());
            }
            for tap in 0..taps {
                let pairs = bytemuck::cast_slice_mut(&mut pairs);
                let pairs: &[[u32; 2]] =
                    if layout.pixels > 1 { &[[0, 0]] } else { self.pairs(tap, &rows, sources.start, pairs) };
                for panel in (0..depth).step_by(2) {
                    for (i, block) in self.blocks.clone().enumerate() {
                        let first = block * S::LANES;
                        let count = S::LANES.min(out.channels - first);
                        let groups = count.div_ceil(S::TILE_ROWS);
                        for group in 0..groups {
                            let lanes = part(count, groups, group);
                            // SAFETY: the buffers have these sizes, and this task has these rows of the sums.
                            unsafe {
                                let to =
                                    self.target.get().add(place(tap, first + lanes.start) + panel * S::LANES);
                                add_outer(
                                    [lanes.len(), 2.min(depth - panel)],
                                    layout.count,
                                    pairs,
                                    (dy.as_ptr().add(i * step + lanes.start), dy_pixel),
                                    (x.as_ptr().add(panel * step), x_pixel, step),
                                    (to, width, piece > 0),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Task<'_> {
    /// The pairs of an output pixel and the pixel under a tap, within the rows that are there.
    #[inline(always)]
    fn pairs<'p>(
        &self,
        tap: usize,
        rows: &std::ops::Range<usize>,
        first_source: usize,
        to: &'p mut [[u32; 2]],
    ) -> &'p [[u32; 2]] {
        let Window { side, out, kernel, .. } = *self.window;
        let mut count = 0;
        for (r, row) in rows.clone().enumerate() {
            let Some(from_row) = self.window.source(0, row, tap / kernel[1]) else { continue };
            for column in 0..out.w {
                if let Some(from_column) = self.window.source(1, column, tap % kernel[1]) {
                    let from = (from_row - first_source) * side.w + from_column;
                    to[count] = [(r * out.w + column) as u32, from as u32];
                    count += 1;
                }
            }
        }
        &to[..count]
    }
}

/// Adds the parts of one output's sums.
struct Finish<'a> {
    p: &'a Problem,
    sums: &'a [f32],
    parts: usize,
    size: usize,
    row: usize,
    dw: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Finish { p, sums, parts, size, row, dw } = self;
        let width = p.cg.div_ceil(S::LANES) * S::LANES;
        let count = p.kh * p.kw;
        let mut taps = [S::splat(0.0); TAPS];
        for first in (0..p.cg).step_by(S::LANES) {
            for tap in 0..count {
                let at = (tap * p.og + row) * width + first;
                let mut value = S::from_slice(&sums[at..]);
                for part in 1..parts {
                    value = value + S::from_slice(&sums[part * size + at..]);
                }
                taps[if p.flip { count - 1 - tap } else { tap }] = value;
            }
            let lanes = S::LANES.min(p.cg - first);
            // SAFETY: `dw` has the taps of all channels.
            unsafe { write_taps::<S>(&taps, dw[first * count..].as_mut_ptr(), count, lanes, count) }
        }
    }
}
