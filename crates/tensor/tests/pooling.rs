//! Pooling and dropout: random windows against the reference, several threads, ties and NaN as in PyTorch, and error messages.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use neocog_tensor::cases::{Case, CaseInput, registered_ops};
use neocog_tensor::conformance::{check_device, check_gradient};
use neocog_tensor::ops::{
    AvgPool2d, AvgPool2dGrad, Dropout, GlobalAvgPool2d, GlobalAvgPool2dGrad, MaxPool2d, MaxPool2dGrad,
};
use neocog_tensor::{Device, Op, Shape, Tensor, Tensors, run, run_single};
use proptest::prelude::*;

const OURS: [&str; 7] = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "dropout",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "max_pool2d",
    "max_pool2d_grad",
];

fn our_cases() -> impl Iterator<Item = (&'static str, Case)> {
    let ours = registered_ops().into_iter().filter(|entry| OURS.contains(&entry.name));
    ours.flat_map(|entry| (entry.cases)().into_iter().map(|case| (entry.name, case)))
}

fn tensors(case: &Case, device: &Device) -> Vec<Tensor> {
    let make = |(i, x): (usize, &CaseInput)| Tensor::from_f32(x.shape, &x.make(i as u64), device).unwrap();
    case.inputs.iter().enumerate().map(make).collect()
}

fn run_on(op: &dyn Op, inputs: &[Tensor], threads: usize) -> Tensors {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| run(op, &inputs.iter().collect::<Vec<_>>()).unwrap())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (name, case) in our_cases() {
        let inputs = tensors(&case, &Device::Cpu);
        let bits = |threads| -> Vec<Vec<u32>> {
            let outputs = run_on(&*case.op, &inputs, threads);
            outputs.iter().map(|t| t.to_f32().unwrap().into_iter().map(f32::to_bits).collect()).collect()
        };
        assert_eq!(bits(1), bits(2), "{name}: {}", case.name);
    }
}

/// A valid window, and the shape of `x [n, c, h, w]`.
fn windows() -> impl Strategy<Value = (MaxPool2d, [usize; 4])> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    let window = (pair(1..=5), pair(1..=4), pair(0..=2), pair(1..=3), any::<bool>());
    let sizes = (0usize..=3, 1usize..=3, 1usize..=14, 1usize..=60);
    (window, sizes)
        .prop_map(|((kernel_size, stride, padding, dilation, ceil_mode), (n, c, h, w))| {
            let padding = [0, 1].map(|a| padding[a].min(kernel_size[a] / 2));
            let op = MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode, return_indices: true };
            (op, [n, c, h, w])
        })
        .prop_filter("the window is valid", |(op, x)| op.infer(&[Shape::from(*x)]).is_ok())
}

/// Distinct numbers, many equal numbers, negative numbers, and negative numbers of which an eighth is NaN or infinite.
fn fills(x: [usize; 4]) -> [CaseInput; 4] {
    let mut rare = CaseInput::between(x, -3.0, -2.0).make(1);
    for (value, choice) in rare.iter_mut().zip(CaseInput::index(x, 24).make(3)) {
        match choice as u32 {
            0 => *value = f32::NAN,
            1 => *value = f32::NEG_INFINITY,
            2 => *value = f32::INFINITY,
            _ => {}
        }
    }
    let rare = CaseInput::values(x, &rare).unwrap();
    [CaseInput::distinct(x), CaseInput::index(x, 3), CaseInput::between(x, -3.0, -2.0), rare]
}

