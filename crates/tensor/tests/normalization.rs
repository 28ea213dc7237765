//! Batch normalization, softmax and cross entropy: values of PyTorch, random sizes against the reference, several threads, and error
//! messages.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use neocog_tensor::cases::{Case, CaseInput, registered_ops};
use neocog_tensor::conformance::{check_device, check_gradient};
use neocog_tensor::ops::{
    Activation, BatchNormEval, BatchNormTrain, BatchNormTrainGrad, CountCorrect, CrossEntropy,
    CrossEntropyGrad, LogSoftmax, Reduction, Softmax, SoftmaxGrad, UpdateRunningStats,
};
use neocog_tensor::{Device, Gradient, InputGrads, Op, Shape, Tensor, run, run_single, update};
use proptest::prelude::*;

/// Runs an operation and its gradient, given the gradient `dy` of the first output.
fn with_grads(op: &dyn Op, inputs: &[Tensor], needs: &[bool], dy: Tensor) -> (Vec<Tensor>, InputGrads) {
    let outputs = run(op, &inputs.iter().collect::<Vec<_>>()).unwrap();
    let saves = op.saves();
    let mut output_grads = vec![None; outputs.len()];
    output_grads[0] = Some(dy);
    let shapes = |tensors: &[Tensor]| tensors.iter().map(|t| *t.shape()).collect::<Vec<_>>();
    let saved = |tensors: &[Tensor], is_saved: &dyn Fn(usize) -> bool| {
        tensors.iter().enumerate().map(|(i, t)| is_saved(i).then(|| t.clone())).collect::<Vec<_>>()
    };
    let grads = op
        .grad(&Gradient {
            input_shapes: &shapes(inputs),
            output_shapes: &shapes(&outputs),
            inputs: &saved(inputs, &|i| saves.saves_input(i)),
            outputs: &saved(&outputs, &|i| saves.saves_output(i)),
            output_grads: &output_grads,
            needs,
        })
        .unwrap();
    (outputs.to_vec(), grads)
}

fn tensor(shape: impl neocog_tensor::IntoShape, values: &[f32], device: &Device) -> Tensor {
    Tensor::from_f32(shape, values, device).unwrap()
}

/// Checks the reference to the printed digits, and the CPU kernels in single precision.
fn each_device(mut check: impl FnMut(&Device, f64)) {
    check(&Device::Reference, 1e-9);
    check(&Device::Cpu, 2e-6);
}

#[track_caller]
fn near(got: &Tensor, expected: &[f64], tolerance: f64) {
    let got = got.to_f64().unwrap();
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= tolerance * e.abs().max(1.0), "{got:?} should be {expected:?}");
    }
}

const X: [f32; 12] = [0.5, -1.25, 3.0, 2.0, 0.75, -0.5, 1.5, -2.0, 0.25, -1.0, 4.0, 0.125];
const DY: [f32; 12] = [1.0, -0.5, 0.25, 2.0, -1.0, 0.5, 0.75, -0.25, 1.25, -1.5, 0.125, 0.5];

