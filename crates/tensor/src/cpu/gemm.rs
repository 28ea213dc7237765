//! GEMM with a gathered right matrix: `out = activation(a b + bias)`.
//!
//! `a` is a weight, or any matrix with constant strides; it is packed once per call. The columns of `b` are
//! gathered while they are packed, in blocks that stay in the cache, so a convolution never stores its im2col
//! matrix (implicit GEMM). The blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix
//! multiplication", 2008. Work is split into tasks by the sizes alone.

use super::gather::GatherMap;
use super::tile::{tile, tile_rows};
use crate::cpu::activation::Activation;
use crate::cpu::parallel::{Shared, for_each_task};
use crate::cpu::simd::{Kernel, Simd, dispatch, max_tile_rows};
use crate::memory::{Buffer, Scratch};

/// Maximum depth of a packed panel: panels of this depth stay in the L1 and L2 caches.
const DEPTH: usize = 512;
/// Maximum number of panels (two vectors of columns) of a task.
const PANELS: usize = 8;
/// Products with fewer multiply-adds run on the calling thread.
const SMALL: usize = 1 << 16;
/// Target number of tasks, for machines with many cores.
const TASKS: usize = 16;

/// The left matrix: `rows` by (`channels`, `taps`) for each group, with element `(m, c, t)` at
/// `group * group_stride + m * row_stride + c * channel_stride + taps[t]`.
#[derive(Clone, Copy)]
pub(crate) struct LeftMatrix<'a> {
    pub data: &'a [f32],
    pub group_stride: usize,
    pub row_stride: usize,
    pub channel_stride: usize,
    pub taps: &'a [usize],
}

/// The right matrix: (`channels`, `taps`) by columns.
#[derive(Clone, Copy)]
pub(crate) enum RightMatrix<'a> {
    /// Pixels of images, read by a gather map; the channels of an image are `channel_stride` apart.
    Gathered {
        data: &'a [f32],
        unit_stride: usize,
        group_stride: usize,
        channel_stride: usize,
        map: &'a GatherMap,
    },
    /// Contiguous columns: column `j` starts at `j * depth`.
    Transposed { data: &'a [f32] },
}

/// The result: row `m` of a group starts at `group * group_stride + m * row_stride`; columns are written by a
/// gather map.
pub(crate) struct OutputMatrix<'a> {
    pub data: &'a mut [f32],
    pub unit_stride: usize,
    pub group_stride: usize,
    pub row_stride: usize,
    pub map: &'a GatherMap,
}

/// An [`OutputMatrix`] without its data.
#[derive(Clone, Copy)]
struct OutputLayout<'a> {
    unit_stride: usize,
    group_stride: usize,
    row_stride: usize,
    map: &'a GatherMap,
}

/// The bias that is added to the result.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    None,
    /// One element for each row of all groups.
    Rows(&'a [f32]),
    /// One element for each column.
    Columns(&'a [f32]),
}

/// A matrix product for each group. The columns come in units that share one gather map.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub groups: usize,
    pub rows: usize,
    pub channels: usize,
    /// Number of columns of all units.
    pub columns: usize,
    pub a: LeftMatrix<'a>,
    pub b: RightMatrix<'a>,
    pub bias: Bias<'a>,
    pub activation: Option<Activation>,
}

