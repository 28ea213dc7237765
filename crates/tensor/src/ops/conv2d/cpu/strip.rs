//! Between planes of pixels in memory and strips whose vectors hold a pixel of `LANES` planes: of channels of a picture, or
//! of one channel of several pictures.
//!
//! ```text
//!   memory     plane 0:  p0 p1 p2 ..          strip   p0: plane 0, plane 1, ..
//!              plane 1:  p0 p1 p2 ..                  p1: plane 0, plane 1, ..
//! ```

use crate::cpu::simd::Simd;

/// A rectangle of a plane; parts of it may lie outside.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// The plane's size, and how far planes are apart.
    pub h: usize,
    pub w: usize,
    pub plane: usize,
    /// The first row and column.
    pub row: isize,
    pub column: isize,
    pub rows: usize,
    pub columns: usize,
}

impl Strip {
    /// The rows and columns of the strip that lie in the plane.
    fn inside(&self) -> [std::ops::Range<usize>; 2] {
        let range = |start: isize, count: usize, size: usize| {
            let low = (-start).clamp(0, count as isize);
            let high = (size as isize - start).clamp(low, count as isize);
            low as usize..high as usize
        };
        [range(self.row, self.rows, self.h), range(self.column, self.columns, self.w)]
    }

    /// The runs of pixels that lie in memory one after the other: where the first begins in its plane, how many there
    /// are (each begins a row below the one before), and how long they are. A run goes on in the next row of the strip.
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

    /// Reads `planes`, at most `LANES`, planes from `from` on; what is outside becomes 0. Pixels of the strip are `step` apart.
    ///
    /// # Safety
    /// So many planes must be readable; `to` has a vector for each pixel of the strip.
    #[inline(always)]
    pub unsafe fn read<S: Simd>(&self, from: *const f32, planes: usize, to: *mut f32, step: usize) {
        let zero = S::splat(0.0);
        let [rows, columns] = self.inside();
        for row in 0..self.rows {
            let inside = if rows.contains(&row) { columns.clone() } else { 0..0 };
            for column in (0..inside.start).chain(inside.end..self.columns) {
                // SAFETY: a pixel of the strip.
                unsafe { zero.store(to.add((row * self.columns + column) * step)) }
            }
        }
        let mut block = [zero; 16];
        let (start, runs, count) = self.runs();
        for run in 0..runs {
            let (mut row, mut column) = (rows.start + run, columns.start);
            for done in (0..count).step_by(S::LANES) {
                let wide = S::LANES.min(count - done);
                for (i, v) in block[..S::LANES].iter_mut().enumerate() {
                    // SAFETY: the pixels lie in the plane.
                    *v = unsafe {
                        let at = from.wrapping_add(i * self.plane + start + run * self.w + done);
                        if i >= planes {
                            zero
                        } else if wide == S::LANES {
                            S::load(at)
                        } else {
                            S::load_partial(at, wide)
                        }
                    };
                }
                S::transpose(&mut block[..S::LANES]);
                for v in &block[..wide] {
                    // SAFETY: a pixel of the strip.
                    unsafe { v.store(to.add((row * self.columns + column) * step)) }
                    column += 1;
                    if column == columns.end {
                        (row, column) = (row + 1, columns.start);
                    }
                }
            }
        }
    }

    /// Writes the pixels that lie in the plane to `planes`, at most `LANES`, planes from `to` on.
    ///
    /// # Safety
    /// As of [`read`](Self::read).
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
                    // SAFETY: a pixel of the strip.
                    *v = unsafe { S::load(from.add((row * self.columns + column) * step)) };
                    column += 1;
                    if column == columns.end {
                        (row, column) = (row + 1, columns.start);
                    }
                }
                S::transpose(&mut block[..S::LANES]);
                for (i, v) in block[..planes.min(S::LANES)].iter().enumerate() {
                    // SAFETY: the pixels lie in the plane.
                    unsafe {
                        let at = to.wrapping_add(i * self.plane + start + run * self.w + done);
                        if wide == S::LANES { v.store(at) } else { v.store_partial(at, wide) }
                    }
                }
            }
        }
    }
}