/// `torch.sigmoid(F.batch_norm(x, running_mean, running_var, weight, bias, training, 0.1, 1e-3))` in f64.
#[test]
fn batch_norm_matches_pytorch() {
    each_device(|device, tolerance| {
        let new = |shape: &[usize], values: &[f32]| tensor(Shape::new(shape).unwrap(), values, device);
        let (x, dy) = (new(&[2, 2, 3], &X), new(&[2, 2, 3], &DY));
        let (weight, bias) = (new(&[2], &[1.5, -0.5]), new(&[2], &[0.25, 1.0]));
        let (mut mean, mut var) = (new(&[2], &[0.125, -0.25]), new(&[2], &[1.5, 0.5]));

        let op = BatchNormEval { eps: 1e-3, activation: Some(Activation::Sigmoid) };
        let inputs = [x.clone(), mean.clone(), var.clone(), weight.clone(), bias.clone()];
        let needs = [true, false, false, true, true];
        let (outputs, grads) = with_grads(&op, &inputs, &needs, dy.clone());
        near(&outputs[0], &EVAL_Y, tolerance);
        near(grads[0].as_ref().unwrap(), &EVAL_DX, tolerance);
        near(grads[3].as_ref().unwrap(), &[0.325790691, 1.4507489079], tolerance);
        near(grads[4].as_ref().unwrap(), &[0.5118964024, 0.2074774677], tolerance);

        let op = BatchNormTrain { eps: 1e-3, activation: Some(Activation::Sigmoid) };
        let (outputs, grads) = with_grads(&op, &[x, weight, bias], &[true; 3], dy);
        near(&outputs[0], &TRAIN_Y, tolerance);
        near(grads[0].as_ref().unwrap(), &TRAIN_DX, tolerance);
        near(grads[1].as_ref().unwrap(), &[0.2483472266, 0.5041597095], tolerance);
        near(grads[2].as_ref().unwrap(), &[0.5725195512, 0.2374477275], tolerance);

        let op = UpdateRunningStats { factor: 0.1, unbiased: true, count: 6 };
        update(&op, &[&outputs[1], &outputs[2]], &mut [&mut mean, &mut var]).unwrap();
        near(&mean, &[0.1458333333, -0.1354166667], tolerance);
        near(&var, &[1.6791666667, 0.7902604167], tolerance);
    });
}

const TRAIN_Y: [f64; 12] = [
    0.5989084096,
    0.2343823188,
    0.9349113788,
    0.6619949206,
    0.7394852281,
    0.8044578354,
    0.7869155087,
    0.1343695497,
    0.5435247005,
    0.8267592987,
    0.5196000788,
    0.7736161187,
];
const TRAIN_DX: [f64; 12] = [
    0.127344796,
    -0.1318255487,
    -0.1329642236,
    -0.1047541669,
    0.066781458,
    -0.0322760355,
    0.0010760766,
    -0.0599412234,
    0.1963101231,
    0.0474504874,
    0.0484634988,
    -0.0256652417,
];
const EVAL_Y: [f64; 12] = [
    0.6702080776,
    0.1925596608,
    0.9774666641,
    0.3567721554,
    0.5728770638,
    0.7643359571,
    0.8736322416,
    0.0869294915,
    0.5994183382,
    0.8219771304,
    0.1189718029,
    0.675923373,
];
const EVAL_DX: [f64; 12] = [
    0.2706142021,
    -0.095180213,
    0.0067416836,
    -0.3242178529,
    0.1728484421,
    -0.0636207465,
    0.1013741233,
    -0.0242947468,
    0.3674785678,
    0.1550521998,
    -0.009255396,
    -0.0773688818,
];

/// `F.cross_entropy(logits, target, reduction=…, label_smoothing=0.2)` in f64, with a gradient of 2.
/// The mean of a channel, 2^23 + 1/2, is no number in single precision: what was subtracted in its place must be made up for.
#[test]
fn the_variance_of_values_far_from_0_is_exact() {
    let x: Vec<f32> = (0..2 * 3 * 40).map(|i| 8_388_608.0 + (i % 2) as f32).collect();
    each_device(|device, _| {
        let op = BatchNormTrain { eps: 1e-5, activation: None };
        let x = tensor([2, 3, 5, 8], &x, device);
        let outputs = run(&op, &[&x]).unwrap();
        assert_eq!(outputs[2].to_f64().unwrap(), [0.25; 3], "{device}");
    });
}

