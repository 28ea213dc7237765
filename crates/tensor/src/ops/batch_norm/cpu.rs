//! The kernels of the CPU.
//!
//! Sums run over a channel at a time, all images in turn; results are written an image at a time. Where a channel has
//! one pixel (`[n, c]`) the vectors lie across the channels, else along the pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::{BatchNormEval, BatchNormEvalGrad, BatchNormTrain, BatchNormTrainGrad, Sizes};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::parallel::CHUNK;
use crate::simd::{Kernel, Simd, dispatch};
use crate::view::{View, ViewMut};

/// Channels whose sums one task makes, where the vectors lie across channels.
const BLOCK: usize = 16;

/// Rows that are added up in single precision before they join the sum.
const ROWS: usize = 32;

pub(super) fn train(
    op: &BatchNormTrain,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let (x, sizes) = (inputs[0].data, Sizes::of(inputs[0].shape));
    let [y, mean, var] = outputs else { unreachable!("three outputs") };
    each_block(sizes, mean.data, var.data, |channels, mean, var| {
        dispatch(Moments { x, sizes, channels, mean, var });
    });
    let (weight, bias) = match inputs.len() {
        3 => (Some(inputs[1].data), Some(inputs[2].data)),
        _ => (None, None),
    };
    let scale = scales(op.eps, var.data, weight, scratch);
    normalize(x, sizes, mean.data, &scale, bias, op.activation, y.data);
}

pub(super) fn eval(
    op: &BatchNormEval,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let (weight, bias) = match inputs.len() {
        5 => (Some(inputs[3].data), Some(inputs[4].data)),
        _ => (None, None),
    };
    let scale = scales(op.eps, inputs[2].data, weight, scratch);
    let sizes = Sizes::of(inputs[0].shape);
    normalize(inputs[0].data, sizes, inputs[1].data, &scale, bias, op.activation, outputs[0].data);
}

pub(super) fn train_grad(
    op: &BatchNormTrainGrad,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let weight = op.affine.then(|| inputs[4].data);
    let [dx, dweight, dbias] = outputs else { unreachable!("three outputs") };
    let pass = Backward {
        x: inputs[0].data,
        mean: inputs[1].data,
        dy: inputs[3].data,
        y: op.of.activation.map_or(&[], |_| inputs[inputs.len() - 1].data),
        activation: op.of.activation,
        sizes,
    };
    let inverse = scales(op.of.eps, inputs[2].data, None, scratch);
    each_block(sizes, dweight.data, dbias.data, |channels, dweight, dbias| {
        dispatch(GradSums { pass, channels: channels.clone(), dot: dweight, sum: dbias });
        dweight.iter_mut().zip(&inverse[channels]).for_each(|(d, i)| *d *= i);
    });
    // dx = p (dz - q (x - mean) - r), with these numbers for each channel. Where few images make a batch, almost
    // nothing is left of the difference: each of the numbers is rounded only once.
    let count = sizes.count() as f64;
    let mut p = scratch.take(sizes.c);
    let mut q = scratch.take(sizes.c);
    let mut r = scratch.take(sizes.c);
    for c in 0..sizes.c {
        let inverse = 1.0 / (f64::from(inputs[2].data[c]) + op.of.eps).sqrt();
        p[c] = (inverse * weight.map_or(1.0, |w| f64::from(w[c]))) as f32;
        q[c] = (f64::from(dweight.data[c]) * inverse / count) as f32;
        r[c] = (f64::from(dbias.data[c]) / count) as f32;
    }
    each_image(sizes, dx.data, |first, dx| dispatch(InputGrad { pass, p: &p, q: &q, r: &r, first, dx }));
}

pub(super) fn eval_grad(
    op: &BatchNormEvalGrad,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let [dx, dweight] = outputs else { unreachable!("two outputs") };
    let pass = Backward {
        x: inputs[0].data,
        mean: inputs[1].data,
        dy: inputs[3].data,
        y: &[],
        activation: None,
        sizes,
    };
    let inverse = scales(op.eps, inputs[2].data, None, scratch);
    let mut sums = scratch.take(sizes.c);
    each_block(sizes, dweight.data, &mut sums, |channels, dweight, sum| {
        dispatch(GradSums { pass, channels: channels.clone(), dot: dweight, sum });
        dweight.iter_mut().zip(&inverse[channels]).for_each(|(d, i)| *d *= i);
    });
    let mut zero = scratch.take(sizes.c);
    zero.fill(0.0);
    let p = scales(op.eps, inputs[2].data, op.affine.then(|| inputs[4].data), scratch);
    each_image(sizes, dx.data, |first, dx| {
        dispatch(InputGrad { pass, p: &p, q: &zero, r: &zero, first, dx })
    });
}

