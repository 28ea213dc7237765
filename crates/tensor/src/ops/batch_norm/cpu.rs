//! The kernels of the CPU: sums over each channel, then a pass that writes the result.
//!
//! Large planes are walked one by one, with vectors along the pixels:
//!
//! ```text
//!   n = 0   c = 0 [ v v v v .. ]   c = 1 [ v v v v .. ]   ..
//!   n = 1   c = 0 [ v v v v .. ]   ..
//! ```
//!
//! Where planes are smaller than two vectors, `[n, c, h, w]` is taken for a matrix of `n` rows and `c h w` columns;
//! vectors lie across the columns, and what belongs to a channel is repeated for each of its columns.
//!
//! All sums are in single precision for some terms only, then join a double. Terms are given by [`Terms`], not by
//! closures: those would not always be inlined, and on its own a closure has not the instruction set.

use rayon::prelude::*;

use super::{BatchNormEval, BatchNormEvalGrad, BatchNormTrain, BatchNormTrainGrad, Sizes};
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::parallel::{CHUNK, for_each_chunk};
use crate::simd::{Kernel, Simd, dispatch};
use crate::view::{View, ViewMut};

/// Planes from this many pixels on are walked one by one.
const PLANE: usize = 32;

/// The most columns of which one task makes the sums.
const COLUMNS: usize = 64;

/// How many terms each lane adds up in single precision.
const TERMS: usize = 32;

/// The activation as a number that types can hold.
const NONE: u8 = 0;
const RELU: u8 = 1;
const SIGMOID: u8 = 2;
const TANH: u8 = 3;

/// Calls a function that is generic over the activation.
macro_rules! with_activation {
    ($activation:expr, $function:ident($($argument:expr),*)) => {
        match $activation {
            None => $function::<NONE>($($argument),*),
            Some(Activation::Relu) => $function::<RELU>($($argument),*),
            Some(Activation::Sigmoid) => $function::<SIGMOID>($($argument),*),
            Some(Activation::Tanh) => $function::<TANH>($($argument),*),
        }
    };
}

#[inline(always)]
fn activate<const A: u8, S: Simd>(z: S) -> S {
    match A {
        RELU => Activation::Relu.apply(z),
        SIGMOID => Activation::Sigmoid.apply(z),
        TANH => Activation::Tanh.apply(z),
        _ => z,
    }
}

pub(super) fn train(
    op: &BatchNormTrain,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let (x, sizes) = (inputs[0].data, Sizes::of(inputs[0].shape));
    let [y, mean, var] = outputs else { unreachable!("three outputs") };
    each_block(sizes, mean.data, var.data, |first, mean, var| {
        dispatch(Moments { x, sizes, first, mean, var });
    });
    let [weight, bias] = [1, 2].map(|i| inputs.get(i).map(|v| v.data));
    let scale = scales(op.eps, var.data, weight, scratch);
    let channels = Channels { mean: mean.data, scale: &scale, bias };
    with_activation!(op.activation, normalize(x, sizes, &channels, y.data, scratch));
}

pub(super) fn eval(
    op: &BatchNormEval,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let [weight, bias] = [3, 4].map(|i| inputs.get(i).map(|v| v.data));
    let scale = scales(op.eps, inputs[2].data, weight, scratch);
    let channels = Channels { mean: inputs[1].data, scale: &scale, bias };
    with_activation!(op.activation, normalize(inputs[0].data, sizes, &channels, outputs[0].data, scratch));
}

pub(super) fn train_grad(
    op: &BatchNormTrainGrad,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let mean = inputs[1].data;
    let weight = op.affine.then(|| inputs[4].data);
    let [dx, dweight, dbias] = outputs else { unreachable!("three outputs") };
    let y: &[f32] = op.of.activation.map_or(&[], |_| inputs[inputs.len() - 1].data);
    let (x, dy) = (inputs[0].data, inputs[3].data);
    with_activation!(op.of.activation, grad_sums(x, dy, y, sizes, mean, dweight.data, dbias.data));
    // dx = p (dz - q (x - mean) - r), with these numbers for each channel. Where few images make a batch, almost
    // nothing is left of the difference: each of the numbers is rounded only once.
    let count = sizes.count() as f64;
    let [mut p, mut q, mut r] = [(); 3].map(|()| scratch.take(sizes.c));
    for c in 0..sizes.c {
        let inverse = 1.0 / (f64::from(inputs[2].data[c]) + op.of.eps).sqrt();
        let dot = f64::from(dweight.data[c]) * inverse;
        dweight.data[c] = dot as f32;
        p[c] = (inverse * weight.map_or(1.0, |w| f64::from(w[c]))) as f32;
        q[c] = (dot * inverse / count) as f32;
        r[c] = (f64::from(dbias.data[c]) / count) as f32;
    }
    let channels = [&*p, &*q, &*r, mean];
    with_activation!(op.of.activation, input_grad(x, dy, y, sizes, channels, dx.data, scratch));
}

