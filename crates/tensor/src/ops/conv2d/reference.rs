//! The definition: plain loops over every term, in double precision.
//!
//! Each number of a result is the sum of its terms in one order, by channels and then by taps (of the weight's gradient: by
//! pictures, then by pixels). Whole networks run here, so the innermost loop runs along rows of pictures, which lie in
//! memory as they are used, and planes are shared out among the threads.

use rayon::prelude::*;

use super::Problem;
use crate::cpu::simd::vectorized;

/// A run of outputs in a row whose sources, `step` apart, lie in a row of the picture.
struct Run {
    /// The first output, from the start of its plane.
    y: usize,
    /// Its source, from the start of its plane.
    x: usize,
    len: usize,
    step: usize,
}

/// An element of the window: the place of its weight, and a run for each row of outputs that has sources under it.
struct Tap {
    weight: usize,
    runs: Vec<Run>,
}

/// All elements of the window.
fn taps(p: &Problem) -> Vec<Tap> {
    let rows = |kr: usize, kc: usize| {
        (0..p.oh).filter_map(move |r| {
            let sources = |c: &usize| p.source(r, *c, kr, kc).is_some();
            let first = (0..p.ow).find(sources)?;
            let last = (first..p.ow).rev().find(sources)?;
            let (row, column) = p.source(r, first, kr, kc)?;
            let len = last + 1 - first;
            Some(Run { y: r * p.ow + first, x: row * p.w + column, len, step: p.stride[1] })
        })
    };
    (0..p.kh)
        .flat_map(|kr| (0..p.kw).map(move |kc| (kr, kc)))
        .map(|(kr, kc)| Tap { weight: p.tap(kr, kc), runs: rows(kr, kc).collect() })
        .collect()
}

/// Calls `term` with each number of `line` and its source, the sources `step` apart. Where they lie side by side the loop is
/// one that compilers make vectors of.
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

pub(super) fn forward(p: &Problem, x: &[f64], weight: &[f64], y: &mut [f64]) {
    let (x_plane, y_plane, taps) = (p.h * p.w, p.oh * p.ow, taps(p));
    y.par_chunks_mut(y_plane.max(1)).enumerate().for_each(|(plane, y)| {
        vectorized(|| {
            let (n, g, o) = (plane / (p.groups * p.og), plane / p.og % p.groups, plane % p.og);
            y.fill(0.0);
            for i in 0..p.cg {
                let x = &x[((n * p.groups + g) * p.cg + i) * x_plane..][..x_plane];
                let weight = &weight[((g * p.og + o) * p.cg + i) * taps.len()..][..taps.len()];
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

pub(super) fn input_grad(p: &Problem, dy: &[f64], weight: &[f64], dx: &mut [f64]) {
    let (x_plane, y_plane, taps) = (p.h * p.w, p.oh * p.ow, taps(p));
    dx.par_chunks_mut(x_plane.max(1)).enumerate().for_each(|(plane, dx)| {
        vectorized(|| {
            let (n, g, i) = (plane / (p.groups * p.cg), plane / p.cg % p.groups, plane % p.cg);
            dx.fill(0.0);
            for o in 0..p.og {
                let dy = &dy[((n * p.groups + g) * p.og + o) * y_plane..][..y_plane];
                let weight = &weight[((g * p.og + o) * p.cg + i) * taps.len()..][..taps.len()];
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

pub(super) fn weight_grad(p: &Problem, x: &[f64], dy: &[f64], dw: &mut [f64]) {
    let (x_plane, y_plane, taps) = (p.h * p.w, p.oh * p.ow, taps(p));
    dw.par_chunks_mut(p.kh * p.kw).enumerate().for_each(|(kernel, dw)| {
        vectorized(|| {
            let (g, o, i) = (kernel / (p.og * p.cg), kernel / p.cg % p.og, kernel % p.cg);
            dw.fill(0.0);
            for n in 0..p.n {
                let x = &x[((n * p.groups + g) * p.cg + i) * x_plane..][..x_plane];
                let dy = &dy[((n * p.groups + g) * p.og + o) * y_plane..][..y_plane];
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
