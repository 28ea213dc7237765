//! The definition: plain loops over every term, in double precision.
//!
//! The order of summation is fixed: over channels, then over kernel elements (for the weight gradient over
//! images, then over pixels). Whole networks run on the reference device, so the innermost loop runs along
//! contiguous rows, and channel planes are distributed over the threads.

use rayon::prelude::*;

use super::shape::ConvShape;
use crate::cpu::simd::{Kernel, Simd, dispatch};

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

/// One pass of the convolution.
trait Pass: Copy + Sync {
    /// Computes plane number `plane` of the output, which is all zeros.
    fn compute(self, conv: &ConvShape, taps: &[Tap], plane: usize, output: &mut [f64]);
}

/// Computes the planes of the output, each of `size` elements.
fn for_each_plane(conv: &ConvShape, output: &mut [f64], size: usize, pass: impl Pass) {
    /// A type of its own, so that the loops are compiled for each instruction set: a closure would be a function that is called.
    struct Plane<'a, P> {
        conv: &'a ConvShape,
        taps: &'a [Tap],
        plane: usize,
        output: &'a mut [f64],
        pass: P,
    }
    impl<P: Pass> Kernel for Plane<'_, P> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self) {
            self.output.fill(0.0);
            self.pass.compute(self.conv, self.taps, self.plane, self.output);
        }
    }
    let taps = taps(conv);
    output.par_chunks_mut(size.max(1)).enumerate().for_each(|(plane, output)| {
        dispatch(Plane { conv, taps: &taps, plane, output, pass });
    });
}

/// Computes `y`, without bias and activation.
pub(super) fn forward(conv: &ConvShape, x: &[f64], weight: &[f64], y: &mut [f64]) {
    #[derive(Clone, Copy)]
    struct Forward<'a>(&'a [f64], &'a [f64]);
    impl Pass for Forward<'_> {
        #[inline(always)]
        fn compute(self, conv: &ConvShape, taps: &[Tap], plane: usize, y: &mut [f64]) {
            let Forward(x, weight) = self;
            let x_plane = conv.h * conv.w;
            let (n, g, o) = (
                plane / (conv.groups * conv.out_per_group),
                plane / conv.out_per_group % conv.groups,
                plane % conv.out_per_group,
            );
            for i in 0..conv.in_per_group {
                let x = &x[((n * conv.groups + g) * conv.in_per_group + i) * x_plane..][..x_plane];
                let weight = &weight[((g * conv.out_per_group + o) * conv.in_per_group + i) * taps.len()..]
                    [..taps.len()];
                for tap in taps {
                    let weight = weight[tap.weight];
                    for run in &tap.runs {
                        let line = y[run.y..][..run.len].iter_mut();
                        for_each_pair(line, x[run.x..].iter(), run.step, |y, x| *y += x * weight);
                    }
                }
            }
        }
    }
    for_each_plane(conv, y, conv.oh * conv.ow, Forward(x, weight));
}

/// Computes the gradient of the input.
pub(super) fn input_grad(conv: &ConvShape, dy: &[f64], weight: &[f64], dx: &mut [f64]) {
    #[derive(Clone, Copy)]
    struct InputGrad<'a>(&'a [f64], &'a [f64]);
    impl Pass for InputGrad<'_> {
        #[inline(always)]
        fn compute(self, conv: &ConvShape, taps: &[Tap], plane: usize, dx: &mut [f64]) {
            let InputGrad(dy, weight) = self;
            let y_plane = conv.oh * conv.ow;
            let (n, g, i) = (
                plane / (conv.groups * conv.in_per_group),
                plane / conv.in_per_group % conv.groups,
                plane % conv.in_per_group,
            );
            for o in 0..conv.out_per_group {
                let dy = &dy[((n * conv.groups + g) * conv.out_per_group + o) * y_plane..][..y_plane];
                let weight = &weight[((g * conv.out_per_group + o) * conv.in_per_group + i) * taps.len()..]
                    [..taps.len()];
                for tap in taps {
                    let weight = weight[tap.weight];
                    for run in &tap.runs {
                        let line = dy[run.y..][..run.len].iter();
                        for_each_pair(line, dx[run.x..].iter_mut(), run.step, |dy, dx| *dx += dy * weight);
                    }
                }
            }
        }
    }
    for_each_plane(conv, dx, conv.h * conv.w, InputGrad(dy, weight));
}

/// Input channels whose weight gradients are computed at the same time: sums that do not depend on each other.
const CHANNELS: usize = 8;

/// Computes the gradient of the weight.
pub(super) fn weight_grad(conv: &ConvShape, x: &[f64], dy: &[f64], dw: &mut [f64]) {
    #[derive(Clone, Copy)]
    struct WeightGrad<'a>(&'a [f64], &'a [f64]);
    impl Pass for WeightGrad<'_> {
        /// The plane has the kernels of an output channel.
        #[inline(always)]
        fn compute(self, conv: &ConvShape, taps: &[Tap], plane: usize, dw: &mut [f64]) {
            let WeightGrad(x, dy) = self;
            let (x_plane, y_plane) = (conv.h * conv.w, conv.oh * conv.ow);
            let (g, o) = (plane / conv.out_per_group, plane % conv.out_per_group);
            for n in 0..conv.n {
                let first = (n * conv.groups + g) * conv.in_per_group;
                let dy = &dy[((n * conv.groups + g) * conv.out_per_group + o) * y_plane..][..y_plane];
                let mut i = 0;
                while i < conv.in_per_group {
                    let x = &x[(first + i) * x_plane..];
                    let dw = &mut dw[i * taps.len()..];
                    if conv.in_per_group - i >= CHANNELS {
                        add_products::<CHANNELS>(taps, x, x_plane, dy, dw);
                        i += CHANNELS;
                    } else {
                        add_products::<1>(taps, x, x_plane, dy, dw);
                        i += 1;
                    }
                }
            }
        }
    }

    /// Adds the products of an image's pixels and gradients for `N` input channels, each in the order of the pixels.
    #[inline(always)]
    fn add_products<const N: usize>(taps: &[Tap], x: &[f64], x_plane: usize, dy: &[f64], dw: &mut [f64]) {
        for tap in taps {
            let mut sums: [f64; N] = std::array::from_fn(|i| dw[i * taps.len() + tap.weight]);
            for run in &tap.runs {
                let last = (run.len - 1) * run.step;
                let sources: [&[f64]; N] = std::array::from_fn(|i| &x[i * x_plane + run.x..][..=last]);
                for (j, dy) in dy[run.y..][..run.len].iter().enumerate() {
                    for (sum, source) in sums.iter_mut().zip(&sources) {
                        *sum += dy * source[j * run.step];
                    }
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                dw[i * taps.len() + tap.weight] = sum;
            }
        }
    }

    for_each_plane(conv, dw, conv.in_per_group * conv.kh * conv.kw, WeightGrad(x, dy));
}
