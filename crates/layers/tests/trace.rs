//! Traces of networks: what was computed without the tape is not a constant of the plan.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Layer, Predictor, TrainPass, Visitor};
use neocog_tensor::ops::{Add, Relu};
use neocog_tensor::{Device, Result, Tensor, run_single};

/// `x + relu(x)`, where only the sum is recorded.
#[derive(Debug)]
struct PartlyRecorded;

impl Layer for PartlyRecorded {
    fn label(&self) -> &str {
        "PartlyRecorded"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let relu = Var::constant(run_single(&Relu, &[input.tensor()])?);
        context.tape().apply_single(Add, &[input, &relu])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

#[test]
fn values_that_are_not_recorded_are_not_constants_of_a_plan() {
    let network: Arc<dyn Layer> = Arc::new(PartlyRecorded);
    let x = Tensor::from_f32([1, 3], &[-1.0, 2.0, 3.0], &Device::Cpu).unwrap();
    let (predictor, pass) = (Predictor::new(network.clone()), TrainPass::new(network));
    let expected = "an input of the operation add was computed without the tape";
    for reason in [predictor.reason(x.shape(), &Device::Cpu), pass.reason(x.shape(), &Device::Cpu)] {
        let reason = reason.unwrap().unwrap().to_string();
        assert!(reason.starts_with(expected), "{reason}");
    }
    assert_eq!(predictor.run(&x).unwrap().to_f32().unwrap(), [-1.0, 4.0, 6.0]);
    let y = pass.run(&Tape::new(), &Var::constant(x), 0).unwrap();
    assert_eq!(y.tensor().to_f32().unwrap(), [-1.0, 4.0, 6.0]);
}
