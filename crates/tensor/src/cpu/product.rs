//! The product of matrices that everything with multiply-adds is made of: `out = activation(a b + bias)`.
//!
//! `a` is a weight, or anything that lies in memory with constant strides; it is packed once per call. `b` is a matrix of
//! columns that are gathered while they are packed, in blocks that stay in the cache, so a convolution never writes its
//! unfolded picture to memory. Work is cut into tasks by the sizes alone.

use rayon::prelude::*;

use super::gather::Table;
use super::tile::{tile, tile_rows};
use crate::cpu::activation::Activation;
use crate::cpu::parallel::Shared;
use crate::cpu::simd::{Kernel, Simd, dispatch, tile_rows_at_most};
use crate::memory::{Buffer, Scratch};

/// The most steps of the inner loop: panels of this depth stay in the first and second level caches.
const DEPTH: usize = 512;
/// The most panels (two vectors of columns) of a task.
const PANELS: usize = 8;
/// Below this many multiply-adds everything runs on the calling thread.
const SMALL: usize = 1 << 16;
/// Tasks to aim at, for machines with many cores.
const TASKS: usize = 16;

/// The left matrix: of each group `rows` by (`channels`, `taps`), element `(m, c, t)` at
/// `group * group_stride + m * row_stride + c * channel_stride + taps[t]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub group_stride: usize,
    pub row_stride: usize,
    pub channel_stride: usize,
    pub taps: &'a [usize],
}

/// The right matrix: (channels, taps) by columns.
#[derive(Clone, Copy)]
pub(crate) enum Columns<'a> {
    /// Pixels of pictures, by a table; a picture's channels are `channel_stride` apart.
    Gathered {
        data: &'a [f32],
        unit_stride: usize,
        group_stride: usize,
        channel_stride: usize,
        table: &'a Table,
    },
    /// Column `j` at `j * depth`.
    Transposed { data: &'a [f32] },
}

/// Where the result goes: row `m` of a group at `group * group_stride + m * row_stride`, columns by a table.
pub(crate) struct Target<'a> {
    pub data: &'a mut [f32],
    pub unit_stride: usize,
    pub group_stride: usize,
    pub row_stride: usize,
    pub table: &'a Table,
}

/// What is added to the result.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    None,
    /// One for each row, of all groups.
    Rows(&'a [f32]),
    /// One for each column.
    Columns(&'a [f32]),
}

/// A product; see the module's text. Columns come in units that share one table.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub groups: usize,
    pub rows: usize,
    pub channels: usize,
    /// Columns of all units.
    pub columns: usize,
    pub a: Rows<'a>,
    pub b: Columns<'a>,
    pub bias: Bias<'a>,
    pub activation: Option<Activation>,
}

impl Product<'_> {
    /// Runs the product.
    pub fn run(&self, out: Target<'_>, scratch: &Scratch) {
        self.run_packed(&self.pack(scratch), out, scratch);
    }

    /// Runs the product, with `a` as [`pack`](Product::pack) makes it.
    pub fn run_packed(&self, packed: &[f32], out: Target<'_>, scratch: &Scratch) {
        if self.columns == 0 || self.rows == 0 {
            return;
        }
        let per_unit = out.table.pixels;
        let units = self.columns.div_ceil(per_unit);
        let lanes = crate::cpu::simd::instruction_set().1;
        let panels = per_unit.div_ceil(2 * lanes);
        let chunks = panels.div_ceil(PANELS);
        let tiles = self.rows.div_ceil(tile_rows_at_most());
        // Each part of the rows packs the columns again: only where there are few other tasks and many rows.
        let parts = TASKS.div_ceil(units * chunks * self.groups).min(tiles.div_ceil(4)).max(1);
        let tasks = self.groups * units * chunks * parts;
        let work = self.work();
        let target = Shared::new(out.data);
        let task = |i: usize| {
            let (part, i) = (i % parts, i / parts);
            let (chunk, i) = (i % chunks, i / chunks);
            let (unit, group) = (i % units, i / units);
            dispatch(Task {
                product: self,
                packed,
                group,
                unit,
                unit_columns: per_unit.min(self.columns - unit * per_unit),
                panels: panels * chunk / chunks..panels * (chunk + 1) / chunks,
                tiles: tiles * part / parts..tiles * (part + 1) / parts,
                target,
                out: &out,
                scratch,
            });
        };
        if work < SMALL || tasks == 1 {
            (0..tasks).for_each(task);
        } else {
            (0..tasks).into_par_iter().for_each(task);
        }
    }

    fn depth(&self) -> usize {
        self.channels * self.a.taps.len()
    }

    fn work(&self) -> usize {
        self.groups * self.rows * self.columns * self.depth()
    }

    /// `a` in the order in which it is used: for each group and tile `[depth, rows of the tile]`.
    pub fn pack(&self, scratch: &Scratch) -> Buffer {
        let depth = self.depth();
        let most = tile_rows_at_most();
        let tiles = self.rows.div_ceil(most);
        let mut packed = scratch.take(self.groups * self.rows * depth);
        let target = Shared::new(&mut packed);
        let pack = |i: usize| {
            let (group, rows) = (i / tiles, tile_rows(self.rows, most, i % tiles));
            let start = (group * self.rows + rows.start) * depth;
            // SAFETY: every tile has its own part of the buffer.
            let to = unsafe { std::slice::from_raw_parts_mut(target.get().add(start), rows.len() * depth) };
            dispatch(PackRows { a: self.a, channels: self.channels, group, rows, to });
        };
        if self.work() >= SMALL && self.rows * depth >= 1 << 14 {
            (0..self.groups * tiles).into_par_iter().for_each(pack);
        } else {
            (0..self.groups * tiles).for_each(pack);
        }
        packed
    }
}