impl Gemm<'_> {
    /// Computes the product.
    pub fn run(&self, out: OutputMatrix<'_>, scratch: &Scratch) {
        self.run_packed(&self.pack(scratch), out, scratch);
    }

    /// Computes the product with `a` packed by [`pack`](Gemm::pack).
    pub fn run_packed(&self, packed: &[f32], out: OutputMatrix<'_>, scratch: &Scratch) {
        if self.columns == 0 || self.rows == 0 {
            return;
        }
        self.check(packed, &out);
        let OutputMatrix { data, unit_stride, group_stride, row_stride, map } = out;
        let out = OutputLayout { unit_stride, group_stride, row_stride, map };
        let per_unit = out.map.pixels;
        let units = self.columns.div_ceil(per_unit);
        let lanes = crate::cpu::simd::instruction_set().1;
        let panels = per_unit.div_ceil(2 * lanes);
        let chunks = panels.div_ceil(PANELS);
        let tiles = self.rows.div_ceil(max_tile_rows());
        // Every part of the rows packs the columns again, so rows are split only if there are few other
        // tasks.
        let parts = TASKS.div_ceil(units * chunks * self.groups).min(tiles.div_ceil(4)).max(1);
        let tasks = self.groups * units * chunks * parts;
        let work = self.work();
        let target = Shared::new(data);
        let task = |i: usize| {
            let (part, i) = (i % parts, i / parts);
            let (chunk, i) = (i % chunks, i / chunks);
            let (unit, group) = (i % units, i / units);
            dispatch(Task {
                gemm: self,
                packed,
                group,
                unit,
                unit_columns: per_unit.min(self.columns - unit * per_unit),
                panels: panels * chunk / chunks..panels * (chunk + 1) / chunks,
                tiles: tiles * part / parts..tiles * (part + 1) / parts,
                target,
                out,
                scratch,
            });
        };
        if work < SMALL || tasks == 1 {
            (0..tasks).for_each(task);
        } else {
            for_each_task(tasks, task);
        }
    }

    /// Checks that the packed matrix, the images and the output have the sizes that the tasks access.
    ///
    /// # Panics
    /// If they do not.
    fn check(&self, packed: &[f32], out: &OutputMatrix<'_>) {
        assert_eq!(
            packed.len(),
            self.groups * self.rows * self.depth(),
            "the left matrix was packed for other sizes"
        );
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        if let RightMatrix::Gathered { data, unit_stride, group_stride, channel_stride, map } = self.b
            && self.channels > 0
        {
            assert!(
                map.pixels == out.map.pixels && map.taps == self.a.taps.len(),
                "the map was made for other sizes"
            );
            let start = last(self.groups, group_stride).saturating_add(last(self.channels, channel_stride));
            let extent = map.extent(self.columns, unit_stride);
            assert!(extent == 0 || start.saturating_add(extent) <= data.len(), "the images have other sizes");
        }
        let start = last(self.groups, out.group_stride).saturating_add(last(self.rows, out.row_stride));
        let extent = out.map.extent(self.columns, out.unit_stride);
        assert!(start.saturating_add(extent) <= out.data.len(), "the output has another size");
    }

    fn depth(&self) -> usize {
        self.channels * self.a.taps.len()
    }

    fn work(&self) -> usize {
        self.groups * self.rows * self.columns * self.depth()
    }

    /// Packs `a` in the order of use: `[depth, rows of the tile]` for each group and tile.
    pub fn pack(&self, scratch: &Scratch) -> Buffer {
        let depth = self.depth();
        let max_rows = max_tile_rows();
        let tiles = self.rows.div_ceil(max_rows);
        let mut packed = scratch.take(self.groups * self.rows * depth);
        let target = Shared::new(&mut packed);
        let pack = |i: usize| {
            let (group, rows) = (i / tiles, tile_rows(self.rows, max_rows, i % tiles));
            let start = (group * self.rows + rows.start) * depth;
            // SAFETY: the tiles have disjoint parts of the buffer.
            let to = unsafe { target.slice(start, rows.len() * depth) };
            dispatch(PackRows { a: self.a, channels: self.channels, group, rows, to });
        };
        if self.work() >= SMALL && self.rows * depth >= 1 << 14 {
            for_each_task(self.groups * tiles, pack);
        } else {
            (0..self.groups * tiles).for_each(pack);
        }
        packed
    }
}

/// The packing of one tile of rows.
struct PackRows<'a> {
    a: LeftMatrix<'a>,
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
                        // The next step overwrites the excess lanes.
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
        // Blocks of LANES by LANES are transposed: along the whole depth if it is contiguous, else along the
        // taps of one channel.
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
                        let mut store = |step: usize| {
                            let to = &mut to[step * count + m..];
                            if in_order && to.len() >= S::LANES {
                                // The next step overwrites the excess lanes.
                                column.to_slice(to);
                            } else {
                                column.to_slice(&mut vector[..S::LANES]);
                                to[..height].copy_from_slice(&vector[..height]);
                            }
                        };
                        if in_order {
                            store(k + j);
                        } else {
                            for_matching_taps(a.taps, k + j, |t| store(run * taps + t));
                        }
                    }
                }
            }
        }
    }
}

/// Calls `action` with the position of each element of `taps` that equals `tap`.
#[inline(always)]
fn for_matching_taps(taps: &[usize], tap: usize, mut action: impl FnMut(usize)) {
    for (t, _) in taps.iter().enumerate().filter(|(_, at)| **at == tap) {
        action(t);
    }
}

