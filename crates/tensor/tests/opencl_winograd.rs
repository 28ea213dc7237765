//! The error of the Winograd algorithm on OpenCL processors against the reference, with the bound of the CPU kernels. In its own process,
//! because launches are counted for the whole device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Mutex, PoisonError};

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

/// Returns the result of `op` and the exact one, for uniformly distributed inputs, the first of which is changed by `change`. It must
/// launch `kernel` if the device is a processor.
fn results(
    op: &dyn Op,
    shapes: [[usize; 4]; 2],
    id: DeviceId,
    kernel: &str,
    change: impl Fn(&mut [f32]),
) -> (Vec<f32>, Vec<f64>) {
    let run_on = |device: &Device| {
        let inputs = shapes.iter().enumerate().map(|(i, shape)| {
            let mut values = CaseInput::uniform(*shape).make(i as u64);
            if i == 0 {
                change(&mut values);
            }
            Tensor::from_f32(*shape, &values, device).unwrap()
        });
        let inputs: Vec<Tensor> = inputs.collect();
        run_single(op, &inputs.iter().collect::<Vec<_>>()).unwrap()
    };
    // Launches are counted for the whole device.
    static COUNTING: Mutex<()> = Mutex::new(());
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let launches = || id.launches().unwrap().get(kernel).copied().unwrap_or(0);
    let before = launches();
    let got = run_on(&Device::OpenCl(id)).to_f32().unwrap();
    let expected = u64::from(id.info().unwrap().kind == Kind::Cpu);
    assert_eq!(launches() - before, expected, "{} of {shapes:?} and {kernel}", op.name());
    (got, run_on(&Device::Reference).to_f64().unwrap())
}

/// Returns the deviation of `op`.
fn error(op: &dyn Op, shapes: [[usize; 4]; 2], id: DeviceId, kernel: &str) -> f64 {
    let (got, exact) = results(op, shapes, id, kernel, |_| ());
    deviation(&got, &exact)
}

/// Pixels that are far from the others, and their values.
const FAR: [f32; 9] = [1e2, 1e4, 1e6, 1e8, 1e20, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

#[test]
fn one_far_pixel_changes_no_result_that_does_not_depend_on_it() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    for (kernel, padding, flip, channels) in [(3, 1, false, 64), (3, 1, true, 64), (5, 2, false, 48)] {
        let geometry = Conv2dGeometry { padding: [padding; 2], flip, ..Conv2dGeometry::default() };
        let [x, weight] = [[2, channels, 32, 30], [channels, channels, kernel, kernel]];
        let plane = 32 * 30;
        for far in FAR {
            // The second image, channel 5, row 13, column 18.
            let at = (channels + 5) * plane + 13 * 30 + 18;
            let input_grad = Conv2dInputGrad { geometry, input_size: [32, 30] };
            let ops: [&dyn Op; 2] = [&Conv2d::new(geometry, None), &input_grad];
            for op in ops {
                let (got, exact) = results(op, [x, weight], id, "convolve", |x| x[at] = far);
                let depends = |i: &usize| {
                    let (image, row, column) = (i / (channels * plane), i / 30 % 32, i % 30);
                    image == 1 && row.abs_diff(13) <= padding && column.abs_diff(18) <= padding
                };
                let off =
                    (0..got.len()).filter(|i| !depends(i)).map(|i| (f64::from(got[i]) - exact[i]).abs());
                // NaN is worst.
                let worst = off.fold(0.0f64, |a, v| if v <= a { a } else { v });
                assert!(worst < 2e-4, "{} {kernel}x{kernel} with {far}: {worst:e}", op.name());
            }
            // A corner, which only some taps reach.
            let weight_grad = Conv2dWeightGrad { geometry, kernel_size: [kernel; 2] };
            let corner = 5 * plane;
            let (got, exact) = results(&weight_grad, [x, x], id, "filter_grad", |x| x[corner] = far);
            let taps = kernel * kernel;
            let depends = |i: &usize| {
                let tap = if flip { taps - 1 - i % taps } else { i % taps };
                i / taps % channels == 5 && tap / kernel <= padding && tap % kernel <= padding
            };
            let off = (0..got.len()).filter(|i| !depends(i)).map(|i| (f64::from(got[i]) - exact[i]).abs());
            let worst = off.fold(0.0f64, |a, v| if v <= a { a } else { v });
            assert!(worst < 1e-3, "weight gradient {kernel}x{kernel} with {far}: {worst:e}");
        }
    }
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