struct PackRows<'a> {
    a: Rows<'a>,
    channels: usize,
    group: usize,
    rows: std::ops::Range<usize>,
    to: &'a mut [f32],
}

impl Kernel for PackRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let PackRows { a, channels, group, rows, to } = self;
        let (count, taps) = (rows.len(), a.taps.len());
        let base = group * a.group_stride + rows.start * a.row_stride;
        if a.row_stride == 1 {
            for channel in 0..channels {
                for (t, tap) in a.taps.iter().enumerate() {
                    let from = &a.data[base + channel * a.channel_stride + tap..];
                    let to = &mut to[(channel * taps + t) * count..];
                    if from.len() >= S::LANES && to.len() >= S::LANES {
                        // What is written too much is overwritten by the next step.
                        S::from_slice(from).to_slice(to);
                    } else {
                        to[..count].copy_from_slice(&from[..count]);
                    }
                }
            }
            return;
        }
        let in_order = a.taps.iter().enumerate().all(|(i, t)| i == *t) && a.channel_stride == taps;
        let mut block = [S::splat(0.0); 16];
        let mut vector = [0.0; 16];
        // TileConfig of LANES by LANES are transposed: along all of the depth where it lies in memory in order, else along
        // the taps of one channel.
        let (runs, length) = if in_order {
            (1, channels * taps)
        } else {
            (channels, a.taps.iter().max().map_or(0, |t| t + 1))
        };
        for run in 0..runs {
            for k in (0..length).step_by(S::LANES) {
                let width = S::LANES.min(length - k);
                for m in (0..count).step_by(S::LANES) {
                    let height = S::LANES.min(count - m);
                    for (i, row) in block[..S::LANES].iter_mut().enumerate() {
                        *row = if i < height {
                            let at = base + (m + i) * a.row_stride + run * a.channel_stride + k;
                            S::from_short_slice(&a.data[at..at + width])
                        } else {
                            S::splat(0.0)
                        };
                    }
                    S::transpose(&mut block[..S::LANES]);
                    for (j, column) in block[..width].iter().enumerate() {
                        let mut put = |step: usize| {
                            let to = &mut to[step * count + m..];
                            if in_order && to.len() >= S::LANES {
                                // What is written too much is overwritten by the next step.
                                column.to_slice(to);
                            } else {
                                column.to_slice(&mut vector[..S::LANES]);
                                to[..height].copy_from_slice(&vector[..height]);
                            }
                        };
                        if in_order {
                            put(k + j);
                        } else {
                            put_taps(a.taps, k + j, |t| put(run * taps + t));
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn put_taps(taps: &[usize], tap: usize, mut put: impl FnMut(usize)) {
    for (t, _) in taps.iter().enumerate().filter(|(_, at)| **at == tap) {
        put(t);
    }
}

struct Task<'a> {
    product: &'a Product<'a>,
    packed: &'a [f32],
    group: usize,
    unit: usize,
    unit_columns: usize,
    panels: std::ops::Range<usize>,
    tiles: std::ops::Range<usize>,
    target: Shared,
    out: &'a Target<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.product;
        let (taps, depth, wide) = (p.a.taps.len(), p.depth(), 2 * S::LANES);
        // A last unit with fewer pictures has fewer panels.
        let panels = self.panels.start..self.panels.end.min(self.unit_columns.div_ceil(wide));
        if panels.is_empty() {
            return;
        }
        let blocks = p.channels.div_ceil((DEPTH / taps).max(1)).max(1);
        let each = p.channels.div_ceil(blocks);
        let mut b = self.scratch.take(panels.len() * each * taps * wide);
        let kept = if blocks > 1 { self.tiles.len() * panels.len() } else { 1 };
        let mut sums = self.scratch.take(kept * S::TILE_ROWS * wide);
        for block in 0..blocks {
            let channels = (block * each).min(p.channels)..((block + 1) * each).min(p.channels);
            let steps = channels.len() * taps;
            self.pack_columns::<S>(panels.clone(), channels.clone(), &mut b);
            for (i, t) in self.tiles.clone().enumerate() {
                let rows = tile_rows(p.rows, S::TILE_ROWS, t);
                let a = (self.group * p.rows + rows.start) * depth + rows.len() * channels.start * taps;
                let a = &self.packed[a..a + rows.len() * steps];
                for j in 0..panels.len() {
                    let at = if blocks > 1 { i * panels.len() + j } else { 0 };
                    let c = &mut sums[at * S::TILE_ROWS * wide..][..S::TILE_ROWS * wide];
                    let b = &b[j * steps * wide..][..steps * wide];
                    // SAFETY: the slices have the sizes of the tile.
                    unsafe {
                        tile::<S>(rows.len(), steps, a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), block > 0);
                    }
                    if block + 1 == blocks {
                        self.finish::<S>(rows.clone(), panels.start + j, c);
                    }
                }
            }
        }
    }
}

impl Task<'_> {
    /// The lanes of a vector that are columns of this unit.
    #[inline(always)]
    fn mask<S: Simd>(&self, vector: usize) -> u32 {
        let left = self.unit_columns.saturating_sub(vector * S::LANES);
        if left >= S::LANES { ((1u64 << S::LANES) - 1) as u32 } else { (1 << left) - 1 }
    }

    /// Columns in panels `[channels, taps, 2 * LANES]`.
    #[inline(always)]
    fn pack_columns<S: Simd>(
        &self,
        panels: std::ops::Range<usize>,
        channels: std::ops::Range<usize>,
        to: &mut [f32],
    ) {
        let wide = 2 * S::LANES;
        let taps = self.product.a.taps.len();
        let steps = channels.len() * taps;
        for (panel, to) in panels.zip(to.chunks_exact_mut((steps * wide).max(1))) {
            for half in 0..2 {
                let vector = 2 * panel + half;
                let mask = self.mask::<S>(vector);
                match self.product.b {
                    Columns::Gathered { data, unit_stride, group_stride, channel_stride, table } => {
                        let from = self.unit * unit_stride
                            + self.group * group_stride
                            + channels.start * channel_stride;
                        let from = data.as_ptr().wrapping_add(from);
                        let view = table.view();
                        for tap in 0..taps {
                            // SAFETY: each channel's block of the panel has `taps` times `wide` floats; the table was
                            // made for these pictures, and the mask leaves out pictures that are not there.
                            unsafe {
                                let to = to.as_mut_ptr().add(tap * wide + half * S::LANES);
                                if mask == 0 {
                                    (0..channels.len())
                                        .for_each(|c| S::splat(0.0).store(to.add(c * taps * wide)));
                                } else {
                                    view.read::<S>(
                                        vector,
                                        tap,
                                        mask,
                                        from,
                                        channel_stride,
                                        channels.len(),
                                        to,
                                        taps * wide,
                                    );
                                }
                            }
                        }
                    }
                    Columns::Transposed { data } => {
                        let depth = self.product.depth();
                        let mut block = [S::splat(0.0); 16];
                        for k in (0..steps).step_by(S::LANES) {
                            let width = S::LANES.min(steps - k);
                            for (i, row) in block[..S::LANES].iter_mut().enumerate() {
                                let column = vector * S::LANES + i;
                                *row = if column < self.unit_columns {
                                    S::from_short_slice(&data[column * depth + channels.start + k..][..width])
                                } else {
                                    S::splat(0.0)
                                };
                            }
                            S::transpose(&mut block[..S::LANES]);
                            for (j, v) in block[..width].iter().enumerate() {
                                v.to_slice(&mut to[(k + j) * wide + half * S::LANES..]);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Bias, activation, and the way to memory.
    #[inline(always)]
    fn finish<S: Simd>(&self, rows: std::ops::Range<usize>, panel: usize, sums: &[f32]) {
        let p = self.product;
        let table = self.out.table.view();
        let start = self.unit * self.out.unit_stride + self.group * self.out.group_stride;
        for half in 0..2 {
            let vector = 2 * panel + half;
            let mask = self.mask::<S>(vector);
            if mask == 0 {
                continue;
            }
            let columns = match p.bias {
                Bias::Columns(bias) => S::from_short_slice(&bias[vector * S::LANES..]),
                _ => S::splat(0.0),
            };
            for (i, row) in rows.clone().enumerate() {
                let mut v = S::from_slice(&sums[(2 * i + half) * S::LANES..]);
                v = v + match p.bias {
                    Bias::Rows(bias) => S::splat(bias[self.group * p.rows + row]),
                    _ => columns,
                };
                if let Some(activation) = p.activation {
                    v = activation.apply(v);
                }
                let to = self.target.get().wrapping_add(start + row * self.out.row_stride);
                // SAFETY: the table was made for the output, and tasks have rows and columns of their own.
                unsafe { table.write(vector, mask, v, to) }
            }
        }
    }
}
