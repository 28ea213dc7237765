//! The weight gradient: at each point, the sum over all tiles of outer products of the transformed output
//! gradient (as a filter of `m` by `m` taps) and the transformed input.
//!
//! ```text
//!   sums[point][out, channel] = Σ over tiles of dy[point][tile, out] · x[point][tile, channel]
//!   dw[out, channel] = output_transform(sums)
//! ```
//!
//! If the values of any tile differ too much for the transforms, or are not finite (see [`range`](super::range)), the implicit GEMM
//! computes the whole gradient.
//!
//! A task has a part of the units and some blocks of outputs. Each part has its own sums, which are added in
//! a fixed order.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use rayon::prelude::*;

use super::filter::transform_output;
use super::range::{Energies, window_floats};
use super::source::{TileSource, with_tile_size};
use crate::cpu::parallel::{Shared, part};
use crate::cpu::simd::{Kernel, Simd, dispatch, instruction_set};
use crate::memory::{Scratch, split};
use crate::ops::conv2d::ConvShape;
use crate::ops::conv2d::cpu::blocked_gemm::accumulate_outer;
use crate::ops::conv2d::cpu::implicit_gemm;
use crate::ops::conv2d::cpu::taps::{MAX_TAPS, write_taps};
use crate::ops::conv2d::winograd::transform::{MAX_POINTS, scaled};
use crate::ops::conv2d::winograd::{TileSize, Tiling, WEIGHT_RATIO};

/// Target number of tasks.
const TASKS: usize = 16;
/// Blocks of outputs of a task: each task transforms the input again.
const BLOCKS: usize = 4;
/// Maximum number of floats of all sums, unless one part alone has more: within a network they are not in a
/// cache.
const SUMS: usize = 1 << 20;
/// Minimum number of tiles of a part, so that adding its sums is cheap compared with computing them.
const PART_TILES: usize = 64;
/// Minimum and maximum number of tiles that are transformed at once.
const TILES: [usize; 2] = [28, 112];
/// Target number of transformed floats.
const FLOATS: usize = 384 << 10;

/// Computes the gradient of the weight.
pub fn weight_grad(
    conv: &ConvShape,
    tile_size: TileSize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &Scratch,
) {
    with_tile_size!(tile_size, filter_grad(conv, x, dy, dw, scratch));
}

fn filter_grad<const A: usize, const M: usize, const R: usize>(
    conv: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &Scratch,
) {
    let lanes = instruction_set().1;
    let [src, dst] = conv.feature_maps();
    let [depth, blocks] = [src.blocks(lanes), dst.blocks(lanes)];
    let splits = (blocks / BLOCKS).max(1);
    let size = A * A * dst.channels * depth * lanes;
    let floats = A * A * lanes * (depth + blocks.div_ceil(splits));
    let tiles = (FLOATS / floats).clamp(TILES[0], TILES[1]);
    let tiling = Tiling::new(conv.n, [conv.oh.div_ceil(M), conv.ow.div_ceil(M)], tiles, 1);
    let tiles = conv.n * conv.oh.div_ceil(M) * conv.ow.div_ceil(M);
    let parts = TASKS.div_ceil(splits).min(SUMS / size).min(tiles / PART_TILES).min(tiling.tasks).max(1);
    let mut sums = scratch.take(parts * size);
    let target = Shared::new(&mut sums);
    let original = [x, dy];
    let x = TileSource { map: src, data: x, shift: conv.padding.map(|pad| -(pad as isize)) };
    let dy = TileSource { map: dst, data: dy, shift: [0, 0] };
    let task = |i: usize| {
        dispatch(PartialSums::<A, M> {
            x: &x,
            dy: &dy,
            tiling: &tiling,
            tasks: part(tiling.tasks, parts, i / splits),
            blocks: part(blocks, splits, i % splits),
            start: i / splits * size,
            target,
            size: [conv.oh, conv.ow],
            scratch,
        })
    };
    // All tasks run, so that the choice depends on the values alone.
    if !(0..parts * splits).into_par_iter().map(task).reduce(|| true, |a, b| a && b) {
        implicit_gemm::weight_grad(conv, original[0], original[1], dw, scratch);
        return;
    }
    let sums = &sums[..];
    dw.par_chunks_mut(conv.in_per_group * R * R).enumerate().for_each(|(row, dw)| {
        dispatch(ReduceParts::<A, R> {
            sums,
            parts,
            size,
            rows: conv.out_per_group,
            row,
            channels: conv.in_per_group,
            reverse: conv.flip,
            dw,
        });
    });
}

/// The sums over a part of the tasks, for some blocks of outputs.
struct PartialSums<'a, const A: usize, const M: usize> {
    x: &'a TileSource<'a>,
    dy: &'a TileSource<'a>,
    tiling: &'a Tiling,
    tasks: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
    /// The offset of this part's sums, `[point][out][channel]` with channels padded to whole vectors.
    start: usize,
    target: Shared<'a>,
    /// Rows and columns of the output.
    size: [usize; 2],
    scratch: &'a Scratch,
}