pub(super) fn eval_grad(
    op: &BatchNormEvalGrad,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let [dx, dweight] = outputs else { unreachable!("two outputs") };
    let (x, mean, dz) = (inputs[0].data, inputs[1].data, inputs[3].data);
    let inverse = scales(op.eps, inputs[2].data, None, scratch);
    let mut sums = scratch.take(sizes.c);
    grad_sums::<NONE>(x, dz, &[], sizes, mean, dweight.data, &mut sums);
    dweight.data.iter_mut().zip(&*inverse).for_each(|(d, i)| *d *= i);
    let mut zero = scratch.take(sizes.c);
    zero.fill(0.0);
    let p = scales(op.eps, inputs[2].data, op.affine.then(|| inputs[4].data), scratch);
    input_grad::<NONE>(x, dz, &[], sizes, [&*p, &*zero, &*zero, mean], dx.data, scratch);
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

/// Calls `work` with the first of some channels and the parts of two outputs that belong to them, on all threads.
fn each_block(
    sizes: Sizes,
    a: &mut [f32],
    b: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let block = if sizes.pixels >= PLANE { 1 } else { COLUMNS / sizes.pixels.max(1) };
    let one = |(i, (a, b)): (usize, (&mut [f32], &mut [f32]))| work(i * block, a, b);
    if sizes.c * sizes.count() <= CHUNK {
        a.chunks_mut(block).zip(b.chunks_mut(block)).enumerate().for_each(one);
    } else {
        a.par_chunks_mut(block).zip(b.par_chunks_mut(block)).enumerate().for_each(one);
    }
}

/// Calls `work` with the first of some images and the part of the output that belongs to them, on all threads.
fn each_image(sizes: Sizes, out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync) {
    let image = (sizes.c * sizes.pixels).max(1);
    let images = (CHUNK / image).max(1);
    for_each_chunk(out, images * image, |start, part| work(start, part));
}

/// `K` terms to add up for each number.
trait Terms<const K: usize> {
    /// Those of the `len` numbers from `at` on; `shift` is what belongs to the numbers' channels. Lanes from `len`
    /// on are 0.
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; K];
}

/// `x`.
struct Plain<'a>(&'a [f32]);

impl Terms<1> for Plain<'_> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, _shift: S) -> [S; 1] {
        [S::from_short_slice(&self.0[at..at + len])]
    }
}

/// `(x - shift)²` and `x - shift`.
struct Deviation<'a>(&'a [f32]);

impl Terms<2> for Deviation<'_> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; 2] {
        let mut d = S::from_short_slice(&self.0[at..at + len]) - shift;
        if len < S::LANES {
            d = d * S::from_short_slice(&[1.0; 16][..len]);
        }
        [d * d, d]
    }
}

/// `dz (x - shift)` and `dz`, the gradient before the activation `A`.
#[derive(Clone, Copy)]
struct Grads<'a, const A: u8> {
    x: &'a [f32],
    dy: &'a [f32],
    /// Empty without activation.
    y: &'a [f32],
}

impl<const A: u8> Grads<'_, A> {
    #[inline(always)]
    fn dz<S: Simd>(&self, at: usize, len: usize) -> S {
        let dy = S::from_short_slice(&self.dy[at..at + len]);
        if A == NONE {
            return dy;
        }
        let y = S::from_short_slice(&self.y[at..at + len]);
        match A {
            RELU => Activation::Relu.grad_value(y, dy),
            SIGMOID => Activation::Sigmoid.grad_value(y, dy),
            _ => Activation::Tanh.grad_value(y, dy),
        }
    }
}

