//! The gradient of the filter: at each point a sum over all tiles, of the values of the output's gradient (taken for a filter
//! of `m` by `m` taps) times those of the picture.
//!
//! ```text
//!   sums[point][out, channel] = Σ over tiles of dy[point][tile, out] · x[point][tile, channel]
//!   dw[out, channel] = fold(sums)
//! ```
//!
//! A task has a part of the units and some blocks of outputs. Parts have sums of their own, which are added in their order.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use rayon::prelude::*;

use super::super::Problem;
use super::super::product::add_outer;
use super::super::taps::write_taps;
use super::{Sizes, Source, TAPS, Tiling, outputs, part, with_sizes};
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::Scratch;
use crate::ops::conv2d::winograd::transform::{MOST, weighted};

/// Tasks to aim at.
const TASKS: usize = 16;
/// TileConfig of outputs of a task: fewer would take the picture to the points too often.
const BLOCKS: usize = 4;
/// The most floats of all sums, unless one part alone has more: between other layers they come from memory, not from a cache.
const SUMS: usize = 1 << 20;
/// The least tiles of a part: writing and reading its sums should be little beside making them.
const PART_TILES: usize = 64;
/// The least and the most tiles that are taken to the points at once, and the floats to aim at.
const TILES: [usize; 2] = [28, 112];
const FLOATS: usize = 384 << 10;

pub(in super::super) fn weight_grad(
    p: &Problem,
    sizes: Sizes,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &Scratch,
) {
    with_sizes!(sizes, filter_grad(p, x, dy, dw, scratch));
}

fn filter_grad<const A: usize, const M: usize, const R: usize>(
    p: &Problem,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let [side, out] = p.sides();
    let [depth, blocks] = [side.blocks(lanes), out.blocks(lanes)];
    let splits = (blocks / BLOCKS).max(1);
    let size = A * A * out.channels * depth * lanes;
    let floats = A * A * lanes * (depth + blocks.div_ceil(splits));
    let tiles = (FLOATS / floats).clamp(TILES[0], TILES[1]);
    let tiling = Tiling::new(p.n, [p.oh.div_ceil(M), p.ow.div_ceil(M)], tiles, 1);
    let tiles = p.n * p.oh.div_ceil(M) * p.ow.div_ceil(M);
    let parts = TASKS.div_ceil(splits).min(SUMS / size).min(tiles / PART_TILES).min(tiling.tasks).max(1);
    let mut sums = scratch.take(parts * size);
    let target = Shared::new(&mut sums);
    let x = Source { side, x, shift: p.padding.map(|p| -(p as isize)) };
    let dy = Source { side: out, x: dy, shift: [0, 0] };
    (0..parts * splits).into_par_iter().for_each(|i| {
        dispatch(Task::<A, M> {
            x: &x,
            dy: &dy,
            tiling: &tiling,
            tasks: part(tiling.tasks, parts, i / splits),
            blocks: part(blocks, splits, i % splits),
            start: i / splits * size,
            target,
            scratch,
        });
    });
    let sums = &sums[..];
    dw.par_chunks_mut(p.cg * R * R).enumerate().for_each(|(row, dw)| {
        dispatch(Finish::<A, R> { sums, parts, size, rows: p.og, row, channels: p.cg, reverse: p.flip, dw });
    });
}

struct Task<'a, const A: usize, const M: usize> {
    x: &'a Source<'a>,
    dy: &'a Source<'a>,
    tiling: &'a Tiling,
    tasks: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
    /// Where this part's sums begin: `[point][out][channel]`, channels filled up to whole vectors.
    start: usize,
    target: Shared,
    scratch: &'a Scratch,
}

impl<const A: usize, const M: usize> Kernel for Task<'_, A, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let outputs = self.dy.side.channels;
        let depth = self.x.side.blocks(S::LANES);
        let width = depth * S::LANES;
        let step = self.tiling.most()[1] * S::LANES;
        let [x_step, dy_step] = [depth, self.blocks.len()].map(|blocks| blocks * step + S::LANES);
        let mut x = self.scratch.take(A * A * x_step);
        let mut dy = self.scratch.take(A * A * dy_step);
        let place = |point: usize, row: usize| self.start + (point * outputs + row) * width;
        for (chunk, task) in self.tasks.clone().enumerate() {
            let units = self.tiling.units_of(task);
            let tiles = self.x.values::<S, A, A, M>(
                self.tiling,
                units.clone(),
                [step, x_step],
                &mut x,
                0..depth,
                self.scratch,
            );
            self.dy.values::<S, A, M, M>(
                self.tiling,
                units,
                [step, dy_step],
                &mut dy,
                self.blocks.clone(),
                self.scratch,
            );
            for point in 0..A * A {
                for panel in (0..depth).step_by(2) {
                    for (i, block) in self.blocks.clone().enumerate() {
                        let first = block * S::LANES;
                        let count = S::LANES.min(outputs - first);
                        let groups = count.div_ceil(S::TILE_ROWS);
                        for group in 0..groups {
                            let rows = part(count, groups, group);
                            // SAFETY: the buffers have these sizes, and this task has these rows of the sums.
                            unsafe {
                                add_outer(
                                    [rows.len(), 2.min(depth - panel)],
                                    tiles,
                                    &[[0, 0]],
                                    (dy.as_ptr().add(point * dy_step + i * step + rows.start), 0),
                                    (x.as_ptr().add(point * x_step + panel * step), 0, step),
                                    (
                                        self.target
                                            .get()
                                            .add(place(point, first + rows.start) + panel * S::LANES),
                                        width,
                                        chunk > 0,
                                    ),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds the parts of one output's sums, and takes them back to taps.
struct Finish<'a, const A: usize, const R: usize> {
    sums: &'a [f32],
    parts: usize,
    size: usize,
    rows: usize,
    row: usize,
    channels: usize,
    reverse: bool,
    dw: &'a mut [f32],
}

impl<const A: usize, const R: usize> Kernel for Finish<'_, A, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Finish { sums, parts, size, rows, row, channels, reverse, dw } = self;
        let width = channels.div_ceil(S::LANES) * S::LANES;
        let mut values = [S::splat(0.0); MOST * MOST];
        let mut taps = [S::splat(0.0); TAPS];
        for first in (0..channels).step_by(S::LANES) {
            for (point, value) in values[..A * A].iter_mut().enumerate() {
                let at = (point * rows + row) * width + first;
                *value = S::from_slice(&sums[at..]);
                for part in 1..parts {
                    *value = *value + S::from_slice(&sums[part * size + at..]);
                }
                *value = weighted::<S, A>(*value, point / A, point % A);
            }
            // SAFETY: vectors lie one after the other.
            let all = unsafe { outputs::<S, A, R>(values.as_ptr().cast(), S::LANES) };
            for u in 0..R {
                for v in 0..R {
                    let tap = u * R + v;
                    taps[if reverse { R * R - 1 - tap } else { tap }] = all[u][v];
                }
            }
            let lanes = S::LANES.min(channels - first);
            // SAFETY: `dw` has the taps of all channels.
            unsafe { write_taps::<S>(&taps, dw[first * R * R..].as_mut_ptr(), R * R, lanes, R * R) }
        }
    }
}