impl<const A: usize, const M: usize> Kernel for PartialSums<'_, A, M> {
    /// Whether the transforms can compute with all values.
    type Output = bool;
    #[inline(always)]
    fn run<S: Simd>(self) -> bool {
        let outputs = self.dy.map.channels;
        let depth = self.x.map.blocks(S::LANES);
        let width = depth * S::LANES;
        let step = self.tiling.max_tiles()[1] * S::LANES;
        let [x_step, dy_step] = [depth, self.blocks.len()].map(|blocks| blocks * step + S::LANES);
        let offset = |point: usize, row: usize| self.start + (point * outputs + row) * width;
        let units = (self.tiling.units).div_ceil(self.tiling.tasks);
        let energy_steps = [
            TileSource::energy_step::<A, M>(self.tiling, S::LANES),
            TileSource::energy_step::<M, M>(self.tiling, S::LANES),
        ];
        let [x_pixels, x_lines] = TileSource::buffer_floats::<A, A, M>(self.tiling, S::LANES);
        let [dy_pixels, dy_lines] = TileSource::buffer_floats::<A, M, M>(self.tiling, S::LANES);
        let [padded, windows] = window_floats::<A, M>(self.tiling);
        let lens = [
            A * A * x_step,
            A * A * dy_step,
            x_pixels.max(dy_pixels),
            x_lines.max(dy_lines),
            units * energy_steps[0],
            units * energy_steps[1],
            padded,
            windows,
        ];
        let mut buffer = self.scratch.take_parts(lens);
        let [x, dy, pixels, lines, x_energies, dy_energies, padded, windows] = split(&mut buffer, lens);
        for (chunk, task) in self.tasks.clone().enumerate() {
            let units = self.tiling.units_of(task);
            let tiles = self.x.transform::<S, A, A, M>(
                self.tiling,
                units.clone(),
                [step, x_step],
                x,
                0..depth,
                x_energies,
                [pixels, lines],
            );
            self.dy.transform::<S, A, M, M>(
                self.tiling,
                units.clone(),
                [step, dy_step],
                dy,
                self.blocks.clone(),
                dy_energies,
                [pixels, lines],
            );
            let energies = |source, values, step| Energies {
                values,
                step,
                source,
                tiling: self.tiling,
                units: units.clone(),
            };
            let x_energies = energies(self.x, x_energies, energy_steps[0]);
            let are_exact = x_energies.are_similar::<S, A, M>(WEIGHT_RATIO)
                || x_energies.direct_tiles::<A, M>(self.size, WEIGHT_RATIO, [padded, windows]).is_empty();
            if !are_exact || !energies(self.dy, dy_energies, energy_steps[1]).are_moderate::<S, M, M>() {
                return false;
            }
            for point in 0..A * A {
                for panel in (0..depth).step_by(2) {
                    for (i, block) in self.blocks.clone().enumerate() {
                        let first = block * S::LANES;
                        let count = S::LANES.min(outputs - first);
                        let groups = count.div_ceil(S::TILE_ROWS);
                        for group in 0..groups {
                            let rows = part(count, groups, group);
                            // SAFETY: the buffers have these sizes, and the tasks disjoint rows of the sums.
                            unsafe {
                                accumulate_outer(
                                    [rows.len(), 2.min(depth - panel)],
                                    tiles,
                                    &[[0, 0]],
                                    (dy.as_ptr().add(point * dy_step + i * step + rows.start), 0),
                                    (x.as_ptr().add(point * x_step + panel * step), 0, step),
                                    (
                                        self.target
                                            .get()
                                            .add(offset(point, first + rows.start) + panel * S::LANES),
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
        true
    }
}

/// Adds the sums of all parts for one output channel, and transforms them to taps.
struct ReduceParts<'a, const A: usize, const R: usize> {
    sums: &'a [f32],
    parts: usize,
    size: usize,
    rows: usize,
    row: usize,
    channels: usize,
    reverse: bool,
    dw: &'a mut [f32],
}

impl<const A: usize, const R: usize> Kernel for ReduceParts<'_, A, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let ReduceParts { sums, parts, size, rows, row, channels, reverse, dw } = self;
        let width = channels.div_ceil(S::LANES) * S::LANES;
        let mut values = [S::splat(0.0); MAX_POINTS * MAX_POINTS];
        let mut taps = [S::splat(0.0); MAX_TAPS];
        for first in (0..channels).step_by(S::LANES) {
            for (point, value) in values[..A * A].iter_mut().enumerate() {
                let at = (point * rows + row) * width + first;
                *value = S::from_slice(&sums[at..]);
                for part in 1..parts {
                    *value = *value + S::from_slice(&sums[part * size + at..]);
                }
                *value = scaled::<S, A>(*value, point / A, point % A);
            }
            // SAFETY: the array has `A · A` consecutive vectors.
            let all = unsafe { transform_output::<S, A, R>(values.as_ptr().cast(), S::LANES) };
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
