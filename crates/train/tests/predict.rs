//! Predictions that are not finite are errors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_layers::{Builder, LayerSpec, Linear, Predictor, state};
use neocog_tensor::{Device, ErrorKind, Tensor};
use neocog_train::predict;

/// Finite weights whose outputs overflow, and weights that do not.
#[test]
fn outputs_that_are_not_finite_are_errors() {
    let spec = LayerSpec::from(Linear::new(2, 2));
    let network = Builder::new(&Device::Cpu, 0).build(&spec, &[1, 2].into()).unwrap();
    let new = |values: &[f32]| Tensor::from_f32([2, 2], values, &Device::Cpu).unwrap();
    let params = state::params(&*network);
    params[0].1.set(&new(&[3e38, 3e38, -3e38, 3e38])).unwrap();
    params[1].1.set(&Tensor::zeros([2], &Device::Cpu).unwrap()).unwrap();
    drop(params);
    let predictor = Predictor::new(network);
    let fine = predict(&predictor, &new(&[0.0, 0.0, 1.0, 0.0])).unwrap();
    assert_eq!(fine[0].classes, [(0, 0.5), (1, 0.5)]);
    let e = predict(&predictor, &new(&[1.0, 0.0, 1.0, 1.0])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("the outputs of the network for image 2 of 2 are not finite"), "{e}");
}
