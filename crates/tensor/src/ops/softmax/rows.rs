//! Row-wise primitives, shared with cross entropy.

use crate::core::call::Call;
use crate::cpu::simd::{Real, Simd};
use crate::opencl::{Grid, Source};

/// Number of lanes of the widest vectors.
pub(super) const LANES: usize = 16;

/// Index of each lane.
const LANE: [f32; LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Loads a slice of at most `S::LANES` floats; the lanes beyond are minus infinity.
#[inline(always)]
fn or_minus_infinity<S: Simd>(slice: &[f32]) -> S {
    if slice.len() >= S::LANES {
        return S::from_slice(slice);
    }
    let count = S::splat(slice.len() as f32);
    S::select_gt(count, S::from_slice(&LANE), S::from_short_slice(slice), S::splat(f32::NEG_INFINITY))
}

/// Returns the largest number of a row; minus infinity if the row is empty.
#[inline(always)]
pub(in crate::ops) fn largest<S: Simd>(row: &[f32]) -> f32 {
    let mut max = S::splat(f32::NEG_INFINITY);
    for x in row.chunks(S::LANES) {
        max = Simd::max(or_minus_infinity::<S>(x), max);
    }
    max.max_lane()
}

/// Computes `out = e^(row - max)`, and returns its sum.
#[inline(always)]
pub(in crate::ops) fn exps<S: Simd>(row: &[f32], max: f32, out: &mut [f32]) -> f32 {
    let mut sum = S::splat(0.0);
    for (to, x) in out.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
        let e = Real::exp(or_minus_infinity::<S>(x) - S::splat(max));
        sum = sum + e;
        e.to_short_slice(to);
    }
    sum.sum()
}

/// Computes `row *= factor`.
#[inline(always)]
pub(in crate::ops) fn scale<S: Simd>(row: &mut [f32], factor: f32) {
    for x in row.chunks_mut(S::LANES) {
        (S::from_short_slice(x) * S::splat(factor)).to_short_slice(x);
    }
}

/// Returns a program that works on rows of `len` numbers, and its grid. `rows.cl` is inserted before `text`.
pub(in crate::ops) fn row_program(
    call: &Call<'_>,
    name: &'static str,
    text: &'static str,
    rows: usize,
    len: usize,
) -> (Source, Grid) {
    // Short rows have no work for several work-items.
    let team = if call.on_cpu() || len <= 64 { 1 } else { 64 };
    let group = if call.on_cpu() { 16 } else { 64 };
    let source = Source::new(name, text).define("TEAM", team).define("GROUP", group);
    (source.insert(include_str!("rows.cl")), Grid::new([rows * team], [group]))
}
