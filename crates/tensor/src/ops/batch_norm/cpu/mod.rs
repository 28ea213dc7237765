//! CPU kernels: sums over each channel, then a pass that writes the result.
//!
//! Large channel planes are processed one by one, vectorized over pixels:
//!
//! ```text
//!   n = 0   c = 0 [ v v v v .. ]   c = 1 [ v v v v .. ]   ..
//!   n = 1   c = 0 [ v v v v .. ]   ..
//! ```
//!
//! If planes are smaller than two vectors, `[n, c, h, w]` is processed as a matrix of `n` rows and `c h w` columns: kernels are
//! vectorized over columns, and the numbers of a channel are repeated for each of its columns.

mod blocks;
mod sums;

use rayon::prelude::*;

use self::blocks::{NONE, PLANE, each_block};
use super::sizes::Sizes;
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, Shared, for_each_chunk, min_len};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::for_each_activation;
use crate::memory::{Buffer, Scratch};
use crate::ops::Activation;
use crate::ops::channel_blocks::{BlockLayout, BlockMap, for_each_block};
use sums::{GradSums, Grads, Moments, grad_sums};

/// Calls a function that has the activation as a const parameter.
macro_rules! with_activation {
    ($activation:expr, $function:ident $arguments:tt) => {
        for_each_activation! { dispatch ($activation, $function, $arguments) }
    };
}

/// Calls a function with the number of the activation as its const parameter.
macro_rules! dispatch {
    (($activation:expr, $function:ident, $arguments:tt) of_output { $(
        $(#[$doc:meta])* $name:ident $grad:ident $op:literal $grad_op:literal $layer:tt
            ($c:ident, $x:ident) = $value:expr;
            ($gc:ident, $y:ident, $dy:ident) = $grad_value:expr;
    )* } of_input $rest:tt) => {
        match $activation {
            None => $function::<NONE> $arguments,
            $(Some(Activation::$name) => $function::<{ Activation::number(Some(Activation::$name)) }> $arguments,)*
            #[allow(unreachable_patterns, reason = "there may be no others")]
            Some(_) => unreachable!("infer has checked that the gradient is computed from the output"),
        }
    };
}

#[inline(always)]
fn activate<const A: u8, S: Simd>(z: S) -> S {
    match Activation::from_number(A) {
        Some(activation) => activation.apply(z),
        None => z,
    }
}

pub(super) fn train(
    eps: f64,
    activation: Option<Activation>,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let (x, sizes) = (inputs[0].data, Sizes::of(inputs[0].shape));
    let [y, mean, var] = outputs else { unreachable!("three outputs") };
    if sizes.pixels >= PLANE {
        let [weight, bias] = [1, 2].map(|i| inputs.get(i).map(|v| v.data));
        let y = Shared::new(y.data);
        with_activation!(activation, train_planes(eps, x, sizes, [weight, bias], [mean.data, var.data], y));
        return;
    }
    each_block(sizes, mean.data, var.data, |first, mean, var| {
        dispatch(Moments { x, sizes, first, mean, var });
    });
    let [weight, bias] = [1, 2].map(|i| inputs.get(i).map(|v| v.data));
    let scale = scales(eps, var.data, weight, scratch);
    let channels = Channels { mean: mean.data, scale: &scale, bias };
    with_activation!(activation, normalize(x, sizes, &channels, y.data, scratch));
}

/// Processes one channel at a time, so that its elements are still in the cache when they are normalized.
fn train_planes<const A: u8>(
    eps: f64,
    x: &[f32],
    sizes: Sizes,
    [weight, bias]: [Option<&[f32]>; 2],
    [mean, var]: [&mut [f32]; 2],
    y: Shared<'_>,
) {
    each_block(sizes, mean, var, |channel, mean, var| {
        dispatch(Moments { x, sizes, first: channel, mean, var });
        let weight = weight.map_or(1.0, |w| w[channel]);
        let values = [mean[0], scale(eps, var[0], weight), bias.map_or(0.0, |b| b[channel])];
        dispatch(Planes { map: &Affine::<A>(x), sizes, channel, values, out: y });
    });
}

pub(super) fn eval(
    eps: f64,
    activation: Option<Activation>,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let [weight, bias] = [3, 4].map(|i| inputs.get(i).map(|v| v.data));
    let scale = scales(eps, inputs[2].data, weight, scratch);
    let channels = Channels { mean: inputs[1].data, scale: &scale, bias };
    let (x, y, image) = (&inputs[0], &mut outputs[0], inputs[0].shape.row());
    if [x.batch_stride, y.batch_stride] == [image; 2] || y.data.is_empty() {
        with_activation!(activation, normalize(x.data, sizes, &channels, y.data, scratch));
        return;
    }
    let (one, from) = (Sizes { n: 1, ..sizes }, x.data.par_chunks(x.batch_stride));
    y.data.par_chunks_mut(y.batch_stride).zip(from).with_min_len(min_len()).for_each(|(y, x)| {
        let (x, y) = (&x[..image], &mut y[..image]);
        with_activation!(activation, normalize(x, one, &channels, y, scratch));
    });
}

/// As [`eval`], in blocks of channels.
pub(super) fn eval_in_blocks(
    eps: f64,
    activation: Option<Activation>,
    blocks: &BlockLayout,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let [weight, bias] = [3, 4].map(|i| inputs.get(i).map(|v| v.data));
    let scale = scales(eps, inputs[2].data, weight, scratch);
    let channels = Channels { mean: inputs[1].data, scale: &scale, bias };
    for_each_block(&Blockwise { channels, activation }, blocks, &inputs[0], &mut outputs[0]);
}

struct Blockwise<'a> {
    channels: Channels<'a>,
    activation: Option<Activation>,
}

