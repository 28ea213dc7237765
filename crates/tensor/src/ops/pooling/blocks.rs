//! Pooling in blocks of channels: a vector holds one pixel of a block.

use super::Axis;
use crate::cpu::simd::Simd;

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
    for (r, y) in y.chunks_exact_mut(columns.output * S::LANES).enumerate() {
        let row_taps = rows.taps(r);
        for (s, y) in y.chunks_exact_mut(S::LANES).enumerate() {
            let column_taps = columns.taps(s);
            let mut value = combine.start::<S>();
            for u in row_taps.clone() {
                let row = rows.pixel(r, u) * columns.input;
                for v in column_taps.clone() {
                    value = combine.add(value, S::from_slice(&x[(row + columns.pixel(s, v)) * S::LANES..]));
                }
            }
            combine.finish(value, [rows, columns], r, s).to_slice(y);
        }
    }
}
