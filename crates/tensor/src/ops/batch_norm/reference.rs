//! Reference implementation.

use super::sizes::Sizes;
use crate::core::view::{View, ViewMut};
use crate::ops::Activation;

/// Returns the positions of the elements of a channel.
fn positions(sizes: Sizes, channel: usize) -> impl Iterator<Item = usize> + Clone {
    (0..sizes.n).flat_map(move |i| (0..sizes.pixels).map(move |p| (i * sizes.c + channel) * sizes.pixels + p))
}

fn activate(activation: Option<Activation>, z: f64) -> f64 {
    activation.map_or(z, |a| a.apply(z))
}

pub(super) fn train(
    eps: f64,
    activation: Option<Activation>,
    inputs: &[View<'_, f64>],
    outputs: &mut [ViewMut<'_, f64>],
) {
    let (x, sizes) = (inputs[0].data, Sizes::of(inputs[0].shape));
    for c in 0..sizes.c {
        let count = sizes.count() as f64;
        let mean = positions(sizes, c).map(|i| x[i]).sum::<f64>() / count;
        let var = positions(sizes, c).map(|i| (x[i] - mean) * (x[i] - mean)).sum::<f64>() / count;
        outputs[1].data[c] = mean;
        outputs[2].data[c] = var;
        let (weight, bias) =
            if inputs.len() == 3 { (inputs[1].data[c], inputs[2].data[c]) } else { (1.0, 0.0) };
        for i in positions(sizes, c) {
            let z = (x[i] - mean) / (var + eps).sqrt() * weight + bias;
            outputs[0].data[i] = activate(activation, z);
        }
    }
}

pub(super) fn train_grad(
    eps: f64,
    activation: Option<Activation>,
    affine: bool,
    inputs: &[View<'_, f64>],
    outputs: &mut [ViewMut<'_, f64>],
) {
    let (x, sizes) = (inputs[0].data, Sizes::of(inputs[0].shape));
    let dz = |i: usize| match activation {
        Some(a) => a.grad_value(inputs[inputs.len() - 1].data[i], inputs[3].data[i]),
        None => inputs[3].data[i],
    };
    for c in 0..sizes.c {
        let count = sizes.count() as f64;
        let deviation = (inputs[2].data[c] + eps).sqrt();
        let normal = |i: usize| (x[i] - inputs[1].data[c]) / deviation;
        let sum: f64 = positions(sizes, c).map(dz).sum();
        let dot: f64 = positions(sizes, c).map(|i| dz(i) * normal(i)).sum();
        let weight = if affine { inputs[4].data[c] } else { 1.0 };
        outputs[1].data[c] = dot;
        outputs[2].data[c] = sum;
        for i in positions(sizes, c) {
            outputs[0].data[i] = weight / deviation * (dz(i) - sum / count - normal(i) * dot / count);
        }
    }
}

pub(super) fn eval(
    eps: f64,
    activation: Option<Activation>,
    inputs: &[View<'_, f64>],
    outputs: &mut [ViewMut<'_, f64>],
) {
    let sizes = Sizes::of(inputs[0].shape);
    for c in 0..sizes.c {
        let (mean, var) = (inputs[1].data[c], inputs[2].data[c]);
        let (weight, bias) =
            if inputs.len() == 5 { (inputs[3].data[c], inputs[4].data[c]) } else { (1.0, 0.0) };
        for i in positions(sizes, c) {
            let z = (inputs[0].data[i] - mean) / (var + eps).sqrt() * weight + bias;
            outputs[0].data[i] = activate(activation, z);
        }
    }
}

pub(super) fn eval_grad(eps: f64, affine: bool, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
    let sizes = Sizes::of(inputs[0].shape);
    for c in 0..sizes.c {
        let deviation = (inputs[2].data[c] + eps).sqrt();
        let weight = if affine { inputs[4].data[c] } else { 1.0 };
        outputs[1].data[c] = positions(sizes, c)
            .map(|i| inputs[3].data[i] * (inputs[0].data[i] - inputs[1].data[c]) / deviation)
            .sum();
        for i in positions(sizes, c) {
            outputs[0].data[i] = inputs[3].data[i] * weight / deviation;
        }
    }
}
