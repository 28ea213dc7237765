//! Transposed tiles: rectangles of pixels in which a vector holds one pixel of `LANES` channel planes, of
//! several channels of an image (oneDNN's nChw16c) or of one channel of several images.
//!
//! ```text
//!   memory     plane 0:  p0 p1 p2 ..          tile   p0: plane 0, plane 1, ..
//!              plane 1:  p0 p1 p2 ..                 p1: plane 0, plane 1, ..
//! ```

use crate::cpu::simd::Simd;

/// The position of a tile in its channel planes; it may extend beyond their edges.
#[derive(Clone, Copy)]
pub struct TransposedTile {
    /// Size of a plane.
    pub h: usize,
    pub w: usize,
    /// Floats from one plane to the next.
    pub plane_stride: usize,
    /// Whether the planes are a block of channels, in which a vector holds one pixel of all planes: then nothing is transposed.
    pub in_blocks: bool,
    /// First row and column of the tile.
    pub row: isize,
    pub column: isize,
    /// Size of the tile.
    pub rows: usize,
    pub columns: usize,
}

impl TransposedTile {
    /// Returns the rows and columns of the tile that lie in the planes.
    pub fn inside(&self) -> [std::ops::Range<usize>; 2] {
        let range = |start: isize, count: usize, size: usize| {
            let low = (-start).clamp(0, count as isize);
            let high = (size as isize - start).clamp(low, count as isize);
            low as usize..high as usize
        };
        [range(self.row, self.rows, self.h), range(self.column, self.columns, self.w)]
    }

    /// Returns the runs of contiguous pixels: the offset of the first run in its plane, the number of runs
    /// (each starts one row below the previous one), and their length. Full rows form one run, which
    /// continues in the next row of the tile.
    fn runs(&self) -> (usize, usize, usize) {
        let [rows, columns] = self.inside();
        if rows.is_empty() || columns.is_empty() {
            return (0, 0, 0);
        }
        let start = (self.row + rows.start as isize) as usize * self.w
            + (self.column + columns.start as isize) as usize;
        if columns.len() == self.w {
            (start, 1, rows.len() * self.w)
        } else {
            (start, rows.len(), columns.len())
        }
    }

    /// Reads the tile from `planes <= LANES` planes that start at `from`, and transposes it. Pixels outside
    /// of the planes become 0. The vectors of `to` are `step` floats apart.
    ///
    /// # Safety
    /// The planes must be readable, and a vector for each pixel of the tile writable.
    #[inline(always)]
    pub unsafe fn read<S: Simd>(&self, from: *const f32, planes: usize, to: *mut f32, step: usize) {
        // SAFETY: guaranteed by the caller; the energies are not accessed.
        unsafe { self.read_all::<S, false>(from, planes, to, step, std::ptr::null_mut(), false) }
    }

