//! Identities that the notes explain, checked numerically.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Conv2d, LayerSpec, state};
use neocog_layers::{Child, Concat, Context, Residual};
use neocog_tensor::ops;
use neocog_tensor::{Device, Shape, Tensor};
use neocog_tests::devices;

fn random(shape: impl Into<Shape>, seed: u64, device: &Device) -> Tensor {
    let shape = shape.into();
    let mut random = Random::new(seed);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    Tensor::from_f32(shape, &values, device).unwrap()
}

fn same(a: &[f64], b: &[f64], device: &Device) {
    let allowed = if *device == Device::Reference { 1e-13 } else { 1e-5 };
    assert_eq!(a.len(), b.len());
    assert!(a.iter().any(|v| v.abs() > 1e-3), "not all values are zero");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= allowed * a.abs().max(1.0), "{a} {b}");
    }
}

/// Transposes `[n, c, h, w]` to `[n · h · w, c]`, a row for each pixel.
fn pixels(values: &[f64], [n, c, h, w]: [usize; 4]) -> Vec<f64> {
    let mut rows = Vec::with_capacity(values.len());
    for image in 0..n {
        for pixel in 0..h * w {
            rows.extend((0..c).map(|channel| values[(image * c + channel) * h * w + pixel]));
        }
    }
    rows
}

#[test]
fn a_1x1_convolution_is_a_linear_layer_over_channels() {
    let ([n, c, h, w], out) = ([2, 5, 3, 4], 6);
    for device in devices() {
        let (x, weight, bias) =
            (random([n, c, h, w], 1, &device), random([out, c, 1, 1], 2, &device), random([out], 3, &device));
        let dy = random([n, out, h, w], 4, &device);

        let tape = Tape::new();
        let conv = [x.clone(), weight.clone(), bias.clone()].map(|t| tape.leaf(t));
        let op = ops::Conv2d {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            flip: false,
            activation: None,
        };
        let y = tape.apply_single(op, &[&conv[0], &conv[1], &conv[2]]).unwrap();
        let by_conv = tape.backward_from(&[(&y, dy.clone())]).unwrap();
        let y = y.tensor().to_f64().unwrap();

        let rows = |t: &Tensor, channels| {
            let values = pixels(&t.to_f64().unwrap(), [n, channels, h, w]);
            Tensor::from_f64([n * h * w, channels], &values, &device).unwrap()
        };
        let tape = Tape::new();
        let linear = [rows(&x, c), weight.reshape([out, c]).unwrap(), bias].map(|t| tape.leaf(t));
        let z = tape
            .apply_single(ops::Linear { activation: None }, &[&linear[0], &linear[1], &linear[2]])
            .unwrap();
        let by_linear = tape.backward_from(&[(&z, rows(&dy, out))]).unwrap();

        same(&pixels(&y, [n, out, h, w]), &z.tensor().to_f64().unwrap(), &device);
        let grad = |grads: &neocog_autograd::Grads, var: &Var| grads.get(var).unwrap().to_f64().unwrap();
        same(&pixels(&grad(&by_conv, &conv[0]), [n, c, h, w]), &grad(&by_linear, &linear[0]), &device);
        same(&grad(&by_conv, &conv[1]), &grad(&by_linear, &linear[1]), &device);
        same(&grad(&by_conv, &conv[2]), &grad(&by_linear, &linear[2]), &device);
    }
}

#[test]
fn convolution_is_cross_correlation_with_a_flipped_kernel() {
    let (kh, kw) = (3, 2);
    let flip_kernels = |values: &[f64]| -> Vec<f64> {
        values.chunks(kh * kw).flat_map(|kernel| kernel.iter().rev().copied()).collect()
    };
    for device in devices() {
        let (x, weight) = (random([2, 4, 6, 5], 1, &device), random([6, 2, kh, kw], 2, &device));
        let run = |flip, weight: &Tensor| {
            let tape = Tape::new();
            let (x, weight) = (tape.leaf(x.clone()), tape.leaf(weight.clone()));
            let op = ops::Conv2d {
                stride: [2, 1],
                padding: [1, 1],
                dilation: [1, 2],
                groups: 2,
                flip,
                activation: None,
            };
            let y = tape.apply_single(op, &[&x, &weight]).unwrap();
            let grads = tape.backward_from(&[(&y, random(*y.shape(), 5, &device))]).unwrap();
            let grad = |v: &Var| grads.get(v).unwrap().to_f64().unwrap();
            (y.tensor().to_f64().unwrap(), grad(&x), grad(&weight))
        };
        let flipped =
            Tensor::from_f64(*weight.shape(), &flip_kernels(&weight.to_f64().unwrap()), &device).unwrap();
        let convolution = run(true, &weight);
        let correlation = run(false, &flipped);
        same(&convolution.0, &correlation.0, &device);
        same(&convolution.1, &correlation.1, &device);
        same(&convolution.2, &flip_kernels(&correlation.2), &device);
        assert_ne!(convolution.0, run(false, &weight).0, "the kernel is not symmetric");
    }
}