/// `weight / sqrt(var + eps)` for each channel.
fn scales(eps: f64, var: &[f32], weight: Option<&[f32]>, scratch: &Scratch) -> Buffer {
    let mut scale = scratch.take(var.len());
    for (c, s) in scale.iter_mut().enumerate() {
        let weight = weight.map_or(1.0, |w| f64::from(w[c]));
        *s = (weight / (f64::from(var[c]) + eps).sqrt()) as f32;
    }
    scale
}

/// Calls `work` with ranges of channels and the parts of two outputs that belong to them, on all threads.
fn each_block(
    sizes: Sizes,
    a: &mut [f32],
    b: &mut [f32],
    work: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    let block = if sizes.pixels == 1 { BLOCK } else { 1 };
    let one = |(i, (a, b)): (usize, (&mut [f32], &mut [f32]))| work(i * block..i * block + a.len(), a, b);
    if sizes.c * sizes.count() <= CHUNK {
        a.chunks_mut(block).zip(b.chunks_mut(block)).enumerate().for_each(one);
    } else {
        a.par_chunks_mut(block).zip(b.par_chunks_mut(block)).enumerate().for_each(one);
    }
}

/// Calls `work` with the number of the first image and the part of the output that belongs to some images.
fn each_image(sizes: Sizes, out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync) {
    let image = (sizes.c * sizes.pixels).max(1);
    let images = (CHUNK / image).max(1);
    crate::parallel::for_each_chunk(out, images * image, |start, part| work(start / image, part));
}

/// The mean and the biased variance of some channels, in two passes.
struct Moments<'a> {
    x: &'a [f32],
    sizes: Sizes,
    channels: Range<usize>,
    mean: &'a mut [f32],
    var: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Moments { x, sizes, channels, mean, var } = self;
        let count = sizes.count() as f64;
        if sizes.pixels == 1 {
            let rows =
                |row: usize, at: usize, len: usize| S::from_short_slice(&x[row * sizes.c + at..][..len]);
            across::<S, 1>(
                sizes.n,
                channels.clone(),
                |row, at, len| [rows(row, at, len)],
                |at, [sum]| {
                    mean[at - channels.start] = (sum / count) as f32;
                },
            );
            let mean = &*mean;
            let square = |row: usize, at: usize, len: usize| {
                let d = rows(row, at, len) - S::from_short_slice(&mean[at - channels.start..][..len]);
                [d * d]
            };
            across::<S, 1>(sizes.n, channels.clone(), square, |at, [sum]| {
                var[at - channels.start] = (sum / count) as f32;
            });
            return;
        }
        for (i, c) in channels.enumerate() {
            let [sum] = along::<S, 1>(sizes, c, |at, len| [S::from_short_slice(&x[at..][..len])]);
            let m = sum / count;
            // The mean itself is rounded: what is left of it is taken out of the variance.
            let shift = S::splat(m as f32);
            let [square, rest] = along::<S, 2>(sizes, c, |at, len| {
                let mask = S::from_short_slice(&ONES[..len]);
                let d = (S::from_short_slice(&x[at..][..len]) - shift) * mask;
                [d * d, d]
            });
            mean[i] = m as f32;
            var[i] = (square / count - (rest / count) * (rest / count)).max(0.0) as f32;
        }
    }
}

/// Ones for as many lanes as a vector can have: a mask for the last vector of a row.
const ONES: [f32; 64] = [1.0; 64];

