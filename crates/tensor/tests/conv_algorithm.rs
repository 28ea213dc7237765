//! `NEOCOG_CONV` requests a convolution algorithm. The variable is read once, so each test runs itself again in a process that
//! has it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use neocog_tensor::cases::CaseInput;
use neocog_tensor::ops::{
    Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad, conv_algorithms, requested_algorithm,
};
use neocog_tensor::{Device, ErrorKind, Op, Shape, Tensor, profile, run_single};

const VARIABLE: &str = "NEOCOG_CONV";

/// Runs the test of this name in a process with the variable, unless this is that process.
fn is_with(value: &str, test: &str) -> bool {
    if std::env::var(VARIABLE).is_ok_and(|set| set == value) {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env(VARIABLE, value);
    assert!(again.status().unwrap().success());
    false
}

fn tensor(shape: impl Into<Shape>, device: &Device) -> Tensor {
    let shape = shape.into();
    Tensor::from_f32(shape, &CaseInput::uniform(shape).make(1), device).unwrap()
}

/// Runs an operation on the CPU and compares it with the reference.
fn check(op: &dyn Op, shapes: [[usize; 4]; 2]) {
    let run = |device: &Device| {
        let [a, b] = shapes.map(|shape| tensor(shape, device));
        run_single(op, &[&a, &b]).unwrap().to_f64().unwrap()
    };
    let (got, exact) = (run(&Device::Cpu), run(&Device::Reference));
    let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    assert!(got.iter().zip(&exact).all(|(g, e)| (g - e).abs() <= 1e-5 * largest), "{}", op.name());
}

#[test]
fn the_requested_algorithm_computes_what_it_can() {
    if !is_with("winograd", "the_requested_algorithm_computes_what_it_can") {
        return;
    }
    let computed = || requested_algorithm().unwrap().unwrap().computed;
    assert_eq!((requested_algorithm().unwrap().unwrap().name, computed()), ("winograd", 0));
    // Two channels of one small image: not what it is chosen for.
    let (x, weight, y) = ([1, 2, 5, 6], [3, 2, 3, 3], [1, 3, 3, 4]);
    let geometry = Conv2dGeometry::default();
    let forward = Conv2d::new(geometry, None);
    let names = conv_algorithms(&forward, &[x.into(), weight.into()], &Device::Cpu).unwrap();
    assert_eq!(names[0], "winograd");
    let ((), rows) = profile::record(|| check(&forward, [x, weight]));
    assert!(rows.iter().any(|row| row.op == "conv2d" && row.algorithm == Some("winograd")), "{rows:?}");
    assert_eq!(computed(), 1);
    check(&Conv2dInputGrad { geometry, input_size: [5, 6] }, [y, weight]);
    assert_eq!(computed(), 2);
    let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [3, 3] };
    let (large_x, large_y) = ([3, 2, 12, 12], [3, 3, 10, 10]);
    check(&weight_grad, [large_x, large_y]);
    assert_eq!(computed(), 3);
    // Nor, exactly enough, a weight gradient of so few terms.
    let names = conv_algorithms(&weight_grad, &[x.into(), y.into()], &Device::Cpu).unwrap();
    assert!(!names.contains(&"winograd"), "{names:?}");
    check(&weight_grad, [x, y]);
    assert_eq!(computed(), 3);
    // It cannot compute strides: the next by cost does.
    let strided = Conv2d::new(Conv2dGeometry { stride: [2, 1], ..geometry }, None);
    check(&strided, [x, weight]);
    assert_eq!(computed(), 3);
}

#[test]
fn an_unknown_algorithm_is_an_error() {
    if !is_with("winogard", "an_unknown_algorithm_is_an_error") {
        return;
    }
    let x = tensor([1, 1, 3, 3], &Device::Cpu);
    let error = run_single(&Conv2d::default(), &[&x, &x]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    for name in [
        "NEOCOG_CONV",
        "did you mean `winograd`",
        "batch_vectorized",
        "channel_blocked",
        "col2im",
        "conv1x1",
        "implicit_gemm",
    ] {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(requested_algorithm().unwrap_err().kind(), ErrorKind::NotFound);
}

/// Behind a ReLU all terms of a weight gradient may be 0: the sum is, too, whatever computes it.
#[test]
fn weight_gradients_of_few_terms_that_are_all_zero_are_zero() {
    let only = |pixel: usize| {
        let shape = Shape::from([4, 16, 6, 6]);
        let values = CaseInput::uniform(shape).make(1).into_iter().enumerate();
        let values: Vec<f32> = values.map(|(i, v)| if i % 36 == pixel { v } else { 0.0 }).collect();
        Tensor::from_f32(shape, &values, &Device::Cpu).unwrap()
    };
    // Pixel 0, 0 and output 3, 3 are in the same tile, but no window of the output holds the pixel.
    let geometry = Conv2dGeometry { padding: [1; 2], ..Conv2dGeometry::default() };
    let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [3, 3] };
    let dw = run_single(&weight_grad, &[&only(0), &only(3 * 6 + 3)]).unwrap().to_f32().unwrap();
    assert!(dw.iter().all(|&v| v == 0.0), "{:?}", dw.iter().find(|&&v| v != 0.0));
}