impl<const A: u8> Terms<2> for Grads<'_, A> {
    #[inline(always)]
    fn terms<S: Simd>(&self, at: usize, len: usize, shift: S) -> [S; 2] {
        let dz = self.dz::<S>(at, len);
        [dz * (S::from_short_slice(&self.x[at..at + len]) - shift), dz]
    }
}

/// The sums over the `len` numbers from `at` on, in four interleaved parts.
#[inline(always)]
fn line<S: Simd, const K: usize, T: Terms<K>>(terms: &T, at: usize, len: usize, shift: S) -> [f64; K] {
    let mut total = [0.0; K];
    let end = at + len;
    let mut at = at;
    while at < end {
        let stop = end.min(at + 4 * TERMS * S::LANES);
        let mut sums = [[S::splat(0.0); K]; 4];
        while at + 4 * S::LANES <= stop {
            for sum in &mut sums {
                let a = terms.terms(at, S::LANES, shift);
                for k in 0..K {
                    sum[k] = sum[k] + a[k];
                }
                at += S::LANES;
            }
        }
        while at < stop {
            let len = S::LANES.min(stop - at);
            let a = terms.terms(at, len, shift);
            for k in 0..K {
                sums[0][k] = sums[0][k] + a[k];
            }
            at += len;
        }
        for k in 0..K {
            total[k] += f64::from(((sums[0][k] + sums[1][k]) + (sums[2][k] + sums[3][k])).sum());
        }
    }
    total
}

/// Some columns of a matrix of `rows` rows.
#[derive(Clone, Copy)]
struct Columns {
    rows: usize,
    width: usize,
    first: usize,
    /// At most [`COLUMNS`].
    count: usize,
}

/// The sums of each column.
#[inline(always)]
fn columns<S: Simd, const K: usize, T: Terms<K>>(
    terms: &T,
    c: Columns,
    shift: &[f32; COLUMNS],
) -> [[f64; COLUMNS]; K] {
    let mut total = [[0.0; COLUMNS]; K];
    let mut at = 0;
    while at + 4 * S::LANES <= c.count {
        vectors::<S, K, 4, T>(terms, c, at, S::LANES, shift, &mut total);
        at += 4 * S::LANES;
    }
    while at < c.count {
        let len = S::LANES.min(c.count - at);
        vectors::<S, K, 1, T>(terms, c, at, len, shift, &mut total);
        at += len;
    }
    total
}

/// The sums of `V` vectors of columns, of `len` columns each, from the column `at` of those that `c` names.
#[inline(always)]
fn vectors<S: Simd, const K: usize, const V: usize, T: Terms<K>>(
    terms: &T,
    c: Columns,
    at: usize,
    len: usize,
    shift: &[f32; COLUMNS],
    total: &mut [[f64; COLUMNS]; K],
) {
    let mut shifts = [S::splat(0.0); V];
    for (v, s) in shifts.iter_mut().enumerate() {
        *s = S::from_short_slice(&shift[at + v * S::LANES..][..len]);
    }
    let mut row = 0;
    while row < c.rows {
        let stop = c.rows.min(row + TERMS);
        let mut sums = [[S::splat(0.0); K]; V];
        while row < stop {
            let start = row * c.width + c.first + at;
            for v in 0..V {
                let a = terms.terms(start + v * S::LANES, len, shifts[v]);
                for k in 0..K {
                    sums[v][k] = sums[v][k] + a[k];
                }
            }
            row += 1;
        }
        for (v, sums) in sums.iter().enumerate() {
            for (k, sum) in sums.iter().enumerate() {
                let mut lanes = [0.0; 16];
                sum.to_slice(&mut lanes);
                for (total, lane) in total[k][at + v * S::LANES..][..len].iter_mut().zip(lanes) {
                    *total += f64::from(lane);
                }
            }
        }
    }
}

