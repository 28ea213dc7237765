//! Results near 0 keep their digits, and values beyond single precision are no plausible numbers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_tensor::ops::{self, AxisMap};
use neocog_tensor::{Device, Op, Tensor, run, run_single};

fn devices() -> Vec<Device> {
    let mut all = vec![Device::Cpu, Device::Reference];
    all.extend("opencl".parse::<Device>().ok().filter(|device| Tensor::zeros([1], device).is_ok()));
    all
}

fn run_on(op: &dyn Op, values: &[f64], device: &Device) -> Vec<f64> {
    let x = Tensor::from_f64([values.len()], values, device).unwrap();
    run_single(op, &[&x]).unwrap().to_f64().unwrap()
}

/// Checks a function on all devices, relative to its values.
fn assert_digits(op: &dyn Op, exact: impl Fn(f64) -> f64, values: &[f64]) {
    for device in devices() {
        let allowed = if device == Device::Reference { 1e-14 } else { 2e-6 };
        for (x, found) in values.iter().zip(run_on(op, values, &device)) {
            // What the device has in place of the value.
            let x = if device == Device::Reference { *x } else { f64::from(*x as f32) };
            let expected = exact(x);
            let off = (found - expected).abs();
            assert!(
                off <= allowed * expected.abs(),
                "{op:?} of {x:e} on {device}: {found:e}, not {expected:e}"
            );
        }
    }
}

#[test]
fn exponentials_keep_their_digits_near_zero() {
    let negative: Vec<f64> = (-9..=1).map(|e| -(10f64.powi(e))).collect();
    for alpha in [1.0, 0.5] {
        assert_digits(&ops::Elu { alpha }, |x| alpha * x.exp_m1(), &negative);
    }
    let values = [-60.0, -30.0, -18.0, -9.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 9.0, 30.0];
    assert_digits(&ops::Softplus, |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p(), &values);
}

#[test]
fn a_variance_beyond_single_precision_gives_no_numbers() {
    let values: Vec<f64> = [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, 5.0].map(|v| v * 1e30).to_vec();
    for device in devices() {
        let x = Tensor::from_f64([1, 1, 8], &values, &device).unwrap();
        let op = ops::BatchNormTrain { eps: 1e-5, activation: None };
        let found = run(&op, &[&x]).unwrap()[0].to_f64().unwrap();
        if device == Device::Reference {
            assert!((found[7] - 1.436).abs() < 0.1, "{found:?}");
        } else {
            assert!(found.iter().all(|v| v.is_nan()), "{device}: {found:?}");
        }
    }
}

#[test]
fn what_an_average_does_not_see_may_be_no_number() {
    let mut values = vec![1.0; 8];
    values[3] = f64::NAN;
    for device in devices() {
        let op = ops::Resample { dim: 0, map: AxisMap::adaptive_average(8, 3).unwrap(), transposed: false };
        let found = run_on(&op, &values, &device);
        assert!(found[0] == 1.0 && found[1].is_nan() && found[2] == 1.0, "{device}: {found:?}");
    }
}