#[test]
fn cross_entropy_matches_pytorch() {
    const LOSSES: [f64; 2] = [2.5419857806, 2.5637808633];
    const DX: [f64; 6] =
        [-1.5835909042, -0.1073120009, 1.6909029051, 1.3280249251, 0.2853528176, -1.6133777427];
    each_device(|device, tolerance| {
        let logits = tensor([2, 3], &[0.5, -1.25, 3.0, 2.0, 0.75, -0.5], device);
        let target = tensor([2], &[0.0, 2.0], device);
        let inputs = [logits, target];
        let run = |reduction, dy: Tensor| {
            let op = CrossEntropy { reduction, label_smoothing: 0.2 };
            let (outputs, grads) = with_grads(&op, &inputs, &[true, false], dy);
            assert!(grads[1].is_none());
            (outputs[0].clone(), grads[0].clone().unwrap())
        };
        let (loss, dx) = run(Reduction::None, tensor([2], &[2.0, 2.0], device));
        near(&loss, &LOSSES, tolerance);
        near(&dx, &DX, tolerance);
        let (loss, dx) = run(Reduction::Sum, tensor([], &[2.0], device));
        near(&loss, &[LOSSES[0] + LOSSES[1]], tolerance);
        near(&dx, &DX, tolerance);
        let (loss, dx) = run(Reduction::Mean, tensor([], &[2.0], device));
        near(&loss, &[(LOSSES[0] + LOSSES[1]) / 2.0], tolerance);
        near(&dx, &DX.map(|d| d / 2.0), tolerance);

        let nothing = [tensor([0, 3], &[], device), tensor([0], &[], device)];
        for (reduction, expected) in [(Reduction::Mean, f64::NAN), (Reduction::Sum, 0.0)] {
            let op = CrossEntropy { reduction, label_smoothing: 0.0 };
            let loss = neocog_tensor::run(&op, &[&nothing[0], &nothing[1]]).unwrap()[0].to_f64().unwrap()[0];
            assert!(loss == expected || loss.is_nan() && expected.is_nan(), "{reduction:?}: {loss}");
        }
    });
}

#[test]
fn probabilities_are_not_differentiable() {
    let [logits, target] = [tensor([1, 2], &[0.5, 1.0], &Device::Cpu), tensor([1], &[0.0], &Device::Cpu)];
    let op = CrossEntropy::default();
    let outputs = run(&op, &[&logits, &target]).unwrap();
    let error = op
        .grad(&Gradient {
            input_shapes: &[*logits.shape(), *target.shape()],
            output_shapes: &[*outputs[0].shape(), *outputs[1].shape()],
            inputs: &[None, Some(target)],
            outputs: &[None, Some(outputs[1].clone())],
            output_grads: &[None, Some(logits)],
            needs: &[true, false],
        })
        .unwrap_err();
    assert!(error.to_string().contains("softmax"), "{error}");
}

fn activations() -> impl Strategy<Value = Option<Activation>> {
    prop_oneof![Just(None), proptest::sample::select(Activation::GRAD_OF_OUTPUT).prop_map(Some)]
}

/// `[n, c]`, `[n, c, l]` or `[n, c, h, w]` with more than one value for each channel.
fn inputs() -> impl Strategy<Value = Shape> {
    let rest = proptest::collection::vec(1usize..=40, 0..=2);
    (1usize..=40, 1usize..=40, rest).prop_filter_map("one value per channel", |(n, c, rest)| {
        let shape = Shape::new(&[&[n, c], &rest[..]].concat()).unwrap();
        (shape.elements() > c && shape.elements() < 60_000).then_some(shape)
    })
}

/// Any shape and one of its axes.
fn lines() -> impl Strategy<Value = (Shape, isize)> {
    (proptest::collection::vec(1usize..=37, 1..=3), any::<proptest::sample::Index>(), any::<bool>()).prop_map(
        |(extents, axis, negative)| {
            let axis = axis.index(extents.len()) as isize;
            let dim = if negative { axis - extents.len() as isize } else { axis };
            (Shape::new(&extents).unwrap(), dim)
        },
    )
}