/// The mean and the biased variance of some channels, from `first` on.
struct Moments<'a> {
    x: &'a [f32],
    sizes: Sizes,
    first: usize,
    mean: &'a mut [f32],
    var: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Moments { x, sizes, first, mean, var } = self;
        let Sizes { n, c: channels, pixels } = sizes;
        let count = sizes.count() as f64;
        if pixels < PLANE {
            let c = Columns {
                rows: n,
                width: channels * pixels,
                first: first * pixels,
                count: mean.len() * pixels,
            };
            let [sums] = columns::<S, 1, _>(&Plain(x), c, &[0.0; COLUMNS]);
            let mut shift = [0.0; COLUMNS];
            for (i, mean) in mean.iter_mut().enumerate() {
                let of = i * pixels..(i + 1) * pixels;
                *mean = (sums[of.clone()].iter().sum::<f64>() / count) as f32;
                shift[of].fill(*mean);
            }
            // The mean is rounded: what is left of it is taken out of the variance.
            let [squares, rests] = columns::<S, 2, _>(&Deviation(x), c, &shift);
            for (i, var) in var.iter_mut().enumerate() {
                let [square, rest] =
                    [&squares, &rests].map(|s| s[i * pixels..(i + 1) * pixels].iter().sum::<f64>() / count);
                *var = (square - rest * rest).max(0.0) as f32;
            }
            return;
        }
        // Plane by plane, which stays in the cache for its own mean and squares. These join those of the planes before
        // as T. Chan, G. Golub and R. LeVeque have it ("Updating formulae", 1979).
        let size = pixels as f64;
        for (i, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
            let (mut center, mut squares) = (0.0, 0.0);
            for image in 0..n {
                let at = (image * channels + first + i) * pixels;
                let [sum] = line::<S, 1, _>(&Plain(x), at, pixels, S::splat(0.0));
                let shift = (sum / size) as f32;
                let [square, rest] = line::<S, 2, _>(&Deviation(x), at, pixels, S::splat(shift));
                let step = f64::from(shift) + rest / size - center;
                let seen = image as f64;
                center += step / (seen + 1.0);
                squares += square - rest * rest / size + step * step * size * (seen / (seen + 1.0));
            }
            // No images have no mean.
            *mean = if n == 0 { f32::NAN } else { center as f32 };
            *var = (squares / count) as f32;
        }
    }
}

/// `dot = Σ dz (x - mean)` and `sum = Σ dz` for each channel.
fn grad_sums<const A: u8>(
    x: &[f32],
    dy: &[f32],
    y: &[f32],
    sizes: Sizes,
    mean: &[f32],
    dot: &mut [f32],
    sum: &mut [f32],
) {
    let grads = Grads::<A> { x, dy, y };
    each_block(sizes, dot, sum, |first, dot, sum| {
        dispatch(GradSums { grads, sizes, mean: &mean[first..first + dot.len()], first, dot, sum });
    });
}

struct GradSums<'a, const A: u8> {
    grads: Grads<'a, A>,
    sizes: Sizes,
    mean: &'a [f32],
    first: usize,
    dot: &'a mut [f32],
    sum: &'a mut [f32],
}

impl<const A: u8> Kernel for GradSums<'_, A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let GradSums { grads, sizes, mean, first, dot, sum } = self;
        let Sizes { n, c: channels, pixels } = sizes;
        if pixels < PLANE {
            let c = Columns {
                rows: n,
                width: channels * pixels,
                first: first * pixels,
                count: dot.len() * pixels,
            };
            let mut shift = [0.0; COLUMNS];
            for (i, mean) in mean.iter().enumerate() {
                shift[i * pixels..(i + 1) * pixels].fill(*mean);
            }
            let [dots, sums] = columns::<S, 2, _>(&grads, c, &shift);
            for (i, (dot, sum)) in dot.iter_mut().zip(sum).enumerate() {
                let of = i * pixels..(i + 1) * pixels;
                *dot = dots[of.clone()].iter().sum::<f64>() as f32;
                *sum = sums[of].iter().sum::<f64>() as f32;
            }
            return;
        }
        for (i, (dot, sum)) in dot.iter_mut().zip(sum).enumerate() {
            let mut total = [0.0; 2];
            for image in 0..n {
                let at = (image * channels + first + i) * pixels;
                let [a, b] = line::<S, 2, _>(&grads, at, pixels, S::splat(mean[i]));
                total = [total[0] + a, total[1] + b];
            }
            [*dot, *sum] = total.map(|t| t as f32);
        }
    }
}

/// What a channel's numbers are normalised with.
struct Channels<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
}