/// Runs `op` on every device and compares with the reference; returns the results of the CPU and the reference.
fn same(op: &dyn Op, cpu: &[&Tensor], tolerance: f64) -> Result<(Tensors, Tensors), TestCaseError> {
    let exact: Vec<Tensor> = (cpu.iter())
        .map(|t| Tensor::from_f64(*t.shape(), &t.to_f64().unwrap(), &Device::Reference).unwrap())
        .collect();
    let want = run(op, &exact.iter().collect::<Vec<_>>()).unwrap();
    for device in common::devices() {
        let inputs: Vec<Tensor> = cpu.iter().map(|t| t.to_device(&device).unwrap()).collect();
        let got = run(op, &inputs.iter().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            prop_assert_eq!(got.shape(), want.shape());
            for (g, w) in got.to_f64().unwrap().into_iter().zip(want.to_f64().unwrap()) {
                prop_assert!(
                    g == w || (g - w).abs() <= tolerance || g.is_nan() && w.is_nan(),
                    "{op:?} on {device}: {g}, not {w}"
                );
            }
        }
    }
    Ok((run(op, cpu).unwrap(), want))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: neocog_base::testing::cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_max_pooling((op, x) in windows(), fill in 0usize..4) {
        let input = fills(x)[fill].clone();
        let input = Tensor::from_f32(x, &input.make(1), &Device::Cpu).unwrap();
        // Maxima and indices are exact.
        let (outputs, _) = same(&op, &[&input], 0.0)?;
        let bare = run(&MaxPool2d { return_indices: false, ..op }, &[&input]).unwrap();
        prop_assert_eq!(bare.len(), 1);
        let bits = |t: &Tensor| t.to_f32().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        prop_assert_eq!(bits(&bare[0]), bits(&outputs[0]));
        let dy = CaseInput::uniform(*outputs[0].shape()).make(2);
        let dy = Tensor::from_f32(*outputs[0].shape(), &dy, &Device::Cpu).unwrap();
        same(&MaxPool2dGrad { input_size: [x[2], x[3]] }, &[&dy, &outputs[1]], 1e-5)?;
    }

    #[test]
    fn random_average_pooling(
        (window, x) in windows(), count_include_pad: bool, divisor in proptest::option::of(1usize..9),
    ) {
        let MaxPool2d { kernel_size, stride, padding, ceil_mode, .. } = window;
        let divisor_override = divisor;
        let pool = AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override };
        let input = Tensor::from_f32(x, &CaseInput::uniform(x).make(1), &Device::Cpu).unwrap();
        let (y, _) = same(&pool, &[&input], 2e-5)?;
        let dy = CaseInput::uniform(*y[0].shape()).make(2);
        let dy = Tensor::from_f32(*y[0].shape(), &dy, &Device::Cpu).unwrap();
        same(&AvgPool2dGrad { pool, input_size: [x[2], x[3]] }, &[&dy], 2e-5)?;
    }

    #[test]
    fn random_global_pooling(x in [0usize..4, 0usize..4, 1usize..20, 1usize..20]) {
        let input = Tensor::from_f32(x, &CaseInput::uniform(x).make(1), &Device::Cpu).unwrap();
        let (y, _) = same(&GlobalAvgPool2d, &[&input], 1e-6)?;
        same(&GlobalAvgPool2dGrad { input_size: [x[2], x[3]] }, &[&y[0]], 1e-6)?;
    }

    #[test]
    fn random_dropout(p in 0.0f64..=1.0, seed: u64, offset: u64, count in 0usize..300) {
        let case = Case::new("", Dropout { p, seed, offset }, [CaseInput::uniform([count])]);
        for device in common::devices() {
            check_device(&case, &device).map_err(|e| TestCaseError::fail(format!("on {device}: {e}")))?;
        }
    }
}

fn image(rows: &[&[f32]]) -> Tensor {
    Tensor::from_f32([1, 1, rows.len(), rows[0].len()], &rows.concat(), &Device::Cpu).unwrap()
}

fn max_pool(kernel: usize, stride: usize, padding: usize) -> MaxPool2d {
    MaxPool2d {
        kernel_size: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        ceil_mode: false,
        return_indices: true,
    }
}

