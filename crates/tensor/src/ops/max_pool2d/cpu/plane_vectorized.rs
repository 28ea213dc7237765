//! Max pooling vectorized over channel planes, for planes whose rows are too short for vectors.
//!
//! The maximum is separable: it is computed over columns first and then over rows, so a window of 3 x 3 needs 3 + 3 comparisons
//! instead of 9:
//!
//! ```text
//! x [h, w]  ->  maxima over the columns of windows [h, ow]  ->  y [oh, ow]
//! ```
//!
//! The first of equal numbers is still selected: the first column of each row, then the first row.

use super::best::Best;
use crate::cpu::simd::transpose::{lanes_to_rows, rows_to_lanes};
use crate::cpu::simd::{Kernel, Simd};
use crate::memory::Scratch;
use crate::ops::pooling::Axis;

/// Length of output rows from which vectors along rows are faster.
const LONG: usize = 16;

/// As above, for stride 1, where a vector of outputs needs no more pixels than it has lanes.
const LONG_UNIT_STRIDE: usize = 24;

/// Largest channel plane, in pixels: beyond it, a vector for each pixel exceeds the L1 cache.
const LARGEST: usize = 1 << 10;

/// Whether this algorithm is faster.
pub(super) fn is_better([rows, columns]: [Axis; 2]) -> bool {
    let long = if columns.stride == 1 { LONG_UNIT_STRIDE } else { LONG };
    columns.output < long && rows.input * columns.input <= LARGEST
}

/// Computes channel planes of `y`, and their indices if requested.
pub(super) struct Planes<'a, const INDICES: bool> {
    pub axes: [Axis; 2],
    pub x: &'a [f32],
    pub y: &'a mut [f32],
    pub indices: &'a mut [f32],
    pub scratch: &'a Scratch,
}

/// Maxima and their indices: a vector for each position.
struct Maxima<'a> {
    values: &'a mut [f32],
    index_values: &'a mut [f32],
}

impl Maxima<'_> {
    #[inline(always)]
    fn get<V: Simd, const INDICES: bool>(&self, i: usize) -> Best<V> {
        let value = V::from_slice(&self.values[i * V::LANES..]);
        let at = if INDICES { V::from_slice(&self.index_values[i * V::LANES..]) } else { value };
        Best { value, at }
    }

    #[inline(always)]
    fn set<V: Simd, const INDICES: bool>(&mut self, i: usize, best: Best<V>) {
        best.value.to_slice(&mut self.values[i * V::LANES..]);
        if INDICES {
            best.at.to_slice(&mut self.index_values[i * V::LANES..]);
        }
    }
}

impl<const INDICES: bool> Kernel for Planes<'_, INDICES> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let Planes { axes, x, y, indices, scratch } = self;
        let [rows, columns] = axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        let between = rows.input * columns.output;
        let mut pixels = scratch.take(from * V::LANES);
        let [mut values, mut best] = [between, to].map(|count| scratch.take(count * V::LANES));
        let [mut index_values, mut at] =
            [between, to].map(|count| scratch.take(if INDICES { count * V::LANES } else { 0 }));
        let mut between = Maxima { values: &mut values, index_values: &mut index_values };
        let mut last = Maxima { values: &mut best, index_values: &mut at };
        let mut indices = indices.chunks_mut(V::LANES * to);
        for (y, x) in y.chunks_mut(V::LANES * to).zip(x.chunks(V::LANES * from)) {
            let planes = y.len() / to;
            assert!(x.len() >= planes * from);
            // SAFETY: `x` has `planes` planes, and `pixels` a vector for each pixel.
            unsafe { rows_to_lanes::<V>(x.as_ptr(), from, planes, from, pixels.as_mut_ptr()) }
            // 0 times a finite number is 0; times an infinity or NaN it is NaN.
            let zero = V::splat(0.0);
            let check =
                pixels.chunks_exact(V::LANES).fold(zero, |sum, v| V::from_slice(v).mul_add(zero, sum));
            if check.sum() == 0.0 {
                over_columns::<V, INDICES, true>(axes, &pixels, &mut between);
                over_rows::<V, INDICES, true>(axes, &between, &mut last);
            } else {
                over_columns::<V, INDICES, false>(axes, &pixels, &mut between);
                over_rows::<V, INDICES, false>(axes, &between, &mut last);
            }
            // SAFETY: `last` has a vector for each output, and `y` and the indices have `planes` planes.
            unsafe {
                lanes_to_rows::<V>(last.values.as_ptr(), y.as_mut_ptr(), to, planes, to);
                if INDICES {
                    let indices = indices.next().unwrap_or_default();
                    assert_eq!(indices.len(), y.len());
                    lanes_to_rows::<V>(last.index_values.as_ptr(), indices.as_mut_ptr(), to, planes, to);
                }
            }
        }
    }
}

/// Compares with another element of the windows. Saves a comparison if all are `NUMBERS`, not NaN.
#[inline(always)]
fn see<V: Simd, const INDICES: bool, const NUMBERS: bool>(best: &mut Best<V>, value: V, at: V) {
    if !NUMBERS {
        best.see::<INDICES>(value, at);
        return;
    }
    if INDICES {
        best.at = V::select_gt(value, best.value, at, best.at);
    }
    // Of equal numbers, such as zeros of different signs, the first.
    best.value = value.max(best.value);
}

#[inline(always)]
fn over_columns<V: Simd, const INDICES: bool, const NUMBERS: bool>(
    [rows, columns]: [Axis; 2],
    x: &[f32],
    to: &mut Maxima<'_>,
) {
    for s in 0..columns.output {
        let taps = columns.taps(s);
        let first = columns.pixel(s, taps.start);
        for row in 0..rows.input {
            let start = row * columns.input + first;
            let pixel = |i: usize| V::from_slice(&x[i * V::LANES..]);
            let mut best = Best { value: pixel(start), at: V::splat(start as f32) };
            for v in 1..taps.len() {
                let i = start + v * columns.dilation;
                see::<V, INDICES, NUMBERS>(&mut best, pixel(i), V::splat(i as f32));
            }
            to.set::<V, INDICES>(row * columns.output + s, best);
        }
    }
}

#[inline(always)]
fn over_rows<V: Simd, const INDICES: bool, const NUMBERS: bool>(
    [rows, columns]: [Axis; 2],
    from: &Maxima<'_>,
    to: &mut Maxima<'_>,
) {
    let width = columns.output;
    for r in 0..rows.output {
        let taps = rows.taps(r);
        let first = rows.pixel(r, taps.start) * width;
        for s in 0..width {
            let mut best = from.get::<V, INDICES>(first + s);
            for u in 1..taps.len() {
                let next = from.get::<V, INDICES>(first + u * rows.dilation * width + s);
                see::<V, INDICES, NUMBERS>(&mut best, next.value, next.at);
            }
            to.set::<V, INDICES>(r * width + s, best);
        }
    }
}
