//! Pixels as columns of a matrix: which floats of a picture lie under which lanes of a vector.
//!
//! The output pixels of some pictures are numbered one after the other, and every `LANES` of them make a vector. For each
//! tap of the window, such a vector is made of *pieces*: runs of floats that lie in memory as they lie in the vector.
//! Where the window is over the padding there is no piece. The table of pieces is the same for every channel, and for
//! every unit of pictures, so it is made once per call, and reading a vector costs a masked load or two.

use bytemuck::{Pod, Zeroable};

use crate::cpu::simd::{Simd, instruction_set};
use crate::memory::{Buffer, Scratch};

/// Lanes of a vector and where they lie.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Piece {
    /// Where lane 0 lies, or would lie: from the start of the unit's channel.
    offset: i64,
    /// The lanes.
    mask: u32,
    unused: u32,
}

/// How a tap moves over the picture: grid pixel `(r, c)` sees row `r * row_step + row`, and column `c + column` of the
/// `column_count` columns that are stored from `column_base` on.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub row: isize,
    pub row_step: usize,
    pub column: isize,
    pub column_base: usize,
    pub column_count: usize,
}

/// The pixels that are numbered, and the memory that they are found in.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    /// Pictures of a unit.
    pub pictures: usize,
    pub picture_stride: usize,
    /// The numbered pixels of a picture.
    pub rows: usize,
    pub columns: usize,
    /// Rows in memory, and how far apart they are.
    pub memory_rows: usize,
    pub row_stride: usize,
}

/// The pieces of all vectors of a unit, for all taps.
pub(crate) struct Table {
    /// Where the pieces of `(vector, tap)` start, and one more.
    starts: Buffer,
    pieces: Buffer,
    pub taps: usize,
    pub pixels: usize,
}

impl Table {
    pub fn new(grid: Grid, taps: impl ExactSizeIterator<Item = Tap> + Clone, scratch: &Scratch) -> Self {
        let lanes = instruction_set().1;
        let pixels = grid.pictures * grid.rows * grid.columns;
        let vectors = pixels.div_ceil(lanes);
        let most = taps.len() * (vectors + grid.pictures * grid.rows);
        let mut starts = scratch.take(vectors * taps.len() + 1);
        let mut pieces = scratch.take(most * 4);
        let count = taps.len();
        fill(grid, taps, lanes, bytemuck::cast_slice_mut(&mut starts), bytemuck::cast_slice_mut(&mut pieces));
        Table { starts, pieces, taps: count, pixels }
    }

    /// One picture of `columns` pixels in one row.
    pub fn plain(columns: usize, scratch: &Scratch) -> Self {
        let grid =
            Grid { pictures: 1, picture_stride: 0, rows: 1, columns, memory_rows: 1, row_stride: columns };
        let tap = Tap { row: 0, row_step: 1, column: 0, column_base: 0, column_count: columns };
        Self::new(grid, std::iter::once(tap), scratch)
    }

    /// The table for the innermost loops.
    #[inline(always)]
    pub fn view(&self) -> TableView<'_> {
        TableView {
            starts: bytemuck::cast_slice(&self.starts),
            pieces: bytemuck::cast_slice(&self.pieces),
            taps: self.taps,
        }
    }
}

/// A [`Table`], looked up without detours.
#[derive(Clone, Copy)]
pub(crate) struct TableView<'a> {
    starts: &'a [u32],
    pieces: &'a [Piece],
    taps: usize,
}

impl TableView<'_> {
    #[inline(always)]
    fn pieces(&self, vector: usize, tap: usize) -> &[Piece] {
        let i = vector * self.taps + tap;
        let (start, end) = (self.starts[i] as usize, self.starts[i + 1] as usize);
        &self.pieces[start..end]
    }

    /// Writes vector `vector` of each of `count` channels, from `from` on and `channel_stride` apart, to `to`, `step`
    /// floats apart. Lanes outside of the picture, and those not in `mask`, become 0.
    ///
    /// # Safety
    /// The memory of the unit from `from` on must be readable as far as the table's masks and `mask` say, and the
    /// target writable.
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
        // SAFETY: the caller's promise; addresses of lanes that are masked out are only computed.
        unsafe {
            match *self.pieces(vector, tap) {
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
                    let from = [a, b, d].map(|piece| from.wrapping_offset(piece.offset as isize));
                    let masks = [a, b, d].map(|piece| piece.mask & mask);
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
                        for piece in all {
                            v = v.load_masked(from.wrapping_offset(piece.offset as isize), piece.mask & mask);
                        }
                        v.store(to.add(c * step));
                    }
                }
            }
        }
    }

    /// Writes a vector of the only tap to memory, without the lanes that are not in `mask`.
    ///
    /// # Safety
    /// As of [`read`](Self::read), for writing.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, vector: usize, mask: u32, value: S, to: *mut f32) {
        for piece in self.pieces(vector, 0) {
            // SAFETY: the caller's promise.
            unsafe { value.store_masked(to.wrapping_offset(piece.offset as isize), piece.mask & mask) }
        }
    }
}

fn fill(
    grid: Grid,
    taps: impl ExactSizeIterator<Item = Tap> + Clone,
    lanes: usize,
    starts: &mut [u32],
    pieces: &mut [Piece],
) {
    let pixels = grid.pictures * grid.rows * grid.columns;
    let mut used = 0;
    let mut next = 0;
    for first in (0..pixels).step_by(lanes) {
        let end = (first + lanes).min(pixels);
        let place =
            (first / (grid.rows * grid.columns), first / grid.columns % grid.rows, first % grid.columns);
        for tap in taps.clone() {
            starts[next] = used as u32;
            next += 1;
            let start = used;
            let (mut picture, mut r, mut c) = place;
            let mut at = first;
            while at < end {
                let len = (grid.columns - c).min(end - at);
                let row = (r * tap.row_step) as isize + tap.row;
                if (0..grid.memory_rows as isize).contains(&row) {
                    // Of columns c .. c + len those that lie in the picture.
                    let low = (c as isize).max(-tap.column);
                    let high = ((c + len) as isize).min(tap.column_count as isize - tap.column);
                    if low < high {
                        let lane = (at - first) as isize + low - c as isize;
                        let place = (picture * grid.picture_stride + tap.column_base) as isize
                            + row * grid.row_stride as isize
                            + tap.column
                            + low;
                        let offset = (place - lane) as i64;
                        let mask = (((1u64 << (high - low)) - 1) << lane) as u32;
                        if used > start && pieces[used - 1].offset == offset {
                            pieces[used - 1].mask |= mask;
                        } else {
                            pieces[used] = Piece { offset, mask, unused: 0 };
                            used += 1;
                        }
                    }
                }
                at += len;
                c = 0;
                r += 1;
                if r == grid.rows {
                    (r, picture) = (0, picture + 1);
                }
            }
        }
    }
    starts[next] = used as u32;
}
