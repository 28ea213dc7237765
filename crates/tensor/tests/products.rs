//! Convolutions and matrix products: random sizes against the reference, several threads, samples of large layers, and error messages.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use neocog_tensor::cases::{Case, CaseInput, registered_ops};
use neocog_tensor::conformance::{check_device, is_too_large};
use neocog_tensor::ops::{
    Activation, ChannelSum, Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad, Linear, MatMul,
};
use neocog_tensor::{Device, Op, Shape, Tensor, run_single};
use proptest::prelude::*;

fn activations() -> impl Strategy<Value = Option<Activation>> {
    prop_oneof![Just(None), proptest::sample::select(Activation::GRAD_OF_OUTPUT).prop_map(Some)]
}

/// A valid convolution: its geometry, and the shapes of `x [n, c, h, w]` and of the weight `[out, c / groups, kh, kw]`.
fn convolutions() -> impl Strategy<Value = (Conv2dGeometry, [usize; 4], [usize; 4])> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    let geometry = (pair(1..=3), pair(0..=3), pair(1..=3), 1usize..=3, any::<bool>());
    let sizes = (0usize..=4, 1usize..=20, 1usize..=20, pair(1..=5), pair(0..=20));
    (geometry, sizes).prop_map(
        |((stride, padding, dilation, groups, flip), (n, in_per_group, out_per_group, kernel, extra))| {
            let reach = |i: usize| (kernel[i] - 1) * dilation[i] + 1;
            let size = |i: usize| (reach(i) + extra[i]).saturating_sub(2 * padding[i]).max(1);
            let geometry = Conv2dGeometry { stride, padding, dilation, groups, flip };
            (
                geometry,
                [n, in_per_group * groups, size(0), size(1)],
                [out_per_group * groups, in_per_group, kernel[0], kernel[1]],
            )
        },
    )
}

/// Compares the results of a case with one and with two threads.
fn check_threads(case: &Case) -> Result<(), TestCaseError> {
    let inputs: Vec<Tensor> = (case.inputs.iter().enumerate())
        .map(|(i, x)| Tensor::from_f32(x.shape, &x.make(i as u64), &Device::Cpu).unwrap())
        .collect();
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run_single(&*case.op, &inputs.iter().collect::<Vec<_>>()).unwrap().to_f32().unwrap())
    };
    let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    prop_assert_eq!(bits(with_threads(1)), bits(with_threads(2)), "{} differs", case.op.name());
    Ok(())
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    for device in common::devices() {
        check_device(case, &device)
            .map_err(|e| TestCaseError::fail(format!("{:?} on {device}: {e}", case.op)))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: neocog_base::testing::cases(200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions((geometry, x, weight) in convolutions(), activation in activations(), bias: bool) {
        let size = geometry.output_size([x[2], x[3]], [weight[2], weight[3]]).unwrap();
        let y = [x[0], weight[0], size[0], size[1]];
        let uniform = |shape: [usize; 4]| CaseInput::uniform(shape);
        let inputs = [uniform(x), uniform(weight), CaseInput::uniform([weight[0]])];
        let forward = Conv2d::new(geometry, activation);
        check(&Case::new("", forward, inputs.into_iter().take(if bias { 3 } else { 2 })))?;
        let input_grad = Conv2dInputGrad { geometry, input_size: [x[2], x[3]] };
        check(&Case::new("", input_grad, [uniform(y), uniform(weight)]))?;
        let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [weight[2], weight[3]] };
        check(&Case::new("", weight_grad, [uniform(x), uniform(y)]))?;
    }

    #[test]
    fn random_products(
        [m, k, n] in [0usize..=70, 0usize..=300, 0usize..=70],
        transpose_a: bool, transpose_b: bool, activation in activations(), bias: bool,
    ) {
        let a = if transpose_a { [k, m] } else { [m, k] };
        let b = if transpose_b { [n, k] } else { [k, n] };
        let op = MatMul { transpose_a, transpose_b };
        check(&Case::new("", op, [CaseInput::uniform(a), CaseInput::uniform(b)]))?;
        let inputs = [CaseInput::uniform([m, k]), CaseInput::uniform([n, k]), CaseInput::uniform([n])];
        check(&Case::new("", Linear { activation }, inputs.into_iter().take(if bias { 3 } else { 2 })))?;
    }
}

/// All timed cases are large enough for several threads.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for entry in registered_ops() {
        let ours = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "linear", "matmul", "channel_sum"];
        if ours.contains(&entry.name) {
            for case in (entry.cases)().iter().filter(|c| c.bench) {
                check_threads(case).unwrap();
            }
        }
    }
}

