//! Gather maps: from which floats of an image a vector of output pixels reads, for each tap of a convolution.
//!
//! The output pixels of a *unit* of images are numbered consecutively, and every `LANES` of them form a
//! vector. For each tap, such a vector consists of *runs*: lanes whose floats are contiguous in memory. Lanes
//! over the padding belong to no run. The runs are the same for every channel and every unit, so a map is
//! built once per call, and reading a vector costs one or two masked loads.

use bytemuck::{Pod, Zeroable};

use crate::cpu::simd::{Simd, instruction_set};
use crate::memory::{Buffer, Scratch};

/// Lanes of a vector that are contiguous in memory.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Run {
    /// The offset of lane 0 from the start of the unit's channel, whether or not lane 0 belongs to the run.
    offset: i64,
    /// The lanes of the run.
    mask: u32,
    unused: u32,
}

/// A tap of a convolution: grid pixel `(r, c)` reads row `r * row_step + row`, and column `c + column` of the
/// `column_count` columns that are stored from `column_base` on.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub row: isize,
    pub row_step: usize,
    pub column: isize,
    pub column_base: usize,
    pub column_count: usize,
}

/// The numbered output pixels, and the layout of the memory that they are read from or written to.
#[derive(Clone, Copy)]
pub(crate) struct PixelGrid {
    /// Number of images of a unit.
    pub images: usize,
    /// Floats from one image to the next.
    pub image_stride: usize,
    /// The numbered pixels of an image.
    pub rows: usize,
    pub columns: usize,
    /// Number of rows in memory; taps outside of them read padding.
    pub memory_rows: usize,
    /// Floats from one row in memory to the next.
    pub row_stride: usize,
}

/// The runs of all vectors of a unit, for all taps.
pub(crate) struct GatherMap {
    /// The index of the first run of each `(vector, tap)`, and the number of all runs.
    starts: Buffer,
    runs: Buffer,
    pub taps: usize,
    pub pixels: usize,
    /// What the map was made for: the pixels of an image, the floats from one image to the next, and the floats of an image's
    /// channel that its runs reach.
    image_pixels: usize,
    image_stride: usize,
    image_extent: usize,
}

impl GatherMap {
    /// Builds the map for the vectors of the machine's instruction set.
    pub fn new(grid: PixelGrid, taps: impl ExactSizeIterator<Item = Tap> + Clone, scratch: &Scratch) -> Self {
        let lanes = instruction_set().1;
        let pixels = grid.images * grid.rows * grid.columns;
        let vectors = pixels.div_ceil(lanes);
        let max_runs = taps.len() * (vectors + grid.images * grid.rows);
        let mut starts = scratch.take(vectors * taps.len() + 1);
        let mut runs = scratch.take(max_runs * 4);
        let count = taps.len();
        assert!(u32::try_from(max_runs).is_ok(), "a gather map has fewer than 2^32 runs");
        let image_extent = fill(
            grid,
            taps,
            lanes,
            bytemuck::cast_slice_mut(&mut starts),
            bytemuck::cast_slice_mut(&mut runs),
        );
        let image_pixels = grid.rows * grid.columns;
        GatherMap {
            starts,
            runs,
            taps: count,
            pixels,
            image_pixels,
            image_stride: grid.image_stride,
            image_extent,
        }
    }

    /// Returns the number of floats, from the first channel's start on, that the map reaches for `columns` pixels in units that
    /// start `unit_stride` floats apart. Kernels compare it with the length of their data.
    pub fn extent(&self, columns: usize, unit_stride: usize) -> usize {
        if columns == 0 || self.image_extent == 0 {
            return 0;
        }
        let last_unit = (columns - 1) / self.pixels;
        // Units before the last are full.
        let full = self.pixels.div_ceil(self.image_pixels) - 1;
        let rest = (columns - last_unit * self.pixels).div_ceil(self.image_pixels) - 1;
        let start = |unit: usize, image: usize| {
            unit.saturating_mul(unit_stride).saturating_add(image.saturating_mul(self.image_stride))
        };
        let before = if last_unit > 0 { start(last_unit - 1, full) } else { 0 };
        start(last_unit, rest).max(before).saturating_add(self.image_extent)
    }

    /// Builds the map of one row of `columns` contiguous pixels.
    pub fn contiguous(columns: usize, scratch: &Scratch) -> Self {
        let grid =
            PixelGrid { images: 1, image_stride: 0, rows: 1, columns, memory_rows: 1, row_stride: columns };
        let tap = Tap { row: 0, row_step: 1, column: 0, column_base: 0, column_count: columns };
        Self::new(grid, std::iter::once(tap), scratch)
    }

    /// Returns the map for the innermost loops.
    #[inline(always)]
    pub fn view(&self) -> GatherMapView<'_> {
        GatherMapView {
            starts: bytemuck::cast_slice(&self.starts),
            runs: bytemuck::cast_slice(&self.runs),
            taps: self.taps,
        }
    }
}

/// A borrowed [`GatherMap`] with typed slices.
#[derive(Clone, Copy)]
pub(crate) struct GatherMapView<'a> {
    starts: &'a [u32],
    runs: &'a [Run],
    taps: usize,
}