/// The gradient of the sum of the output with respect to the input of a layer.
fn input_gradient(spec: impl Into<LayerSpec>, x: &Tensor) -> Vec<f64> {
    let layer = Builder::new(&x.device(), 0).build(&spec.into(), x.shape()).unwrap();
    let tape = Tape::new();
    let x = tape.leaf(x.clone());
    let y = Context::train(&tape, 0).run(&*layer, &x).unwrap();
    let ones = Tensor::full(*y.shape(), 1.0, &y.tensor().device()).unwrap();
    tape.backward_from(&[(&y, ones)]).unwrap().get(&x).unwrap().to_f64().unwrap()
}

#[test]
fn gradients_of_branches_are_summed() {
    for device in devices() {
        let x = random([2, 3], 1, &device);
        let residual =
            Residual { label: None, body: vec![], shortcut: vec![], activation: None, order: vec![] };
        assert_eq!(input_gradient(residual, &x), [2.0; 6]);
        let concat = Concat { label: None, dim: 1, branches: vec![vec![], vec![], vec![]] };
        assert_eq!(input_gradient(concat, &x), [3.0; 6]);

        let x = random([1, 2, 4, 4], 2, &device);
        let conv = Conv2d::new(2, 2, 3).padding(1);
        let alone = input_gradient(conv.clone(), &x);
        let body = vec![Child::unnamed(conv)];
        let dense = Concat { label: None, dim: 1, branches: vec![vec![], body] };
        let both: Vec<f64> = alone.iter().map(|g| g + 1.0).collect();
        same(&input_gradient(dense, &x), &both, &device);
    }
}

/// Training finds the kernel with and without flipping.
#[test]
fn training_finds_a_kernel_with_and_without_flip() {
    for flip in [false, true] {
        let spec = Conv2d { kernel_size: [1, 2], bias: false, flip, ..Conv2d::new(1, 1, 1) };
        let (device, shape) = (Device::Reference, Shape::from([1, 1, 6, 8]));
        // The example of the notes: an image with two edges, and the kernel (1, -1) that detects them.
        let image: Vec<f32> = (0..48).map(|i| if (2..6).contains(&(i % 8)) { 0.0 } else { 1.0 }).collect();
        let x = Tensor::from_f32(shape, &image, &device).unwrap();
        let edges: Vec<f32> =
            image.chunks(8).flat_map(|row| row.windows(2).map(|w| w[0] - w[1]).collect::<Vec<_>>()).collect();
        let target = Tensor::from_f32([1, 1, 6, 7], &edges, &device).unwrap();
        let layer = Builder::new(&device, 3).build(&spec.into(), &shape).unwrap();
        let params = state::params(&*layer);
        for _ in 0..200 {
            let tape = Tape::new();
            let y = Context::train(&tape, 0).run(&*layer, &Var::constant(x.clone())).unwrap();
            let error = tape.apply_single(ops::Sub, &[&y, &Var::constant(target.clone())]).unwrap();
            let square = tape.apply_single(ops::Mul, &[&error, &error]).unwrap();
            let loss = tape.apply_single(ops::Sum, &[&square]).unwrap();
            let grads = tape.backward(&loss).unwrap();
            for (_, param) in &params {
                let grad = grads.param(param).unwrap().clone();
                neocog_tensor::update(&ops::SgdStep::new(0.01), &[&grad], &mut [&mut param.write().unwrap()])
                    .unwrap();
            }
        }
        let learned = params[0].1.value().to_f64().unwrap();
        let expected = if flip { [-1.0, 1.0] } else { [1.0, -1.0] };
        assert!(learned.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{flip}: {learned:?}");
    }
}