impl BlockMap for Blockwise<'_> {
    #[inline(always)]
    fn block<S: Simd>(&self, channels: std::ops::Range<usize>, x: &[f32], y: &mut [f32]) {
        let Channels { mean, scale, bias } = self.channels;
        const TOGETHER: usize = 8;
        let [mean, scale] = [mean, scale].map(|values| &values[channels.clone()]);
        let [mean, scale] = [S::from_short_slice(mean), S::from_short_slice(scale)];
        let bias = match bias {
            Some(bias) => S::from_short_slice(&bias[channels]),
            None => S::splat(0.0),
        };
        let mut some = [S::splat(0.0); TOGETHER];
        for (x, y) in x.chunks(TOGETHER * S::LANES).zip(y.chunks_mut(TOGETHER * S::LANES)) {
            let some = &mut some[..x.len() / S::LANES];
            for (x, value) in x.chunks_exact(S::LANES).zip(&mut *some) {
                *value = (S::from_slice(x) - mean).mul_add(scale, bias);
            }
            if let Some(activation) = self.activation {
                activation.apply_each(some);
            }
            for (value, y) in some.iter().zip(y.chunks_exact_mut(S::LANES)) {
                value.to_slice(y);
            }
        }
    }
}

pub(super) fn train_grad(
    eps: f64,
    activation: Option<Activation>,
    affine: bool,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let mean = inputs[1].data;
    let weight = affine.then(|| inputs[4].data);
    let [dx, dweight, dbias] = outputs else { unreachable!("three outputs") };
    let y: &[f32] = activation.map_or(&[], |_| inputs[inputs.len() - 1].data);
    let (x, dy) = (inputs[0].data, inputs[3].data);
    let of = ChannelGrad { eps, count: sizes.count() as f64, mean, var: inputs[2].data, weight };
    if sizes.pixels >= PLANE {
        let dx = Shared::new(dx.data);
        with_activation!(activation, train_grad_planes(x, dy, y, sizes, &of, [dweight.data, dbias.data], dx));
        return;
    }
    with_activation!(activation, grad_sums(x, dy, y, sizes, mean, dweight.data, dbias.data));
    let [mut p, mut q, mut r] = [(); 3].map(|()| scratch.take(sizes.c));
    for c in 0..sizes.c {
        [p[c], q[c], r[c], _] = of.numbers(c, &mut dweight.data[c], dbias.data[c]);
    }
    let channels = [&*p, &*q, &*r, mean];
    with_activation!(activation, input_grad(x, dy, y, sizes, channels, dx.data, scratch));
}