impl GatherMapView<'_> {
    #[inline(always)]
    fn runs(&self, vector: usize, tap: usize) -> &[Run] {
        let i = vector * self.taps + tap;
        let (start, end) = (self.starts[i] as usize, self.starts[i + 1] as usize);
        &self.runs[start..end]
    }

    /// Reads vector `vector` of `count` channels, which start at `from` and are `channel_stride` apart, and
    /// stores them at `to`, `step` floats apart. Lanes in the padding, and those not in `mask`, become 0.
    ///
    /// # Safety
    /// The floats of the lanes that are both in a run and in `mask` must be readable, and `count` vectors at
    /// `to` writable.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the innermost loop of packing")]
    pub unsafe fn read<S: Simd>(
        &self,
        vector: usize,
        tap: usize,
        mask: u32,
        from: *const f32,
        channel_stride: usize,
        count: usize,
        to: *mut f32,
        step: usize,
    ) {
        let zero = S::splat(0.0);
        // SAFETY: guaranteed by the caller; lanes that are masked out are not accessed.
        unsafe {
            match *self.runs(vector, tap) {
                [] => (0..count).for_each(|c| zero.store(to.add(c * step))),
                [a] => {
                    let (from, mask) = (from.wrapping_offset(a.offset as isize), a.mask & mask);
                    for c in 0..count {
                        zero.load_masked(from.wrapping_add(c * channel_stride), mask).store(to.add(c * step));
                    }
                }
                [a, b] => {
                    let (from_a, mask_a) = (from.wrapping_offset(a.offset as isize), a.mask & mask);
                    let (from_b, mask_b) = (from.wrapping_offset(b.offset as isize), b.mask & mask);
                    for c in 0..count {
                        let v = zero.load_masked(from_a.wrapping_add(c * channel_stride), mask_a);
                        let v = v.load_masked(from_b.wrapping_add(c * channel_stride), mask_b);
                        v.store(to.add(c * step));
                    }
                }
                [a, b, d] => {
                    let from = [a, b, d].map(|run| from.wrapping_offset(run.offset as isize));
                    let masks = [a, b, d].map(|run| run.mask & mask);
                    for c in 0..count {
                        let v = zero.load_masked(from[0].wrapping_add(c * channel_stride), masks[0]);
                        let v = v.load_masked(from[1].wrapping_add(c * channel_stride), masks[1]);
                        let v = v.load_masked(from[2].wrapping_add(c * channel_stride), masks[2]);
                        v.store(to.add(c * step));
                    }
                }
                ref all => {
                    for c in 0..count {
                        let from = from.wrapping_add(c * channel_stride);
                        let mut v = zero;
                        for run in all {
                            v = v.load_masked(from.wrapping_offset(run.offset as isize), run.mask & mask);
                        }
                        v.store(to.add(c * step));
                    }
                }
            }
        }
    }

    /// Writes the lanes in `mask` of a vector of the first tap.
    ///
    /// # Safety
    /// The floats of the lanes that are both in a run and in `mask` must be writable.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, vector: usize, mask: u32, value: S, to: *mut f32) {
        for run in self.runs(vector, 0) {
            // SAFETY: guaranteed by the caller.
            unsafe { value.store_masked(to.wrapping_offset(run.offset as isize), run.mask & mask) }
        }
    }
}

/// Writes the runs of all vectors and taps. Returns the number of floats of an image's channel that they reach.
fn fill(
    grid: PixelGrid,
    taps: impl ExactSizeIterator<Item = Tap> + Clone,
    lanes: usize,
    starts: &mut [u32],
    runs: &mut [Run],
) -> usize {
    let pixels = grid.images * grid.rows * grid.columns;
    let mut used = 0;
    let mut next = 0;
    let mut extent = 0;
    for first in (0..pixels).step_by(lanes) {
        let end = (first + lanes).min(pixels);
        let place =
            (first / (grid.rows * grid.columns), first / grid.columns % grid.rows, first % grid.columns);
        for tap in taps.clone() {
            starts[next] = used as u32;
            next += 1;
            let start = used;
            let (mut image, mut r, mut c) = place;
            let mut at = first;
            while at < end {
                let len = (grid.columns - c).min(end - at);
                let row = (r * tap.row_step) as isize + tap.row;
                if (0..grid.memory_rows as isize).contains(&row) {
                    // The columns among c .. c + len that are in the image.
                    let low = (c as isize).max(-tap.column);
                    let high = ((c + len) as isize).min(tap.column_count as isize - tap.column);
                    if low < high {
                        let lane = (at - first) as isize + low - c as isize;
                        let place = (image * grid.image_stride + tap.column_base) as isize
                            + row * grid.row_stride as isize
                            + tap.column
                            + low;
                        if image == 0 {
                            extent = extent.max(place + high - low);
                        }
                        let offset = (place - lane) as i64;
                        let mask = (((1u64 << (high - low)) - 1) << lane) as u32;
                        if used > start && runs[used - 1].offset == offset {
                            runs[used - 1].mask |= mask;
                        } else {
                            runs[used] = Run { offset, mask, unused: 0 };
                            used += 1;
                        }
                    }
                }
                at += len;
                c = 0;
                r += 1;
                if r == grid.rows {
                    (r, image) = (0, image + 1);
                }
            }
        }
    }
    starts[next] = used as u32;
    extent as usize
}
