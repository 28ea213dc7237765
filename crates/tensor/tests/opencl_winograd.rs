//! The error of the Winograd algorithm on OpenCL processors against the reference, with the bound of the CPU kernels. In its own process,
//! because launches are counted for the whole device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::cases::CaseInput;
use neocog_tensor::opencl::{DeviceId, Kind};
use neocog_tensor::ops::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad};
use neocog_tensor::{Device, Op, Shape, Tensor, run_single};

/// Returns the largest deviation, relative to the largest value.
fn deviation(got: &[f32], exact: &[f64]) -> f64 {
    let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let off = got.iter().zip(exact).map(|(g, e)| (f64::from(*g) - e).abs());
    off.fold(0.0, |a, v| if v.is_nan() { f64::INFINITY } else { a.max(v) }) / largest
}

/// Returns the deviation of `op`, which must launch `kernel` if the device is a processor.
fn error(op: &dyn Op, shapes: [[usize; 4]; 2], id: DeviceId, kernel: &str) -> f64 {
    let run_on = |device: &Device| {
        let inputs = shapes.iter().enumerate().map(|(i, shape)| {
            Tensor::from_f32(*shape, &CaseInput::uniform(*shape).make(i as u64), device).unwrap()
        });
        let inputs: Vec<Tensor> = inputs.collect();
        run_single(op, &inputs.iter().collect::<Vec<_>>()).unwrap()
    };
    let launches = || id.launches().unwrap().get(kernel).copied().unwrap_or(0);
    let before = launches();
    let got = run_on(&Device::OpenCl(id)).to_f32().unwrap();
    let expected = u64::from(id.info().unwrap().kind == Kind::Cpu);
    assert_eq!(launches() - before, expected, "{} of {shapes:?} and {kernel}", op.name());
    deviation(&got, &run_on(&Device::Reference).to_f64().unwrap())
}

#[test]
fn errors_are_small_on_every_shape() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    let shapes = [
        ([3, 48, 9, 12], 17, 3, [1, 1], true),
        ([1, 64, 5, 150], 33, 3, [2, 2], false),
        ([2, 64, 24, 24], 64, 3, [1, 1], false),
        ([8, 128, 6, 6], 104, 3, [1, 1], false),
        ([48, 160, 3, 3], 144, 3, [1, 1], false),
        ([4, 40, 9, 11], 48, 5, [2, 1], true),
        ([4, 64, 12, 12], 48, 5, [0, 0], false),
    ];
    for (x, out, kernel, padding, flip) in shapes {
        let geometry = Conv2dGeometry { padding, flip, ..Conv2dGeometry::default() };
        let [oh, ow] = geometry.output_size([x[2], x[3]], [kernel; 2]).unwrap();
        let (weight, dy) = ([out, x[1], kernel, kernel], [x[0], out, oh, ow]);
        let input_grad = Conv2dInputGrad { geometry, input_size: [x[2], x[3]] };
        let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [kernel; 2] };
        let errors = [
            error(&Conv2d::new(geometry, None), [x, weight], id, "convolve"),
            error(&input_grad, [dy, weight], id, "convolve"),
            error(&weight_grad, [x, dy], id, "filter_grad"),
        ];
        for (error, terms) in errors.iter().zip([x[1], out, x[0] * oh * ow]) {
            // Rounding errors grow with the root of the number of terms.
            let allowed = 1e-6 + 2e-7 * (terms as f64).sqrt();
            assert!(
                *error < allowed,
                "{} to {out}: {errors:?}, allowed {allowed:e}",
                Shape::new(&x).unwrap()
            );
        }
    }
}