/// `y = activation((x - mean) · scale + bias)`.
fn normalize<const A: u8>(
    x: &[f32],
    sizes: Sizes,
    channels: &Channels<'_>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    let mut zero = scratch.take(sizes.c);
    zero.fill(0.0);
    let channels = [channels.mean, channels.scale, channels.bias.unwrap_or(&zero)];
    write(&Affine::<A>(x), sizes, channels, y, scratch);
}

/// `dx = p (dz - q (x - mean) - r)`.
fn input_grad<const A: u8>(
    x: &[f32],
    dy: &[f32],
    y: &[f32],
    sizes: Sizes,
    channels: [&[f32]; 4],
    dx: &mut [f32],
    scratch: &Scratch,
) {
    write(&Grads::<A> { x, dy, y }, sizes, channels, dx, scratch);
}

/// A result at each place, from `K` numbers of its channel.
trait Rule<const K: usize>: Sync {
    /// Those of the `len` numbers from `at` on.
    fn value<S: Simd>(&self, at: usize, len: usize, channel: [S; K]) -> S;
}

struct Affine<'a, const A: u8>(&'a [f32]);

impl<const A: u8> Rule<3> for Affine<'_, A> {
    #[inline(always)]
    fn value<S: Simd>(&self, at: usize, len: usize, [mean, scale, bias]: [S; 3]) -> S {
        let x = S::from_short_slice(&self.0[at..at + len]);
        activate::<A, S>((x - mean).mul_add(scale, bias))
    }
}

impl<const A: u8> Rule<4> for Grads<'_, A> {
    #[inline(always)]
    fn value<S: Simd>(&self, at: usize, len: usize, [p, q, r, mean]: [S; 4]) -> S {
        let d = S::from_short_slice(&self.x[at..at + len]) - mean;
        p * (-d).mul_add(q, self.dz::<S>(at, len) - r)
    }
}

/// Writes a rule's result, an image at a time.
fn write<const K: usize, R: Rule<K>>(
    rule: &R,
    sizes: Sizes,
    channels: [&[f32]; K],
    out: &mut [f32],
    scratch: &Scratch,
) {
    let Sizes { c, pixels, .. } = sizes;
    if pixels >= PLANE || pixels <= 1 {
        each_image(sizes, out, |start, out| dispatch(Write { rule, pixels, channels, start, out }));
        return;
    }
    let repeated = channels.map(|values| {
        let mut columns = scratch.take(c * pixels);
        for (to, value) in columns.chunks_exact_mut(pixels).zip(values) {
            to.fill(*value);
        }
        columns
    });
    let channels = std::array::from_fn(|k| &*repeated[k]);
    each_image(sizes, out, |start, out| dispatch(Write { rule, pixels: 1, channels, start, out }));
}

struct Write<'a, R, const K: usize> {
    rule: &'a R,
    pixels: usize,
    channels: [&'a [f32]; K],
    /// The position of `out[0]` in all of the result, where an image begins.
    start: usize,
    out: &'a mut [f32],
}

impl<R: Rule<K>, const K: usize> Kernel for Write<'_, R, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Write { rule, pixels, channels, start, out } = self;
        let count = channels[0].len().max(1);
        let mut at = start;
        if pixels == 1 {
            for row in out.chunks_mut(count) {
                for (v, out) in row.chunks_mut(S::LANES).enumerate() {
                    let mut values = [S::splat(0.0); K];
                    for k in 0..K {
                        values[k] = S::from_short_slice(&channels[k][v * S::LANES..][..out.len()]);
                    }
                    rule.value(at, out.len(), values).to_short_slice(out);
                    at += out.len();
                }
            }
            return;
        }
        for (i, plane) in out.chunks_mut(pixels.max(1)).enumerate() {
            let mut values = [S::splat(0.0); K];
            for k in 0..K {
                values[k] = S::splat(channels[k][i % count]);
            }
            let mut whole = plane.chunks_exact_mut(S::LANES);
            for out in &mut whole {
                rule.value(at, S::LANES, values).to_slice(out);
                at += S::LANES;
            }
            let rest = whole.into_remainder();
            rule.value(at, rest.len(), values).to_short_slice(rest);
            at += rest.len();
        }
    }
}