/// Parameters of the gradient of a channel.
struct ChannelGrad<'a> {
    eps: f64,
    count: f64,
    mean: &'a [f32],
    var: &'a [f32],
    weight: Option<&'a [f32]>,
}

impl ChannelGrad<'_> {
    /// Returns `p`, `q`, `r` and the mean, for `dx = p (dz - q (x - mean) - r)`. Replaces `dot`, `Σ dz (x - mean)`, by the gradient
    /// of the weight. For small batches the difference nearly cancels, so each number is rounded only once.
    fn numbers(&self, c: usize, dot: &mut f32, sum: f32) -> [f32; 4] {
        let inverse = 1.0 / (f64::from(self.var[c]) + self.eps).sqrt();
        let dweight = f64::from(*dot) * inverse;
        *dot = dweight as f32;
        [
            (inverse * self.weight.map_or(1.0, |w| f64::from(w[c]))) as f32,
            (dweight * inverse / self.count) as f32,
            (f64::from(sum) / self.count) as f32,
            self.mean[c],
        ]
    }
}

/// As [`train_planes`].
fn train_grad_planes<const A: u8>(
    x: &[f32],
    dy: &[f32],
    y: &[f32],
    sizes: Sizes,
    of: &ChannelGrad<'_>,
    [dweight, dbias]: [&mut [f32]; 2],
    dx: Shared<'_>,
) {
    let grads = Grads::<A> { x, dy, y };
    each_block(sizes, dweight, dbias, |channel, dot, sum| {
        let mean = &of.mean[channel..=channel];
        dispatch(GradSums { grads, sizes, mean, first: channel, dot, sum });
        let values = of.numbers(channel, &mut dot[0], sum[0]);
        dispatch(Planes { map: &grads, sizes, channel, values, out: dx });
    });
}

pub(super) fn eval_grad(
    eps: f64,
    affine: bool,
    inputs: &[View<'_, f32>],
    outputs: &mut [ViewMut<'_, f32>],
    scratch: &Scratch,
) {
    let sizes = Sizes::of(inputs[0].shape);
    let [dx, dweight] = outputs else { unreachable!("two outputs") };
    let (x, mean, dz) = (inputs[0].data, inputs[1].data, inputs[3].data);
    let inverse = scales(eps, inputs[2].data, None, scratch);
    let mut sums = scratch.take(sizes.c);
    grad_sums::<NONE>(x, dz, &[], sizes, mean, dweight.data, &mut sums);
    dweight.data.iter_mut().zip(&*inverse).for_each(|(d, i)| *d *= i);
    let mut zero = scratch.take(sizes.c);
    zero.fill(0.0);
    let p = scales(eps, inputs[2].data, affine.then(|| inputs[4].data), scratch);
    input_grad::<NONE>(x, dz, &[], sizes, [&*p, &*zero, &*zero, mean], dx.data, scratch);
}

/// Computes `weight / sqrt(var + eps)`; no number if the variance is beyond single precision, as the results then are.
fn scale(eps: f64, var: f32, weight: f32) -> f32 {
    if var == f32::INFINITY {
        return f32::NAN;
    }
    (f64::from(weight) / (f64::from(var) + eps).sqrt()) as f32
}

/// Computes [`scale`] for each channel.
fn scales(eps: f64, var: &[f32], weight: Option<&[f32]>, scratch: &Scratch) -> Buffer {
    let mut scale = scratch.take(var.len());
    for (c, s) in scale.iter_mut().enumerate() {
        *s = self::scale(eps, var[c], weight.map_or(1.0, |w| w[c]));
    }
    scale
}

/// Calls `work` for blocks of images, with the position of the block and its part of the output, on all threads.
fn each_image(sizes: Sizes, out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync) {
    let image = (sizes.c * sizes.pixels).max(1);
    let images = (CHUNK / image).max(1);
    for_each_chunk(out, images * image, |start, part| work(start, part));
}

/// Parameters of each channel.
struct Channels<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
}

/// Computes `y = activation((x - mean) · scale + bias)`.
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

/// Computes `dx = p (dz - q (x - mean) - r)`.
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

/// An elementwise map with `K` parameters for each channel.
trait ChannelMap<const K: usize>: Sync {
    /// Computes the results of `len` elements from `at` on.
    fn value<S: Simd>(&self, at: usize, len: usize, channel: [S; K]) -> S;
}

struct Affine<'a, const A: u8>(&'a [f32]);

