//! Pooling in blocks of channels: a vector holds one pixel of a block.

use std::ops::Range;

use super::Axis;
use crate::cpu::simd::Simd;

/// Number of neighboring windows that are computed together: each waits for its last pixel.
const TOGETHER: usize = 8;

/// How the pixels of a window are combined.
pub(in crate::ops) trait Combine: Sync {
    /// The value before the first pixel.
    fn start<S: Simd>(&self) -> S;
    /// Adds a pixel.
    fn add<S: Simd>(&self, value: S, pixel: S) -> S;
    /// Returns the output of window `(r, s)`.
    fn finish<S: Simd>(&self, value: S, axes: [&Axis; 2], r: usize, s: usize) -> S;
}

/// Computes all windows of a block `x [h, w, LANES]`.
#[inline(always)]
pub(in crate::ops) fn pool_block<S: Simd>(
    combine: &impl Combine,
    axes: &[Axis; 2],
    x: &[f32],
    y: &mut [f32],
) {
    let [rows, columns] = axes;
    let inside = columns.inside();
    let x = &x[..rows.input * columns.input * S::LANES];
    for (r, y) in y.chunks_exact_mut(columns.output * S::LANES).enumerate() {
        let line = Line { axes, r, taps: rows.taps(r), x };
        for s in (0..inside.start).chain(inside.end..columns.output) {
            line.window::<S>(combine, s).to_slice(&mut y[s * S::LANES..]);
        }
        let mut s = inside.start;
        while s + TOGETHER <= inside.end {
            let values = line.windows::<S>(combine, s);
            for (value, y) in values.iter().zip(y[s * S::LANES..].chunks_exact_mut(S::LANES)) {
                value.to_slice(y);
            }
            s += TOGETHER;
        }
        for s in s..inside.end {
            line.window::<S>(combine, s).to_slice(&mut y[s * S::LANES..]);
        }
    }
}

/// The windows of a row of the output.
struct Line<'a> {
    axes: &'a [Axis; 2],
    r: usize,
    /// The rows of the windows within the image.
    taps: Range<usize>,
    x: &'a [f32],
}

impl Line<'_> {
    /// Computes window `s`.
    #[inline(always)]
    fn window<S: Simd>(&self, combine: &impl Combine, s: usize) -> S {
        let [rows, columns] = self.axes;
        let mut value = combine.start::<S>();
        for u in self.taps.clone() {
            let row = rows.pixel(self.r, u) * columns.input;
            for v in columns.taps(s) {
                value = combine.add(value, S::from_slice(&self.x[(row + columns.pixel(s, v)) * S::LANES..]));
            }
        }
        combine.finish(value, [rows, columns], self.r, s)
    }

    /// Computes the windows from `s` on, whose columns are all within the image.
    #[inline(always)]
    fn windows<S: Simd>(&self, combine: &impl Combine, s: usize) -> [S; TOGETHER] {
        let [rows, columns] = self.axes;
        let step = columns.stride * S::LANES;
        let mut values = [combine.start::<S>(); TOGETHER];
        for u in self.taps.clone() {
            let row = rows.pixel(self.r, u) * columns.input;
            for v in 0..columns.kernel {
                let x = &self.x[(row + columns.pixel(s, v)) * S::LANES..][..(TOGETHER - 1) * step + S::LANES];
                for (i, value) in values.iter_mut().enumerate() {
                    // SAFETY: the slice ends with the last of these vectors.
                    *value = combine.add(*value, unsafe { S::load(x.as_ptr().add(i * step)) });
                }
            }
        }
        for (i, value) in values.iter_mut().enumerate() {
            *value = combine.finish(*value, [rows, columns], self.r, s + i);
        }
        values
    }
}
