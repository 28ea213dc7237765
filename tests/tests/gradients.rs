//! Gradients of every registered layer and of whole networks, compared with central differences in double precision; layers on
//! each device, compared with double precision.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::check::Check;
use neocog_layers::check::{check_layer, check_registered, check_registered_on};
use neocog_layers::registry;
use neocog_tensor::Device;
use neocog_tests as _;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gradients_of_every_registered_layer(seed: u64) {
        let checked = check_registered(seed);
        let examples: usize = registry().unwrap().iter().map(|e| e.examples().len()).sum();
        prop_assert_eq!(checked.map_err(|e| TestCaseError::fail(e.to_string()))?, examples);
    }
}

/// Checks all registered layers on `device`. The seeds are fixed, because in single precision the input of a ReLU or a pooling can
/// be on the other side of a kink.
fn layers_on(device: Device) {
    for seed in 0..4 {
        let checked = check_registered_on(&device, seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(checked > 30, "{checked} examples");
    }
}

#[test]
fn layers_on_the_cpu_agree_with_double_precision() {
    layers_on(Device::Cpu);
}

#[cfg(feature = "opencl")]
#[test]
fn layers_on_opencl_agree_with_double_precision() {
    if let Some(device) = neocog_base::testing::require("opencl", "opencl".parse()) {
        layers_on(device);
    }
}

/// Checks samples of the gradient of every parameter, on images of `size` by `size` pixels.
fn network(name: &str, batch: usize, size: usize, samples: usize) {
    let model = neocog_models::find(name).unwrap();
    let [c, ..] = model.input;
    // The gradient of a bias before batch norm is 0, and central differences of a network whose output is about 1 have rounding
    // errors of 1e-9, which the default floor does not allow.
    let check = Check::default().with_samples(samples).with_floor(1e-2);
    let spec = model.spec_for([c, size, size], 10).unwrap();
    let report = check_layer(&spec, &[batch, c, size, size].into(), 3, &check).unwrap();
    let report = report.into_result().unwrap();
    println!("{name}: {} gradients, worst {:.1e}", report.compared, report.worst);
    assert!(report.compared > 10 * samples);
}

#[test]
fn gradients_of_lenet() {
    network("lenet", 2, 28, 8);
}

#[test]
fn gradients_of_lenet_bn() {
    network("lenet_bn", 3, 28, 8);
}

#[test]
fn gradients_of_lenet_bn_scratch() {
    network("lenet_bn_scratch", 3, 28, 8);
}

#[test]
fn gradients_of_alexnet() {
    network("alexnet", 1, 67, 4);
}

#[test]
fn gradients_of_vgg() {
    network("vgg", 1, 32, 2);
    network("vgg_small", 2, 32, 8);
}

#[test]
fn gradients_of_nin() {
    network("nin", 1, 67, 4);
}

#[test]
fn gradients_of_googlenet() {
    network("googlenet", 1, 17, 1);
}

#[test]
fn gradients_of_resnet() {
    network("resnet", 3, 17, 1);
}

#[test]
fn gradients_of_densenet() {
    network("densenet", 3, 32, 2);
}