impl<const A: u8> ChannelMap<3> for Affine<'_, A> {
    #[inline(always)]
    fn value<S: Simd>(&self, at: usize, len: usize, [mean, scale, bias]: [S; 3]) -> S {
        let x = S::from_short_slice(&self.0[at..at + len]);
        activate::<A, S>((x - mean).mul_add(scale, bias))
    }
}

impl<const A: u8> ChannelMap<4> for Grads<'_, A> {
    #[inline(always)]
    fn value<S: Simd>(&self, at: usize, len: usize, [p, q, r, mean]: [S; 4]) -> S {
        let d = S::from_short_slice(&self.x[at..at + len]) - mean;
        p * (-d).mul_add(q, self.dz::<S>(at, len) - r)
    }
}

/// Writes the results of a map, in blocks of images.
fn write<const K: usize, R: ChannelMap<K>>(
    map: &R,
    sizes: Sizes,
    channels: [&[f32]; K],
    out: &mut [f32],
    scratch: &Scratch,
) {
    let Sizes { c, pixels, .. } = sizes;
    if pixels >= PLANE || pixels <= 1 {
        each_image(sizes, out, |start, out| dispatch(Write { map, pixels, channels, start, out }));
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
    each_image(sizes, out, |start, out| dispatch(Write { map, pixels: 1, channels, start, out }));
}

/// Writes the results of a map for all planes of one channel.
struct Planes<'a, R, const K: usize> {
    map: &'a R,
    sizes: Sizes,
    channel: usize,
    values: [f32; K],
    /// The whole output, of which the planes of this channel are written.
    out: Shared<'a>,
}

impl<R: ChannelMap<K>, const K: usize> Kernel for Planes<'_, R, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Planes { map, sizes, channel, values: numbers, out } = self;
        let mut values = [S::splat(0.0); K];
        for k in 0..K {
            values[k] = S::splat(numbers[k]);
        }
        for image in 0..sizes.n {
            let start = (image * sizes.c + channel) * sizes.pixels;
            // SAFETY: a channel plane of the output, which only this task accesses.
            let plane = unsafe { out.slice(start, sizes.pixels) };
            let mut at = start;
            let mut whole = plane.chunks_exact_mut(S::LANES);
            for out in &mut whole {
                map.value(at, S::LANES, values).to_slice(out);
                at += S::LANES;
            }
            let rest = whole.into_remainder();
            map.value(at, rest.len(), values).to_short_slice(rest);
        }
    }
}

struct Write<'a, R, const K: usize> {
    map: &'a R,
    pixels: usize,
    channels: [&'a [f32]; K],
    /// Position of `out[0]` in the output: the start of an image.
    start: usize,
    out: &'a mut [f32],
}

impl<R: ChannelMap<K>, const K: usize> Kernel for Write<'_, R, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Write { map, pixels, channels, start, out } = self;
        let count = channels[0].len().max(1);
        let mut at = start;
        if pixels == 1 {
            for row in out.chunks_mut(count) {
                for (v, out) in row.chunks_mut(S::LANES).enumerate() {
                    let mut values = [S::splat(0.0); K];
                    for k in 0..K {
                        values[k] = S::from_short_slice(&channels[k][v * S::LANES..][..out.len()]);
                    }
                    map.value(at, out.len(), values).to_short_slice(out);
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
                map.value(at, S::LANES, values).to_slice(out);
                at += S::LANES;
            }
            let rest = whole.into_remainder();
            map.value(at, rest.len(), values).to_short_slice(rest);
            at += rest.len();
        }
    }
}
