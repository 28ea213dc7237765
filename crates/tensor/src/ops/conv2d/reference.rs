//! The definition: plain loops over every term, in double precision.
//!
//! The order of summation is fixed: over channels, then over kernel elements (for the weight gradient over
//! images, then over pixels). Whole networks run on the reference device, so the innermost loop runs along
//! contiguous rows, and channel planes are distributed over the threads.

use rayon::prelude::*;

use super::shape::ConvShape;
use crate::cpu::simd::vectorized;

/// Consecutive outputs of a row whose sources lie in one row of the input, `step` apart.
struct Run {
    /// Offset of the first output in its channel plane.
    y: usize,
    /// Offset of its source in its channel plane.
    x: usize,
    len: usize,
    step: usize,
}

/// A kernel element: the index of its weight, and a run for each row of outputs whose sources are not all
/// padding.
struct Tap {
    weight: usize,
    runs: Vec<Run>,
}

/// Returns all kernel elements.
fn taps(conv: &ConvShape) -> Vec<Tap> {
    let rows = |kr: usize, kc: usize| {
        (0..conv.oh).filter_map(move |r| {
            let sources = |c: &usize| conv.source(r, *c, kr, kc).is_some();
            let first = (0..conv.ow).find(sources)?;
            let last = (first..conv.ow).rev().find(sources)?;
            let (row, column) = conv.source(r, first, kr, kc)?;
            let len = last + 1 - first;
            Some(Run { y: r * conv.ow + first, x: row * conv.w + column, len, step: conv.stride[1] })
        })
    };
    (0..conv.kh)
        .flat_map(|kr| (0..conv.kw).map(move |kc| (kr, kc)))
        .map(|(kr, kc)| Tap { weight: conv.tap(kr, kc), runs: rows(kr, kc).collect() })
        .collect()
}

/// Calls `term` with each element of `line` and its source; the sources are `step` apart. With a step of 1
/// the compiler vectorizes the loop.
#[inline(always)]
fn for_each_pair<Y, X>(
    line: impl Iterator<Item = Y>,
    sources: impl Iterator<Item = X>,
    step: usize,
    mut term: impl FnMut(Y, X),
) {
    if step == 1 {
        line.zip(sources).for_each(|(y, x)| term(y, x));
    } else {
        line.zip(sources.step_by(step)).for_each(|(y, x)| term(y, x));
    }
}

/// Computes `y`, without bias and activation.
pub(super) fn forward(conv: &ConvShape, x: &[f64], weight: &[f64], y: &mut [f64]) {
    let (x_plane, y_plane, taps) = (conv.h * conv.w, conv.oh * conv.ow, taps(conv));
    y.par_chunks_mut(y_plane.max(1)).enumerate().for_each(|(plane, y)| {
        vectorized(|| {
            let (n, g, o) = (
                plane / (conv.groups * conv.out_per_group),
                plane / conv.out_per_group % conv.groups,
                plane % conv.out_per_group,
            );
            y.fill(0.0);
            for i in 0..conv.in_per_group {
                let x = &x[((n * conv.groups + g) * conv.in_per_group + i) * x_plane..][..x_plane];
                let weight = &weight[((g * conv.out_per_group + o) * conv.in_per_group + i) * taps.len()..]
                    [..taps.len()];
                for tap in &taps {
                    let weight = weight[tap.weight];
                    for run in &tap.runs {
                        let line = y[run.y..][..run.len].iter_mut();
                        for_each_pair(line, x[run.x..].iter(), run.step, |y, x| *y += x * weight);
                    }
                }
            }
        })
    });
}

/// Computes the gradient of the input.
pub(super) fn input_grad(conv: &ConvShape, dy: &[f64], weight: &[f64], dx: &mut [f64]) {
    let (x_plane, y_plane, taps) = (conv.h * conv.w, conv.oh * conv.ow, taps(conv));
    dx.par_chunks_mut(x_plane.max(1)).enumerate().for_each(|(plane, dx)| {
        vectorized(|| {
            let (n, g, i) = (
                plane / (conv.groups * conv.in_per_group),
                plane / conv.in_per_group % conv.groups,
                plane % conv.in_per_group,
            );
            dx.fill(0.0);
            for o in 0..conv.out_per_group {
                let dy = &dy[((n * conv.groups + g) * conv.out_per_group + o) * y_plane..][..y_plane];
                let weight = &weight[((g * conv.out_per_group + o) * conv.in_per_group + i) * taps.len()..]
                    [..taps.len()];
                for tap in &taps {
                    let weight = weight[tap.weight];
                    for run in &tap.runs {
                        let line = dy[run.y..][..run.len].iter();
                        for_each_pair(line, dx[run.x..].iter_mut(), run.step, |dy, dx| *dx += dy * weight);
                    }
                }
            }
        })
    });
}

/// Computes the gradient of the weight.
pub(super) fn weight_grad(conv: &ConvShape, x: &[f64], dy: &[f64], dw: &mut [f64]) {
    let (x_plane, y_plane, taps) = (conv.h * conv.w, conv.oh * conv.ow, taps(conv));
    dw.par_chunks_mut(conv.kh * conv.kw).enumerate().for_each(|(kernel, dw)| {
        vectorized(|| {
            let (g, o, i) = (
                kernel / (conv.out_per_group * conv.in_per_group),
                kernel / conv.in_per_group % conv.out_per_group,
                kernel % conv.in_per_group,
            );
            dw.fill(0.0);
            for n in 0..conv.n {
                let x = &x[((n * conv.groups + g) * conv.in_per_group + i) * x_plane..][..x_plane];
                let dy = &dy[((n * conv.groups + g) * conv.out_per_group + o) * y_plane..][..y_plane];
                for tap in &taps {
                    let sum = &mut dw[tap.weight];
                    for run in &tap.runs {
                        let line = dy[run.y..][..run.len].iter();
                        for_each_pair(line, x[run.x..].iter(), run.step, |dy, x| *sum += dy * x);
                    }
                }
            }
        })
    });
}
