//! Arithmetic, reductions, concatenation and narrowing against ndarray, for random shapes; optimizer steps on several threads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::conformance::{check_device, check_gradient};
use neocog_tensor::ops::{
    AdamStep, Add, Concat, Expand, Flatten, Mean, Mul, Narrow, NarrowGrad, Reshape, SgdStep, Sub, Sum, SumTo,
};
use neocog_tensor::{Device, Op, Shape, Tensor, run_single, update};
use proptest::prelude::*;
use proptest::sample::Index;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: neocog_base::testing::cases(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A shape, and two shapes that broadcast to it: some extents are 1, and some outer axes are missing. Some extents are large enough
/// for several tasks.
fn broadcasts() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, Vec<usize>)> {
    let extent = prop_oneof![8 => 0usize..=7, 2 => Just(1usize), 1 => 40usize..=200];
    let full = proptest::collection::vec(extent, 0..=4);
    (full, any::<[bool; 8]>(), any::<Index>(), any::<Index>(), any::<bool>()).prop_map(
        |(full, ones, drop_a, drop_b, keep)| {
            let part = |ones: &[bool], drop: Index| {
                let shape: Vec<usize> =
                    full.iter().zip(ones).map(|(&e, &one)| if one { 1 } else { e }).collect();
                shape[drop.index(shape.len() + 1)..].to_vec()
            };
            let a = if keep { full.clone() } else { part(&ones[..4], drop_a) };
            (full.clone(), a, part(&ones[4..], drop_b))
        },
    )
}