/// Uniform values within 1 of `center`, stretched in channels whose deviation is below 0.5: with a deviation near 0, as two values
/// of a channel have by chance, normalization multiplies the rounding of the mean.
fn well_conditioned(shape: Shape, center: f32) -> CaseInput {
    const DEVIATION: f64 = 0.5;
    let mut x = CaseInput::between(shape, center - 1.0, center + 1.0).make(1);
    let (c, inner) = (shape[1], shape[2..].iter().product::<usize>());
    let channel = |i: usize| i / inner % c;
    let mut moments = vec![[0.0f64; 3]; c];
    for (i, &v) in x.iter().enumerate() {
        let v = f64::from(v);
        moments[channel(i)].iter_mut().zip([1.0, v, v * v]).for_each(|(sum, term)| *sum += term);
    }
    for (i, v) in x.iter_mut().enumerate() {
        let [n, sum, squares] = moments[channel(i)];
        let mean = sum / n;
        let deviation = (squares / n - mean * mean).max(0.0).sqrt();
        if deviation < DEVIATION {
            // Two equal values are set apart.
            let side = if i / inner / c % 2 == 0 { 1.0 } else { -1.0 };
            let from_mean = if deviation < 1e-3 { side } else { (f64::from(*v) - mean) / deviation };
            *v = (mean + DEVIATION * from_mean) as f32;
        }
    }
    CaseInput::values(shape, &x).unwrap()
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    for device in common::devices() {
        check_device(case, &device)
            .map_err(|e| TestCaseError::fail(format!("{:?} on {device}: {e}", case.op)))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: neocog_base::testing::cases(150), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_batch_norms(x in inputs(), activation in activations(), affine: bool, center in -3.0f32..3.0) {
        let channels = Shape::from([x[1]]);
        let input = well_conditioned(x, center);
        let weight = [CaseInput::between(channels, 0.5, 1.5), CaseInput::uniform(channels)];
        let weight = || weight.iter().filter(|_| affine).cloned();
        let of = BatchNormTrain { eps: 1e-5, activation };
        check(&Case::new("", of, [input.clone()].into_iter().chain(weight()))
            .with_tolerance(5e-5, "a center of 3 is up to six deviations, whose rounding is not that of the result"))?;
        let statistics = [
            CaseInput::between(channels, center - 0.1, center + 0.1),
            CaseInput::between(channels, 0.2, 0.5),
        ];
        let inputs = [input].into_iter().chain(statistics);
        check(&Case::new("", BatchNormEval { eps: 1e-5, activation }, inputs.clone().chain(weight())))?;
        let y = activation.map(|_| CaseInput::between(x, 0.0, 1.0));
        let inputs = inputs.chain([CaseInput::uniform(x)]).chain(weight().take(1)).chain(y);
        check(&Case::new("", BatchNormTrainGrad { of, affine }, inputs)
            .with_tolerance(5e-5, "sums of up to 1600 terms of either sign"))?;
    }

    #[test]
    fn softmax_sums_to_one((shape, dim) in lines(), size in 0.1f32..30.0) {
        let x = CaseInput::between(shape, -size, size);
        check(&Case::new("", Softmax { dim }, [x.clone()]))?;
        check(&Case::new("", LogSoftmax { dim }, [x.clone()]))?;
        check(&Case::new("", SoftmaxGrad { dim }, [CaseInput::between(shape, 0.0, 1.0), CaseInput::uniform(shape)]))?;
        let x = tensor(shape, &x.make(1), &Device::Cpu);
        let y = run_single(&Softmax { dim }, &[&x]).unwrap().to_f64().unwrap();
        let axis = dim.rem_euclid(shape.rank() as isize) as usize;
        let inner: usize = shape[axis + 1..].iter().product();
        for line in 0..shape.elements() / shape[axis] {
            let start = line / inner * shape[axis] * inner + line % inner;
            let sum: f64 = (0..shape[axis]).map(|k| y[start + k * inner]).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5, "line {line} of {shape} along {dim} sums to {sum}");
        }
    }

    #[test]
    fn cross_entropy_is_minus_log_softmax(n in 1usize..=40, classes in 1usize..=70, smoothing in 0.0f64..=1.0) {
        let logits = CaseInput::between([n, classes], -20.0, 20.0);
        let target = CaseInput::index([n], classes as u32);
        let (x, t) = (logits.make(1), target.make(2));
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            let of = CrossEntropy { reduction, label_smoothing: smoothing };
            check(&Case::new("", of, [logits.clone(), target.clone()]))?;
            let dloss = match reduction {
                Reduction::None => CaseInput::uniform([n]),
                _ => CaseInput::uniform([]),
            };
            let probabilities = CaseInput::between([n, classes], 0.0, 1.0);
            check(&Case::new("", CrossEntropyGrad { of }, [probabilities, target.clone(), dloss]))?;
        }
        let [logits, target] = [tensor([n, classes], &x, &Device::Cpu), tensor([n], &t, &Device::Cpu)];
        let plain = CrossEntropy { reduction: Reduction::None, label_smoothing: 0.0 };
        let losses = run(&plain, &[&logits, &target]).unwrap()[0].to_f64().unwrap();
        let logs = run_single(&LogSoftmax { dim: 1 }, &[&logits]).unwrap().to_f64().unwrap();
        for (i, loss) in losses.iter().enumerate() {
            let expected = -logs[i * classes + t[i] as usize];
            prop_assert!((loss - expected).abs() < 1e-5, "row {i}: {loss}, but -log_softmax is {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: neocog_base::testing::cases(30), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_gradients(n in 2usize..=4, c in 1usize..=3, l in 1usize..=4, activation in activations(), smoothing in 0.0f64..=1.0) {
        let x = CaseInput::distinct([n, c, l]);
        let weight = [CaseInput::between([c], 0.5, 1.5), CaseInput::uniform([c])];
        let inputs = [x].into_iter().chain(weight);
        let check = |case: Case| check_gradient(&case).map_err(|e| TestCaseError::fail(format!("{:?}: {e}", case.op)));
        if activation != Some(Activation::Relu) {
            check(Case::new("", BatchNormTrain { eps: 1e-2, activation }, inputs))?;
        }
        let inputs = [CaseInput::between([n, c], -3.0, 3.0), CaseInput::index([n], c as u32)];
        check(Case::new("", CrossEntropy { reduction: Reduction::Mean, label_smoothing: smoothing }, inputs))?;
        check(Case::new("", LogSoftmax { dim: 1 }, [CaseInput::uniform([n, c, l])]))?;
    }
}

/// All timed cases are large enough for several threads.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let ours = ["batch_norm", "softmax", "log_softmax", "cross_entropy"];
    let mut seen = 0;
    for entry in registered_ops().into_iter().filter(|e| ours.iter().any(|name| e.name.starts_with(name))) {
        for case in (entry.cases)().iter().filter(|c| c.bench || c.inputs[0].shape.elements() > 16_384) {
            let inputs: Vec<Tensor> = (case.inputs.iter().enumerate())
                .map(|(i, x)| tensor(x.shape, &x.make(i as u64), &Device::Cpu))
                .collect();
            let with_threads = |threads| -> Vec<Vec<u32>> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let outputs = pool.install(|| run(&*case.op, &inputs.iter().collect::<Vec<_>>()).unwrap());
                outputs.iter().map(|t| t.to_f32().unwrap().into_iter().map(f32::to_bits).collect()).collect()
            };
            assert!(with_threads(1) == with_threads(2), "{} differs: {}", entry.name, case.name);
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} cases");
}

