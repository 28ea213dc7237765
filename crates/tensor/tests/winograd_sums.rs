//! Sums of outputs of the Winograd algorithm against the reference, on the CPU and on OpenCL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::cases::CaseInput;
use neocog_tensor::ops::{Conv2d, Conv2dGeometry};
use neocog_tensor::{Device, Tensor, run_single};

#[test]
fn errors_do_not_add_up_over_an_image() {
    // Many tiles of positive pixels: a rounding error of a filter would be the same in all of them.
    let geometry = Conv2dGeometry { padding: [1, 1], ..Conv2dGeometry::default() };
    let (x, weight) = ([16, 32, 24, 24], [32, 32, 3, 3]);
    let pixels: Vec<f32> = CaseInput::uniform(x).make(0).iter().map(|v| v + 4.0).collect();
    let weights = CaseInput::uniform(weight).make(1);
    let sums = |device: &Device| -> Vec<f64> {
        let inputs = [Tensor::from_f32(x, &pixels, device), Tensor::from_f32(weight, &weights, device)];
        let [x, weight] = inputs.map(Result::unwrap);
        let y = run_single(&Conv2d::new(geometry, None), &[&x, &weight]).unwrap();
        let all = y.to_f64().unwrap();
        let means = all.chunks(24 * 24).map(|plane| plane.iter().sum::<f64>() / 576.0);
        let means: Vec<f64> = means.collect();
        // The mean of each channel over all images.
        (0..32).map(|c| means.iter().skip(c).step_by(32).sum::<f64>() / 16.0).collect()
    };
    let exact = sums(&Device::Reference);
    let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let mut devices = vec![Device::Cpu];
    devices.extend(require("opencl", "opencl".parse::<Device>()));
    for device in devices {
        let off = sums(&device).iter().zip(&exact).fold(0.0f64, |a, (s, e)| a.max((s - e).abs()));
        println!("{device}: {:e}", off / largest);
        assert!(off / largest < 1.5e-8, "{device}: the means of channels are off by {:e}", off / largest);
    }
}