/// Some panels of columns and tiles of rows of a unit.
struct Task<'a> {
    gemm: &'a Gemm<'a>,
    packed: &'a [f32],
    group: usize,
    unit: usize,
    unit_columns: usize,
    panels: std::ops::Range<usize>,
    tiles: std::ops::Range<usize>,
    target: Shared<'a>,
    out: OutputLayout<'a>,
    scratch: &'a Scratch,
}

impl Kernel for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let gemm = self.gemm;
        let (taps, depth, wide) = (gemm.a.taps.len(), gemm.depth(), 2 * S::LANES);
        // The last unit may have fewer images, and then has fewer panels.
        let panels = self.panels.start..self.panels.end.min(self.unit_columns.div_ceil(wide));
        if panels.is_empty() {
            return;
        }
        let blocks = gemm.channels.div_ceil((DEPTH / taps).max(1)).max(1);
        let each = gemm.channels.div_ceil(blocks);
        let mut b = self.scratch.take(panels.len() * each * taps * wide);
        let tiles_kept = if blocks > 1 { self.tiles.len() * panels.len() } else { 1 };
        let mut sums = self.scratch.take(tiles_kept * S::TILE_ROWS * wide);
        for block in 0..blocks {
            let channels = (block * each).min(gemm.channels)..((block + 1) * each).min(gemm.channels);
            let steps = channels.len() * taps;
            self.pack_columns::<S>(panels.clone(), channels.clone(), &mut b);
            for (i, t) in self.tiles.clone().enumerate() {
                let rows = tile_rows(gemm.rows, S::TILE_ROWS, t);
                let a = (self.group * gemm.rows + rows.start) * depth + rows.len() * channels.start * taps;
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
    /// Returns the lanes of a vector that are columns of this unit.
    #[inline(always)]
    fn mask<S: Simd>(&self, vector: usize) -> u32 {
        let left = self.unit_columns.saturating_sub(vector * S::LANES);
        if left >= S::LANES { ((1u64 << S::LANES) - 1) as u32 } else { (1 << left) - 1 }
    }

    /// Packs columns in panels `[channels, taps, 2 * LANES]`.
    #[inline(always)]
    fn pack_columns<S: Simd>(
        &self,
        panels: std::ops::Range<usize>,
        channels: std::ops::Range<usize>,
        to: &mut [f32],
    ) {
        let wide = 2 * S::LANES;
        let taps = self.gemm.a.taps.len();
        let steps = channels.len() * taps;
        for (panel, to) in panels.zip(to.chunks_exact_mut((steps * wide).max(1))) {
            for half in 0..2 {
                let vector = 2 * panel + half;
                let mask = self.mask::<S>(vector);
                match self.gemm.b {
                    RightMatrix::Gathered { data, unit_stride, group_stride, channel_stride, map } => {
                        let from = self.unit * unit_stride
                            + self.group * group_stride
                            + channels.start * channel_stride;
                        let from = data.as_ptr().wrapping_add(from);
                        let view = map.view();
                        for tap in 0..taps {
                            // SAFETY: each channel's block of the panel has `taps * wide` floats; `Gemm::check`
                            // compared the map with the images, and the mask excludes those behind the last.
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
                    RightMatrix::Transposed { data } => {
                        let depth = self.gemm.depth();
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

    /// Adds the bias, applies the activation and writes the result.
    #[inline(always)]
    fn finish<S: Simd>(&self, rows: std::ops::Range<usize>, panel: usize, sums: &[f32]) {
        let gemm = self.gemm;
        let map = self.out.map.view();
        let start = self.unit * self.out.unit_stride + self.group * self.out.group_stride;
        for half in 0..2 {
            let vector = 2 * panel + half;
            let mask = self.mask::<S>(vector);
            if mask == 0 {
                continue;
            }
            let columns = match gemm.bias {
                Bias::Columns(bias) => S::from_short_slice(&bias[vector * S::LANES..]),
                _ => S::splat(0.0),
            };
            for (i, row) in rows.clone().enumerate() {
                let mut v = S::from_slice(&sums[(2 * i + half) * S::LANES..]);
                v = v + match gemm.bias {
                    Bias::Rows(bias) => S::splat(bias[self.group * gemm.rows + row]),
                    _ => columns,
                };
                if let Some(activation) = gemm.activation {
                    v = activation.apply(v);
                }
                let to = self.target.get().wrapping_add(start + row * self.out.row_stride);
                // SAFETY: `Gemm::check` compared the map with the output; tasks have disjoint rows and columns.
                unsafe { map.write(vector, mask, v, to) }
            }
        }
    }
}