/// The expected values are those of PyTorch.
#[test]
fn ties_and_nans_match_pytorch() {
    const NAN: f32 = f32::NAN;
    let x = image(&[&[1.0, NAN, 2.0, NAN], &[NAN, 3.0, 0.0, 1.0]]);
    let outputs = run(&max_pool(2, 2, 0), &[&x]).unwrap();
    assert!(outputs[0].to_f32().unwrap().iter().all(|v| v.is_nan()));
    // The last of several NaNs.
    assert_eq!(outputs[1].to_f32().unwrap(), [4.0, 3.0]);

    // One NaN at a time, in windows that reach into the padding and in those that do not.
    for at in 0..25 {
        let mut pixels = [-1.0; 25];
        pixels[at] = NAN;
        let x = image(&pixels.chunks(5).collect::<Vec<_>>());
        for stride in [1, 2] {
            let outputs = run(&max_pool(3, stride, 1), &[&x]).unwrap();
            let (y, size) = (outputs[0].to_f32().unwrap(), outputs[0].shape()[3]);
            for (i, v) in y.iter().enumerate() {
                let holds = |center: usize, at: usize| (stride * center).abs_diff(at) <= 1;
                let expected = holds(i / size, at / 5) && holds(i % size, at % 5);
                assert_eq!(v.is_nan(), expected, "NaN at {at}, stride {stride}, window {i}: {y:?}");
            }
        }
    }

    let x = image(&[&[f32::NEG_INFINITY; 4][..]; 4]);
    let outputs = run(&max_pool(3, 1, 1), &[&x]).unwrap();
    assert!(outputs[0].to_f32().unwrap().iter().all(|v| *v == f32::NEG_INFINITY));
    let first = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 2.0, 4.0, 4.0, 5.0, 6.0, 8.0, 8.0, 9.0, 10.0];
    assert_eq!(outputs[1].to_f32().unwrap(), first);

    // Negative numbers next to the padding, which is minus infinity.
    let x = image(&[&[-3.0, -1.0], &[-2.0, -4.0]]);
    let outputs = run(&max_pool(2, 2, 1), &[&x]).unwrap();
    assert_eq!(outputs[0].to_f32().unwrap(), [-3.0, -1.0, -2.0, -4.0]);
}

#[test]
fn divisors_match_pytorch() {
    let pool = AvgPool2d {
        kernel_size: [2, 2],
        stride: [2, 2],
        padding: [1, 1],
        ceil_mode: true,
        count_include_pad: true,
        divisor_override: None,
    };
    let x = image(&[&[4.0, 8.0], &[12.0, 16.0]]);
    let y = |pool: AvgPool2d| run_single(&pool, &[&x]).unwrap().to_f32().unwrap();
    assert_eq!(y(pool), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(y(AvgPool2d { count_include_pad: false, ..pool }), [4.0, 8.0, 12.0, 16.0]);
    assert_eq!(y(AvgPool2d { divisor_override: Some(2), ..pool }), [2.0, 4.0, 6.0, 8.0]);
    // Elements beyond the padding do not count: 3 columns of the last window, not 4.
    let wide = AvgPool2d { kernel_size: [1, 4], stride: [1, 3], padding: [0, 1], ..pool };
    let row = image(&[&[3.0, 6.0, 9.0, 12.0]]);
    assert_eq!(run_single(&wide, &[&row]).unwrap().to_f32().unwrap(), [4.5, 7.0]);
}

#[test]
fn error_messages() {
    let x = Shape::from([1, 2, 4, 4]);
    let error = |op: &dyn Op, shapes: &[Shape]| op.infer(shapes).unwrap_err().to_string();
    assert!(error(&max_pool(5, 1, 0), &[x]).contains("4 x 4 pixels"));
    assert!(error(&max_pool(3, 1, 2), &[x]).contains("at most half of kernel_size [3, 3]"));
    assert!(error(&max_pool(2, 2, 0), &[Shape::from([4, 4])]).contains("[n, c, h, w]"));
    let huge = Shape::from([1, 1, 1 << 13, 1 << 12]);
    assert!(error(&max_pool(2, 2, 0), &[huge]).contains("too large for indices"));
    assert!(MaxPool2d { return_indices: false, ..max_pool(2, 2, 0) }.infer(&[huge]).is_ok());
    let back = MaxPool2dGrad { input_size: [4, 4] };
    assert!(error(&back, &[x, Shape::from([1, 2, 4, 3])]).contains("the indices are [1, 2, 4, 3]"));
    let pool = AvgPool2d {
        kernel_size: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        ceil_mode: false,
        count_include_pad: true,
        divisor_override: None,
    };
    assert!(error(&AvgPool2d { divisor_override: Some(0), ..pool }, &[x]).contains("divisor_override is 0"));
    let back = AvgPool2dGrad { pool, input_size: [6, 6] };
    assert!(error(&back, &[x]).contains("yields 3 x 3, but the gradient is [1, 2, 4, 4]"));

    let without = MaxPool2d { return_indices: false, ..max_pool(2, 2, 0) };
    let case = Case::new("", without, [CaseInput::distinct(x)]);
    assert!(check_gradient(&case).unwrap_err().to_string().contains("set return_indices to true"));
}