/// With a mean of 1000 and a deviation of 0.1, the variance must not be computed from the sum of squares, nor from means of parts
/// that are rounded.
#[test]
fn statistics_far_from_zero() {
    let shapes =
        [[64, 2, 10, 10].as_slice(), &[6400, 2], &[8, 2, 3, 5], &[700, 2, 2], &[3, 2, 40, 40], &[5, 2, 8]];
    for (shape, device) in
        shapes.into_iter().flat_map(|shape| common::devices().into_iter().map(move |d| (shape, d)))
    {
        let shape = Shape::new(shape).unwrap();
        let x = CaseInput::between(shape, 999.8, 1000.2).make(1);
        let channel = |i: usize| i / shape[2..].iter().product::<usize>() % 2;
        let x_tensor = tensor(shape, &x, &device);
        let outputs = run(&BatchNormTrain { eps: 1e-5, activation: None }, &[&x_tensor]).unwrap();
        let (mean, var) = (outputs[1].to_f64().unwrap(), outputs[2].to_f64().unwrap());
        for c in 0..2 {
            let of: Vec<f64> =
                x.iter().enumerate().filter(|(i, _)| channel(*i) == c).map(|(_, v)| f64::from(*v)).collect();
            let m = of.iter().sum::<f64>() / of.len() as f64;
            let v = of.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / of.len() as f64;
            assert!((mean[c] - m).abs() < 4e-5, "{shape} on {device}: the mean is {}, not {m}", mean[c]);
            assert!(
                (var[c] - v).abs() < 3e-7 * v,
                "{shape} on {device}: the variance is {}, not {v}",
                var[c]
            );
        }
    }
}