/// Layers that are too large for the conformance tests: samples of the results are checked in double precision.
#[test]
fn large_layers_by_samples() {
    let mut seen = 0;
    for entry in registered_ops() {
        for case in (entry.cases)().iter().filter(|c| is_too_large(c)) {
            check_samples(case);
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} large cases");
}

fn check_samples(case: &Case) {
    let values: Vec<Vec<f32>> = case.inputs.iter().enumerate().map(|(i, x)| x.make(i as u64)).collect();
    let inputs: Vec<Tensor> = (case.inputs.iter().zip(&values))
        .map(|(x, v)| Tensor::from_f32(x.shape, v, &Device::Cpu).unwrap())
        .collect();
    let output = run_single(&*case.op, &inputs.iter().collect::<Vec<_>>()).unwrap();
    let shape = *output.shape();
    let output = output.to_f32().unwrap();
    let mut worst = 0.0f64;
    let mut largest = 0.0f64;
    let count = 97;
    for k in 0..count {
        // Evenly distributed, including the first and the last element.
        let i = (output.len() - 1) * k / (count - 1);
        let exact = sample(case, &values, &shape, i);
        worst = worst.max((exact - f64::from(output[i])).abs());
        largest = largest.max(exact.abs());
    }
    assert!(largest > 0.0 && worst <= 2e-5 * largest, "{:?} {}: off by {worst:e}", case.op, case.name);
}

/// Computes one element of the result.
fn sample(case: &Case, values: &[Vec<f32>], shape: &Shape, flat: usize) -> f64 {
    let at = |input: usize, index: &[usize]| {
        let shape = &case.inputs[input].shape;
        let flat = index.iter().zip(shape.extents()).fold(0, |sum, (i, extent)| sum * extent + i);
        f64::from(values[input][flat])
    };
    let i = shape.unravel(flat);
    let op = format!("{:?}", case.op);
    let extents = |input: usize| case.inputs[input].shape.to_vec();
    let mut sum = 0.0;
    match case.op.name() {
        "matmul" => {
            let (ta, tb) = (op.contains("transpose_a: true"), op.contains("transpose_b: true"));
            for k in 0..extents(0)[usize::from(!ta)] {
                sum += at(0, &if ta { [k, i[0]] } else { [i[0], k] })
                    * at(1, &if tb { [i[1], k] } else { [k, i[1]] });
            }
        }
        "linear" => {
            sum = at(2, &[i[1]]);
            for k in 0..extents(0)[1] {
                sum += at(0, &[i[0], k]) * at(1, &[i[1], k]);
            }
            if op.contains("Relu") {
                sum = sum.max(0.0);
            }
        }
        name => {
            // All large cases have square windows and no dilation.
            let number = |key: &str| -> usize {
                let text = op.split(&format!("{key}: [")).nth(1).unwrap();
                text.split(',').next().unwrap().parse().unwrap()
            };
            let groups = op.split("groups: ").nth(1).unwrap().split(',').next().unwrap();
            let groups: usize = groups.parse().unwrap();
            assert!(number("dilation") == 1 && op.contains("flip: false"));
            let (stride, padding) = (number("stride"), number("padding"));
            let inside = |out: usize, tap: usize, size: usize| {
                (out * stride + tap).checked_sub(padding).filter(|&p| p < size)
            };
            match name {
                "conv2d" => {
                    let (x, w) = (extents(0), extents(1));
                    sum = at(2, &[i[1]]);
                    let first = i[1] / (w[0] / groups) * w[1];
                    for c in 0..w[1] {
                        for u in 0..w[2] {
                            for v in 0..w[3] {
                                if let (Some(r), Some(s)) = (inside(i[2], u, x[2]), inside(i[3], v, x[3])) {
                                    sum += at(0, &[i[0], first + c, r, s]) * at(1, &[i[1], c, u, v]);
                                }
                            }
                        }
                    }
                }
                "conv2d_input_grad" => {
                    let (dy, w) = (extents(0), extents(1));
                    let out = |pixel: usize, tap: usize, size: usize| {
                        let to = (pixel + padding).checked_sub(tap)?;
                        Some(to / stride).filter(|o| to % stride == 0 && *o < size)
                    };
                    let (outputs, first) = (w[0] / groups, i[1] / w[1] * (w[0] / groups));
                    for o in first..first + outputs {
                        for u in 0..w[2] {
                            for v in 0..w[3] {
                                if let (Some(r), Some(s)) = (out(i[2], u, dy[2]), out(i[3], v, dy[3])) {
                                    sum += at(0, &[i[0], o, r, s]) * at(1, &[o, i[1] % w[1], u, v]);
                                }
                            }
                        }
                    }
                }
                "conv2d_weight_grad" => {
                    let (x, dy) = (extents(0), extents(1));
                    let channel = i[0] / (dy[1] / groups) * (x[1] / groups) + i[1];
                    for n in 0..x[0] {
                        for r in 0..dy[2] {
                            for s in 0..dy[3] {
                                if let (Some(y), Some(z)) = (inside(r, i[2], x[2]), inside(s, i[3], x[3])) {
                                    sum += at(0, &[n, channel, y, z]) * at(1, &[n, i[0], r, s]);
                                }
                            }
                        }
                    }
                }
                other => panic!("no samples for {other}"),
            }
        }
    }
    sum
}

fn message(op: &dyn Op, shapes: &[&[usize]]) -> String {
    let shapes: Vec<Shape> = shapes.iter().map(|s| Shape::new(s).unwrap()).collect();
    op.infer(&shapes).unwrap_err().to_string()
}

#[test]
fn error_messages() {
    let plain = Conv2d::default();
    let x: &[usize] = &[256, 64, 24, 24];
    let has = |message: String, parts: &[&str]| {
        assert!(parts.iter().all(|p| message.contains(p)), "{message}: should contain {parts:?}");
    };
    has(
        message(&plain, &[x, &[8, 128, 3, 3]]),
        &["the input has 64 channels, the weight expects 128; input [256, 64, 24, 24]"],
    );
    has(message(&plain, &[x]), &["found 1 input: "]);
    has(message(&plain, &[&[64, 24, 24], &[8, 64, 3, 3]]), &["[n, c, h, w]", "[64, 24, 24]"]);
    has(message(&plain, &[x, &[8, 64, 3]]), &["the weight should be"]);
    has(message(&plain, &[x, &[8, 64, 0, 3]]), &["none of them 0"]);
    has(message(&plain, &[x, &[8, 64, 3, 3], &[9]]), &["the bias should be [8]"]);
    has(message(&plain, &[x, &[8, 64, 25, 3]]), &["24 x 24 pixels", "25 x 3", "spans 25 rows"]);
    has(message(&Conv2d { groups: 3, ..plain }, &[x, &[8, 64, 3, 3]]), &["64 input channels", "3 groups"]);
    has(message(&Conv2d { groups: 4, ..plain }, &[x, &[6, 16, 3, 3]]), &["6 output channels", "4 groups"]);
    has(message(&Conv2d { groups: 2, ..plain }, &[x, &[8, 64, 3, 3]]), &["expects 128 in 2 groups"]);
    has(message(&Conv2d { groups: 0, ..plain }, &[x, &[8, 64, 3, 3]]), &["groups is 0"]);
    has(message(&Conv2d { stride: [1, 0], ..plain }, &[x, &[8, 64, 3, 3]]), &["stride is [1, 0]"]);
    has(message(&Conv2d { dilation: [0, 1], ..plain }, &[x, &[8, 64, 3, 3]]), &["dilation is [0, 1]"]);
    has(message(&Conv2d { dilation: [1, 12], ..plain }, &[x, &[8, 64, 3, 3]]), &["spans 25 columns"]);
    has(message(&Conv2d { padding: [usize::MAX, 0], ..plain }, &[x, &[8, 64, 3, 3]]), &["too large"]);
    let geometry = plain.geometry();
    let to_input = Conv2dInputGrad { geometry, input_size: [24, 24] };
    has(message(&to_input, &[&[2, 8, 22, 21], &[8, 64, 3, 3]]), &["22 x 21", "22 x 22"]);
    has(
        message(&to_input, &[&[2, 7, 22, 22], &[8, 64, 3, 3]]),
        &["7 channels", "the weight 8 output channels"],
    );
    let to_weight = Conv2dWeightGrad { geometry, kernel_size: [3, 3] };
    has(
        message(&to_weight, &[&[2, 8, 24, 24], &[3, 8, 22, 22]]),
        &["a batch size of 2, the gradient of the output 3"],
    );
    has(message(&Linear::default(), &[&[4, 6], &[3, 7]]), &["6 features", "expects 7"]);
    has(message(&Linear::default(), &[&[], &[3, 7]]), &["scalar"]);
    has(message(&MatMul::default(), &[&[4, 6], &[3, 7]]), &["[4, 6] and [3, 7]"]);
    has(message(&ChannelSum, &[&[4]]), &["[n, c, ..]"]);
}
