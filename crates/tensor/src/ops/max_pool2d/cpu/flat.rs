//! Windows with a stride of 1 on small planes, where rows are too short for vectors.
//!
//! The plane is copied into one with its padding around it, of numbers that never win; then the outputs of all rows are
//! neighbours, those at the ends of rows being thrown away:
//!
//! ```text
//!   . . . . .
//!   . a b c .        outputs of row 0, two that do not count, row 1, ..
//!   . d e f .        element (u, v) of all windows: the same vector, u rows and v columns on
//!   . . . . .
//! ```

use super::super::super::window::Axis;
use crate::memory::Buffer;
use crate::memory::Scratch;
use crate::simd::{Kernel, Simd, dispatch};

/// Rows from this length on fill vectors well enough on their own.
const LONG: usize = 32;

/// Whether windows are to be done this way.
pub(super) fn is_better([rows, columns]: [Axis; 2]) -> bool {
    [rows, columns].iter().all(|axis| axis.stride == 1 && axis.dilation == 1) && columns.output < LONG
}

/// What is the same for all planes.
pub(super) struct Plan {
    axes: [Axis; 2],
    /// Columns with the padding, and the outputs with those that are thrown away.
    width: usize,
    outputs: usize,
    /// For each output the index of its window's first element, which may lie outside, and how far its first element inside is
    /// from there.
    first: Buffer,
    inside: Buffer,
}

impl Plan {
    pub fn new(axes: [Axis; 2], scratch: &Scratch) -> Self {
        let [rows, columns] = axes;
        let width = columns.input + 2 * columns.padding;
        let outputs = (rows.output - 1) * width + columns.output;
        let (mut first, mut inside) = (scratch.take(outputs), scratch.take(outputs));
        let numbers = first.iter_mut().zip(inside.iter_mut());
        for (i, (first, inside)) in numbers.enumerate() {
            let (r, s) = (i / width, i % width);
            let index = |row: usize, column: usize| {
                (row as isize - rows.padding as isize) * columns.input as isize + column as isize
                    - columns.padding as isize
            };
            *first = index(r, s) as f32;
            let outside = |at: usize, axis: &Axis| axis.padding.saturating_sub(at);
            *inside = (outside(r, &rows) * columns.input + outside(s, &columns)) as f32;
        }
        Plan { axes, width, outputs, first, inside }
    }

    /// The planes of `y`, and their indices if there are any, from `x`.
    pub fn run(&self, x: &[f32], y: &mut [f32], indices: Option<&mut [f32]>, scratch: &Scratch) {
        match indices {
            Some(indices) => dispatch(Planes::<true> { plan: self, x, y, indices, scratch }),
            None => dispatch(Planes::<false> { plan: self, x, y, indices: &mut [], scratch }),
        }
    }
}

struct Planes<'a, const INDICES: bool> {
    plan: &'a Plan,
    x: &'a [f32],
    y: &'a mut [f32],
    indices: &'a mut [f32],
    scratch: &'a Scratch,
}

impl<const INDICES: bool> Kernel for Planes<'_, INDICES> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Planes { plan, x, y, indices, scratch } = self;
        let [rows, columns] = plan.axes;
        let (from, to) = (rows.input * columns.input, rows.output * columns.output);
        let reach = (rows.input + 2 * rows.padding) * plan.width + columns.kernel + S::LANES;
        let mut padded = scratch.take(reach);
        padded.fill(f32::NEG_INFINITY);
        let outputs = plan.outputs.div_ceil(S::LANES) * S::LANES;
        let (mut best, mut places) = (scratch.take(outputs), scratch.take(outputs));
        let mut indices = indices.chunks_exact_mut(to);
        for (y, x) in y.chunks_exact_mut(to).zip(x.chunks_exact(from)) {
            for (r, row) in x.chunks_exact(columns.input).enumerate() {
                let start = (r + rows.padding) * plan.width + columns.padding;
                copy::<S>(row, &mut padded[start..start + row.len()]);
            }
            for i in (0..plan.outputs).step_by(S::LANES) {
                let mut value = S::splat(f32::NEG_INFINITY);
                let mut at = S::from_short_slice(&plan.inside[i..]);
                for u in 0..rows.kernel {
                    for v in 0..columns.kernel {
                        let seen = S::from_slice(&padded[i + u * plan.width + v..]);
                        if INDICES {
                            let place = S::splat((u * columns.input + v) as f32);
                            at = S::select_gt_or_nan(seen, value, place, at);
                        }
                        value = S::select_gt_or_nan(seen, value, seen, value);
                    }
                }
                value.to_slice(&mut best[i..]);
                if INDICES {
                    (at + S::from_short_slice(&plan.first[i..])).to_slice(&mut places[i..]);
                }
            }
            rows_of::<S>(&best, plan.width, columns.output, y);
            if INDICES {
                rows_of::<S>(&places, plan.width, columns.output, indices.next().unwrap_or_default());
            }
        }
    }
}

/// The rows without what lies between them.
#[inline(always)]
fn rows_of<S: Simd>(from: &[f32], width: usize, columns: usize, to: &mut [f32]) {
    for (r, to) in to.chunks_exact_mut(columns).enumerate() {
        copy::<S>(&from[r * width..r * width + columns], to);
    }
}

/// Short rows, for which a call would take longer than the copy.
#[inline(always)]
fn copy<S: Simd>(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.chunks(S::LANES).zip(to.chunks_mut(S::LANES)) {
        S::from_short_slice(from).to_short_slice(to);
    }
}