    /// As [`read`](TransposedTile::read), and writes the sums of the squares of the pixels over all planes to `energies`, or adds
    /// them to it. It has a float for each pixel [`inside`](TransposedTile::inside) of the planes, row by row.
    ///
    /// # Safety
    /// As of [`read`](TransposedTile::read); `energies` must have `LANES` floats more than there are pixels.
    #[inline(always)]
    pub unsafe fn read_with_energies<S: Simd>(
        &self,
        from: *const f32,
        planes: usize,
        to: *mut f32,
        step: usize,
        energies: *mut f32,
        add: bool,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.read_all::<S, true>(from, planes, to, step, energies, add) }
    }

    /// As [`read_with_energies`](TransposedTile::read_with_energies) if `ENERGIES`.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn read_all<S: Simd, const ENERGIES: bool>(
        &self,
        from: *const f32,
        planes: usize,
        to: *mut f32,
        step: usize,
        energies: *mut f32,
        add: bool,
    ) {
        let zero = S::splat(0.0);
        let [rows, columns] = self.inside();
        for row in 0..self.rows {
            let inside = if rows.contains(&row) { columns.clone() } else { 0..0 };
            for column in (0..inside.start).chain(inside.end..self.columns) {
                // SAFETY: a pixel of the tile.
                unsafe { zero.store(to.add((row * self.columns + column) * step)) }
            }
        }
        let mut block = [zero; 16];
        let (start, runs, count) = self.runs();
        for run in 0..runs {
            let (mut row, mut column) = (rows.start + run, columns.start);
            for done in (0..count).step_by(S::LANES) {
                let wide = S::LANES.min(count - done);
                let first = start + run * self.w + done;
                for (i, v) in block[..S::LANES].iter_mut().enumerate() {
                    // SAFETY: the pixels lie in the plane, or in the block of planes.
                    *v = unsafe {
                        if self.in_blocks {
                            load_planes(from.wrapping_add((first + i) * S::LANES), planes, i < wide)
                        } else {
                            let at = from.wrapping_add(i * self.plane_stride + first);
                            if i >= planes {
                                zero
                            } else if wide == S::LANES {
                                S::load(at)
                            } else {
                                S::load_partial(at, wide)
                            }
                        }
                    };
                }
                if ENERGIES && self.in_blocks {
                    let mut squares = block;
                    squares[..S::LANES].iter_mut().for_each(|v| *v = *v * *v);
                    S::transpose(&mut squares[..S::LANES]);
                    // SAFETY: as below.
                    unsafe {
                        let (to, energy) = (energies.add(run * count + done), sum(&squares[..S::LANES]));
                        (if add { S::load(to) + energy } else { energy }).store(to);
                    }
                } else if ENERGIES {
                    // SAFETY: the pixels of all runs are consecutive, and followed by a vector. Lanes behind a run are 0 or written
                    // again.
                    unsafe {
                        let (to, energy) =
                            (energies.add(run * count + done), sum_of_squares(&block[..S::LANES]));
                        (if add { S::load(to) + energy } else { energy }).store(to);
                    }
                }
                if !self.in_blocks {
                    S::transpose(&mut block[..S::LANES]);
                }
                for v in &block[..wide] {
                    // SAFETY: a pixel of the tile.
                    unsafe { v.store(to.add((row * self.columns + column) * step)) }
                    column += 1;
                    if column == columns.end {
                        (row, column) = (row + 1, columns.start);
                    }
                }
            }
        }
    }

    /// Transposes a tile back and writes its pixels inside of the planes to `planes <= LANES` planes that
    /// start at `to`. The vectors of `from` are `step` floats apart.
    ///
    /// # Safety
    /// The planes must be writable, and a vector for each pixel of the tile readable.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, from: *const f32, step: usize, planes: usize, to: *mut f32) {
        let [rows, columns] = self.inside();
        let mut block = [S::splat(0.0); 16];
        let (start, runs, count) = self.runs();
        for run in 0..runs {
            let (mut row, mut column) = (rows.start + run, columns.start);
            for done in (0..count).step_by(S::LANES) {
                let wide = S::LANES.min(count - done);
                for v in &mut block[..wide] {
                    // SAFETY: a pixel of the tile.
                    *v = unsafe { S::load(from.add((row * self.columns + column) * step)) };
                    column += 1;
                    if column == columns.end {
                        (row, column) = (row + 1, columns.start);
                    }
                }
                let first = start + run * self.w + done;
                if self.in_blocks {
                    for (i, v) in block[..wide].iter().enumerate() {
                        // SAFETY: the pixels lie in the block of planes.
                        unsafe { store_planes(*v, planes, to.wrapping_add((first + i) * S::LANES)) }
                    }
                    continue;
                }
                S::transpose(&mut block[..S::LANES]);
                for (i, v) in block[..planes.min(S::LANES)].iter().enumerate() {
                    // SAFETY: the pixels lie in the plane.
                    unsafe {
                        let at = to.wrapping_add(i * self.plane_stride + first);
                        if wide == S::LANES { v.store(at) } else { v.store_partial(at, wide) }
                    }
                }
            }
        }
    }
}

/// Loads one pixel of `planes` planes of a block; the other lanes, which a block may fill with anything, become 0.
///
/// # Safety
/// If `exists`, the lanes of the planes must be readable.
#[inline(always)]
unsafe fn load_planes<S: Simd>(from: *const f32, planes: usize, exists: bool) -> S {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if !exists {
            S::splat(0.0)
        } else if planes >= S::LANES {
            S::load(from)
        } else {
            S::load_partial(from, planes)
        }
    }
}

/// Stores one pixel of `planes` planes of a block; the other lanes become 0.
///
/// # Safety
/// A vector must be writable.
#[inline(always)]
pub unsafe fn store_planes<S: Simd>(pixel: S, planes: usize, to: *mut f32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if planes < S::LANES {
            S::splat(0.0).store(to);
            pixel.store_partial(to, planes);
        } else {
            pixel.store(to);
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(values: &[S]) -> S {
    values.iter().skip(1).fold(values[0], |sum, v| sum + *v)
}

#[inline(always)]
fn sum_of_squares<S: Simd>(values: &[S]) -> S {
    // Several sums: an addition waits for the previous one.
    let mut sums = [S::splat(0.0); 4];
    for (i, v) in values.iter().enumerate() {
        sums[i % 4] = v.mul_add(*v, sums[i % 4]);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