#[track_caller]
fn has(op: &dyn Op, shapes: &[&[usize]], parts: &[&str]) {
    let shapes: Vec<Shape> = shapes.iter().map(|s| Shape::new(s).unwrap()).collect();
    let message = op.infer(&shapes).unwrap_err().to_string();
    assert!(parts.iter().all(|p| message.contains(p)), "{message}: should contain {parts:?}");
}

#[test]
fn error_messages() {
    let train = BatchNormTrain { eps: 1e-5, activation: None };
    has(&train, &[&[1, 3]], &["more than 1 value per channel when training", "[1, 3]"]);
    // The statistics of no values would be NaN.
    has(&train, &[&[0, 3]], &["more than 1 value per channel when training", "[0, 3]"]);
    has(&train, &[&[0, 3, 4, 4]], &["more than 1 value per channel when training"]);
    has(&train, &[&[4, 3, 0, 4]], &["more than 1 value per channel when training"]);
    has(&train, &[&[1, 3, 1, 1]], &["more than 1 value per channel when training"]);
    has(&train, &[&[4, 3], &[4], &[3]], &["[3]", "[4]"]);
    has(&train, &[&[4, 3], &[3]], &["1 or 3", "found 2"]);
    has(&train, &[&[4]], &["[n, c, h, w]", "[4]"]);
    has(&train, &[&[4, 3, 2, 2, 2]], &["[n, c, h, w]", "[4, 3, 2, 2, 2]"]);
    has(&BatchNormTrain { eps: -1.0, ..train }, &[&[4, 3]], &["eps", "-1"]);
    let eval = BatchNormEval { eps: 1e-5, activation: None };
    has(&eval, &[&[4, 3]], &["3 or 5", "found 1"]);
    has(&eval, &[&[4, 3], &[3], &[2]], &["[3]", "[2]"]);
    let stats = UpdateRunningStats { factor: 0.1, unbiased: true, count: 8 };
    has(&stats, &[&[3], &[4]], &["[3]", "[4]"]);
    has(&UpdateRunningStats { factor: 1.5, ..stats }, &[&[3], &[3]], &["factor", "1.5"]);
    has(&UpdateRunningStats { count: 1, ..stats }, &[&[3], &[3]], &["more than 1 value"]);
    for unbiased in [true, false] {
        has(&UpdateRunningStats { count: 0, unbiased, ..stats }, &[&[3], &[3]], &["0 values"]);
    }
    let loss = CrossEntropy::default();
    has(&loss, &[&[4, 3], &[5]], &["[4]", "[4, 3]", "[5]"]);
    has(&loss, &[&[4], &[4]], &["[n, classes]", "[4]"]);
    has(&loss, &[&[4, 0], &[4]], &["at least one class"]);
    has(&CrossEntropy { label_smoothing: 1.5, ..loss }, &[&[4, 3], &[4]], &["label_smoothing", "1.5"]);
    has(&CrossEntropy { label_smoothing: f64::NAN, ..loss }, &[&[4, 3], &[4]], &["label_smoothing", "NaN"]);
    has(&CrossEntropyGrad { of: loss }, &[&[4, 3], &[4], &[4]], &["[]", "[4]"]);
    has(&CountCorrect, &[&[4, 3], &[3]], &["[4]", "[3]"]);
    has(&Softmax { dim: 2 }, &[&[4, 3]], &["axis 2", "[4, 3]"]);
    has(&SoftmaxGrad { dim: 1 }, &[&[4, 3], &[3, 4]], &["[4, 3]", "[3, 4]"]);
}