/// Sums over all pixels of a channel: `term(start, len)` gives `K` vectors of at most `LANES` terms, whose unused lanes
/// are 0.
#[inline(always)]
fn along<S: Simd, const K: usize>(sizes: Sizes, c: usize, term: impl Fn(usize, usize) -> [S; K]) -> [f64; K] {
    let mut total = [0.0; K];
    for n in 0..sizes.n {
        let row = (n * sizes.c + c) * sizes.pixels;
        let mut p = 0;
        while p < sizes.pixels {
            // A limited number of terms in single precision.
            let end = (p + ROWS * S::LANES).min(sizes.pixels);
            let mut sums = [[S::splat(0.0); K]; 2];
            while p + 2 * S::LANES <= end {
                let (a, b) = (term(row + p, S::LANES), term(row + p + S::LANES, S::LANES));
                for k in 0..K {
                    sums[0][k] = sums[0][k] + a[k];
                    sums[1][k] = sums[1][k] + b[k];
                }
                p += 2 * S::LANES;
            }
            while p < end {
                let len = S::LANES.min(end - p);
                let a = term(row + p, len);
                for k in 0..K {
                    sums[0][k] = sums[0][k] + a[k];
                }
                p += len;
            }
            for k in 0..K {
                total[k] += f64::from((sums[0][k] + sums[1][k]).sum());
            }
        }
    }
    total
}

/// Sums over all rows for channels side by side: `term(row, first channel, number of channels)` gives `K` vectors;
/// `done(channel, sums)` gets each channel's.
#[inline(always)]
fn across<S: Simd, const K: usize>(
    rows: usize,
    channels: Range<usize>,
    term: impl Fn(usize, usize, usize) -> [S; K],
    mut done: impl FnMut(usize, [f64; K]),
) {
    let mut at = channels.start;
    while at < channels.end {
        let len = S::LANES.min(channels.end - at);
        let mut total = [[0.0f64; 16]; K];
        let mut row = 0;
        while row < rows {
            let end = (row + ROWS).min(rows);
            let mut sums = [S::splat(0.0); K];
            while row < end {
                let a = term(row, at, len);
                for k in 0..K {
                    sums[k] = sums[k] + a[k];
                }
                row += 1;
            }
            for k in 0..K {
                let mut lanes = [0.0f32; 16];
                sums[k].to_slice(&mut lanes);
                total[k].iter_mut().zip(lanes).for_each(|(t, l)| *t += f64::from(l));
            }
        }
        for lane in 0..len {
            done(at + lane, std::array::from_fn(|k| total[k][lane]));
        }
        at += len;
    }
}

/// `y = activation((x - mean) · scale + bias)`.
fn normalize(
    x: &[f32],
    sizes: Sizes,
    mean: &[f32],
    scale: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
) {
    each_image(sizes, y, |first, y| {
        let x = &x[first * sizes.c * sizes.pixels..][..y.len()];
        match activation {
            None => dispatch(Normalize { x, sizes, mean, scale, bias, y, activation: None::<Activation> }),
            some => dispatch(Normalize { x, sizes, mean, scale, bias, y, activation: some }),
        }
    });
}

struct Normalize<'a> {
    x: &'a [f32],
    sizes: Sizes,
    mean: &'a [f32],
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    y: &'a mut [f32],
}

impl Kernel for Normalize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.activation {
            None => self.with::<S>(|z| z),
            Some(Activation::Relu) => self.with::<S>(|z| Activation::Relu.apply(z)),
            Some(Activation::Sigmoid) => self.with::<S>(|z| Activation::Sigmoid.apply(z)),
            Some(Activation::Tanh) => self.with::<S>(|z| Activation::Tanh.apply(z)),
        }
    }
}

impl Normalize<'_> {
    #[inline(always)]
    fn with<S: Simd>(self, activate: impl Fn(S) -> S) {
        let Normalize { x, sizes, mean, scale, bias, y, .. } = self;
        if sizes.pixels == 1 {
            for (y, x) in y.chunks_mut(sizes.c).zip(x.chunks(sizes.c)) {
                for at in (0..sizes.c).step_by(S::LANES) {
                    let end = (at + S::LANES).min(sizes.c);
                    let [x, mean, scale] = [x, mean, scale].map(|v| S::from_short_slice(&v[at..end]));
                    let bias = bias.map_or(S::splat(0.0), |b| S::from_short_slice(&b[at..end]));
                    activate((x - mean).mul_add(scale, bias)).to_short_slice(&mut y[at..end]);
                }
            }
            return;
        }
        for (i, (y, x)) in y.chunks_mut(sizes.pixels).zip(x.chunks(sizes.pixels)).enumerate() {
            let c = i % sizes.c;
            let (mean, scale) = (S::splat(mean[c]), S::splat(scale[c]));
            let bias = S::splat(bias.map_or(0.0, |b| b[c]));
            for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
                activate((S::from_short_slice(x) - mean).mul_add(scale, bias)).to_short_slice(y);
            }
        }
    }
}