fn array(shape: &[usize], stream: u64) -> ArrayD<f32> {
    let values = CaseInput::uniform(Shape::new(shape).unwrap()).make(stream);
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

fn apply(op: &dyn Op, inputs: &[&ArrayD<f32>], device: &Device) -> ArrayD<f32> {
    let inputs: Vec<Tensor> =
        inputs.iter().map(|a| Tensor::from_ndarray(a.view(), device).unwrap()).collect();
    run_single(op, &inputs.iter().collect::<Vec<_>>()).unwrap().to_ndarray().unwrap()
}

/// The sum over the axes that broadcasting from `shape` repeats, in double precision.
fn summed(x: &ArrayD<f32>, shape: &[usize]) -> ArrayD<f64> {
    let mut sum = x.mapv(f64::from);
    while sum.ndim() > shape.len() {
        sum = sum.sum_axis(Axis(0));
    }
    for (axis, &extent) in shape.iter().enumerate() {
        if extent == 1 {
            sum = sum.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    sum
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arithmetic_broadcasts_as_in_ndarray((_, a, b) in broadcasts()) {
        let (x, y) = (array(&a, 1), array(&b, 2));
        let Ok(shape) = Add.infer(&[Shape::new(&a).unwrap(), Shape::new(&b).unwrap()]) else {
            return Err(TestCaseError::fail(format!("{a:?} and {b:?} broadcast")));
        };
        let to = IxDyn(&shape[0]);
        let (wide_x, wide_y) = (x.broadcast(to.clone()).unwrap(), y.broadcast(to).unwrap());
        for device in common::devices() {
            prop_assert_eq!(apply(&Add, &[&x, &y], &device), &wide_x + &wide_y, "{}", device);
            prop_assert_eq!(apply(&Sub, &[&x, &y], &device), &wide_x - &wide_y, "{}", device);
            prop_assert_eq!(apply(&Mul, &[&x, &y], &device), &wide_x * &wide_y, "{}", device);
        }
    }

    #[test]
    fn expand_and_sum_to_match_ndarray((full, _, small) in broadcasts()) {
        let [large_shape, small_shape] = [&full, &small].map(|s| Shape::new(s).unwrap());
        let x = array(&small, 1);
        let large = array(&full, 2);
        let exact = summed(&large, &small);
        // The terms are below 1: the error grows with their number.
        let count = (large.len() / exact.len().max(1)).max(1) as f64;
        for device in common::devices() {
            prop_assert_eq!(
                apply(&Expand { shape: large_shape }, &[&x], &device),
                x.broadcast(IxDyn(&full)).unwrap().to_owned(),
                "{}", device
            );
            let sums = apply(&SumTo { shape: small_shape }, &[&large], &device);
            prop_assert_eq!(sums.shape(), exact.shape());
            for (got, exact) in sums.iter().zip(&exact) {
                let error = (f64::from(*got) - exact).abs();
                prop_assert!(error <= 1e-6 * count.sqrt().max(exact.abs()), "{} for {} on {}", got, exact, device);
            }
        }
    }

    #[test]
    fn sum_and_mean_of_any_length(len in 0usize..200_000) {
        let x = array(&[len], 3);
        let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
        for device in common::devices() {
            let sum = f64::from(apply(&Sum, &[&x], &device)[IxDyn(&[])]);
            let bound = 1e-6 * (len as f64).sqrt().max(exact.abs());
            prop_assert!((sum - exact).abs() <= bound, "{} for {} on {}", sum, exact, device);
            let mean = apply(&Mean, &[&x], &device)[IxDyn(&[])];
            if len == 0 {
                prop_assert!(mean.is_nan());
            } else {
                prop_assert!((f64::from(mean) - exact / len as f64).abs() <= 1e-6 / (len as f64).sqrt().min(10.0));
            }
        }
    }

    #[test]
    fn narrow_inverts_concat(
        shape in proptest::collection::vec(0usize..=6, 1..=4),
        extents in proptest::collection::vec(0usize..=5, 1..=5),
        axis: Index,
        negative: bool,
        wide: bool,
    ) {
        let axis = axis.index(shape.len());
        let dim = axis as isize - if negative { shape.len() as isize } else { 0 };
        let mut shape = shape;
        if wide && axis + 1 < shape.len() {
            *shape.last_mut().unwrap() = 10_000;
        }
        let parts: Vec<ArrayD<f32>> = (extents.iter().enumerate())
            .map(|(k, &extent)| {
                shape[axis] = extent;
                array(&shape, k as u64)
            })
            .collect();
        let views: Vec<_> = parts.iter().map(|a| a.view()).collect();
        let expected = ndarray::concatenate(Axis(axis), &views).unwrap();
        for device in common::devices() {
            let joined = apply(&Concat { dim }, &parts.iter().collect::<Vec<_>>(), &device);
            prop_assert_eq!(&joined, &expected, "{}", device);
            let mut start = 0;
            for part in &parts {
                let len = part.shape()[axis];
                prop_assert_eq!(&apply(&Narrow { dim, start, len }, &[&joined], &device), part, "{}", device);
                let padded = apply(&NarrowGrad { dim, start, extent: joined.shape()[axis] }, &[part], &device);
                let mut expected = ArrayD::zeros(joined.raw_dim());
                expected.slice_axis_mut(Axis(axis), Slice::from(start..start + len)).assign(part);
                prop_assert_eq!(padded, expected, "{}", device);
                start += len;
            }
        }
    }

    #[test]
    fn flatten_and_reshape_preserve_elements(
        shape in proptest::collection::vec(0usize..=5, 1..=5),
        a: Index,
        b: Index,
    ) {
        let [a, b] = [a.index(shape.len()), b.index(shape.len())];
        let (start, end) = (a.min(b), a.max(b));
        let x = array(&shape, 1);
        let joined: usize = shape[start..=end].iter().product();
        let flatten = Flatten { start_dim: start as isize, end_dim: end as isize - shape.len() as isize };
        for device in common::devices() {
            let flat = apply(&flatten, &[&x], &device);
            prop_assert_eq!(flat.shape(), [&shape[..start], &[joined], &shape[end + 1..]].concat());
            prop_assert!(flat.iter().eq(x.iter()));
            let back = apply(&Reshape { shape: Shape::new(&shape).unwrap() }, &[&flat], &device);
            prop_assert_eq!(&back, &x, "{}", device);
        }
    }

    #[test]
    fn gradients_of_broadcast_arithmetic((_, a, b) in broadcasts()) {
        let inputs = || [&a, &b].map(|s| CaseInput::uniform(Shape::new(s).unwrap()));
        prop_assume!(inputs().iter().all(|x| x.shape.elements() <= 60));
        for case in [Case::new("", Add, inputs()), Case::new("", Sub, inputs()), Case::new("", Mul, inputs())] {
            check_gradient(&case).map_err(|e| TestCaseError::fail(format!("{case:?}: {e}")))?;
            for device in common::devices() {
                check_device(&case, &device)
                    .map_err(|e| TestCaseError::fail(format!("{case:?} on {device}: {e}")))?;
            }
        }
    }
}

/// A step over many elements, split into tasks, has the same result for each element as a step over that element alone.
#[test]
fn steps_are_elementwise() {
    const COUNT: usize = 70_001;
    let steps: [(Box<dyn Op>, usize); 2] = [
        (Box::new(AdamStep { amsgrad: true, weight_decay: 0.1, ..AdamStep::new(0.01, 3) }), 4),
        (Box::new(SgdStep { momentum: 0.9, nesterov: true, ..SgdStep::new(0.1) }), 2),
    ];
    for ((step, count), device) in
        steps.iter().flat_map(|s| common::devices().into_iter().map(move |d| (s, d)))
    {
        let values: Vec<Vec<f32>> =
            (0..=*count as u64).map(|k| CaseInput::between([COUNT], 0.1, 1.0).make(k)).collect();
        let run = |part: std::ops::Range<usize>| {
            let mut tensors: Vec<Tensor> = values
                .iter()
                .map(|v| Tensor::from_f32([part.len()], &v[part.clone()], &device).unwrap())
                .collect();
            let (grad, state) = tensors.split_first_mut().unwrap();
            update(&**step, &[grad], &mut state.iter_mut().collect::<Vec<_>>()).unwrap();
            state.iter().map(|t| t.to_f32().unwrap()).collect::<Vec<_>>()
        };
        let all = run(0..COUNT);
        for i in [0, 1, 16_383, 16_384, 32_769, 65_535, 65_536, COUNT - 1] {
            let alone = run(i..i + 1);
            for (k, (all, alone)) in all.iter().zip(&alone).enumerate() {
                assert_eq!(all[i].to_bits(), alone[0].to_bits(), "{}: state {k} of element {i}", step.name());
            }
            assert_ne!(all[0][i], values[1][i], "{}: element {i} did not move", step.name());
        }
    }
}

#[test]
fn error_messages() {
    let shape = |extents: &[usize]| Shape::new(extents).unwrap();
    let message = |op: &dyn Op, inputs: &[Shape]| op.infer(inputs).unwrap_err().to_string();
    let text = message(&Add, &[shape(&[2, 3]), shape(&[2, 4])]);
    assert!(text.contains("[2, 3]") && text.contains("[2, 4]") && text.contains("broadcast"), "{text}");
    let text = message(&Concat { dim: 1 }, &[shape(&[2, 3, 4]), shape(&[2, 3, 5])]);
    assert!(text.contains("input 1 is [2, 3, 5]") && text.contains("axis 1"), "{text}");
    assert!(message(&Concat { dim: 0 }, &[]).contains("at least one"));
    let text = message(&Concat { dim: 3 }, &[shape(&[2, 3, 4])]);
    assert!(text.contains("no axis 3"), "{text}");
    assert!(Concat { dim: 0 }.infer(&[shape(&[usize::MAX]), shape(&[2])]).is_err());
    let text = message(&Narrow { dim: 1, start: 2, len: 2 }, &[shape(&[2, 3])]);
    assert!(text.contains("length 2 at position 2"), "{text}");
    assert!(Narrow { dim: 1, start: usize::MAX, len: 2 }.infer(&[shape(&[2, 3])]).is_err());
    assert!(NarrowGrad { dim: 0, start: 2, extent: 3 }.infer(&[shape(&[2])]).is_err());
    assert!(SumTo { shape: shape(&[3]) }.infer(&[shape(&[2, 4])]).is_err());
    assert!(Expand { shape: shape(&[4]) }.infer(&[shape(&[2, 4])]).is_err());
    assert!(Reshape { shape: shape(&[5]) }.infer(&[shape(&[2, 3])]).is_err());
    assert!(message(&Add, &[shape(&[1])]).contains("expects 2 inputs"));
}

/// Shapes only: a result on the meta device has no values that could be wrong; a tensor without values is no input of a device.
#[test]
fn inputs_on_different_devices_are_errors() {
    let on = |device| Tensor::zeros([2], &device).unwrap();
    let [cpu, reference, meta] = [Device::Cpu, Device::Reference, Device::Meta].map(on);
    for (inputs, found) in [
        ([&cpu, &meta], "input 0 on cpu, input 1 on meta"),
        ([&reference, &meta], "input 0 on reference, input 1 on meta"),
        ([&cpu, &reference], "input 0 on cpu, input 1 on reference"),
    ] {
        let e = run_single(&Add, &inputs).unwrap_err().to_string();
        assert!(e.contains(found) && e.contains("move them with to_device"), "{e}");
    }
    let shapes = run_single(&Add, &[&meta, &cpu]).unwrap();
    assert_eq!((shapes.device(), shapes.shape().extents()), (Device::Meta, &[2][..]));
    assert!(shapes.to_f32().unwrap_err().to_string().contains("no data"));
}