/// What both passes of the gradient read.
#[derive(Clone, Copy)]
struct Backward<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    dy: &'a [f32],
    /// Empty without activation.
    y: &'a [f32],
    activation: Option<Activation>,
    sizes: Sizes,
}

impl Backward<'_> {
    /// The gradient before the activation, of `len` numbers from `at` on.
    #[inline(always)]
    fn dz<S: Simd>(&self, at: usize, len: usize) -> S {
        let dy = S::from_short_slice(&self.dy[at..][..len]);
        match self.activation {
            None => dy,
            Some(activation) => activation.grad_value(S::from_short_slice(&self.y[at..][..len]), dy),
        }
    }
}

/// `Σ dz (x - mean)` and `Σ dz` of some channels.
struct GradSums<'a> {
    pass: Backward<'a>,
    channels: Range<usize>,
    dot: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Kernel for GradSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let GradSums { pass, channels, dot, sum } = self;
        let sizes = pass.sizes;
        if sizes.pixels == 1 {
            let term = |row: usize, c: usize, len: usize| {
                let at = row * sizes.c + c;
                let dz = pass.dz::<S>(at, len);
                let d =
                    S::from_short_slice(&pass.x[at..][..len]) - S::from_short_slice(&pass.mean[c..][..len]);
                [dz * d, dz]
            };
            across::<S, 2>(sizes.n, channels.clone(), term, |c, sums| {
                dot[c - channels.start] = sums[0] as f32;
                sum[c - channels.start] = sums[1] as f32;
            });
            return;
        }
        for (i, c) in channels.enumerate() {
            let mean = S::splat(pass.mean[c]);
            let sums = along::<S, 2>(sizes, c, |at, len| {
                // Unused lanes of dz are 0, whatever x - mean is there.
                let dz = pass.dz::<S>(at, len);
                [dz * (S::from_short_slice(&pass.x[at..][..len]) - mean), dz]
            });
            dot[i] = sums[0] as f32;
            sum[i] = sums[1] as f32;
        }
    }
}

/// `dx = p (dz - q (x - mean) - r)` for some images from `first` on.
struct InputGrad<'a> {
    pass: Backward<'a>,
    p: &'a [f32],
    q: &'a [f32],
    r: &'a [f32],
    first: usize,
    dx: &'a mut [f32],
}

impl Kernel for InputGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let InputGrad { pass, p, q, r, first, dx } = self;
        let Sizes { c: channels, pixels, .. } = pass.sizes;
        let start = first * channels * pixels;
        if pixels == 1 {
            for (row, dx) in dx.chunks_mut(channels).enumerate() {
                for c in (0..channels).step_by(S::LANES) {
                    let end = (c + S::LANES).min(channels);
                    let at = start + row * channels + c;
                    let [p, q, r, mean] = [p, q, r, pass.mean].map(|v| S::from_short_slice(&v[c..end]));
                    let d = S::from_short_slice(&pass.x[at..][..end - c]) - mean;
                    (p * (-d).mul_add(q, pass.dz::<S>(at, end - c) - r)).to_short_slice(&mut dx[c..end]);
                }
            }
            return;
        }
        for (row, dx) in dx.chunks_mut(pixels).enumerate() {
            let c = row % channels;
            let [p, q, r, mean] = [p, q, r, pass.mean].map(|v| S::splat(v[c]));
            for (k, dx) in dx.chunks_mut(S::LANES).enumerate() {
                let at = start + row * pixels + k * S::LANES;
                let d = S::from_short_slice(&pass.x[at..][..dx.len()]) - mean;
                (p * (-d).mul_add(q, pass.dz::<S>(at, dx.len()) - r)).to_short_slice(dx);
            }
        }
    }
}
