//! Traces of networks: what was computed without the tape is not a constant of the plan.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use neocog_autograd::{Param, Tape, Var};
use neocog_layers::{Context, Layer, Predictor, TrainPass, Visitor, state};
use neocog_tensor::ops::{Add, Mul, Relu, Scale, Sub};
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

/// `x w + c(w)`, where `c` is computed without the tape.
#[derive(Debug)]
struct Captured {
    w: Param,
}

impl Layer for Captured {
    fn label(&self) -> &str {
        "Captured"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let tape = context.tape();
        let c = Var::constant(run_single(&Scale { factor: 0.01 }, &[&self.w.value()])?);
        let product = tape.apply_single(Mul, &[input, &tape.param(&self.w)])?;
        tape.apply_single(Add, &[&product, &c])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("w", &self.w);
    }
}

/// A factor that is an attribute of an operation, and changes with the parameter.
#[derive(Debug)]
struct Attribute {
    w: Param,
}

impl Layer for Attribute {
    fn label(&self) -> &str {
        "Attribute"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let factor = self.w.value().to_f64()?[0];
        let scaled = context.tape().apply_single(Scale { factor }, &[input])?;
        context.tape().apply_single(Add, &[&scaled, &context.tape().param(&self.w)])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("w", &self.w);
    }
}

fn number(value: f32) -> Tensor {
    Tensor::full([1], f64::from(value), &Device::Cpu).unwrap()
}

#[test]
fn what_changes_from_step_to_step_is_not_a_constant_of_the_pass() {
    let w = || Param::new(number(1.0));
    let layers: [(Arc<dyn Layer>, &str); 2] = [
        (Arc::new(Captured { w: w() }), "a constant of the operation add"),
        (Arc::new(Attribute { w: w() }), "an attribute of the operation scale"),
    ];
    for (layer, reason) in layers {
        let pass = TrainPass::new(layer.clone());
        // Traced before the first step.
        assert_eq!(pass.reason(&[1].into(), &Device::Cpu).unwrap(), None);
        for step in 0..5 {
            state::params(&*layer)[0].1.set(&number(2.0 + step as f32)).unwrap();
            let run = |traced: bool| {
                let tape = Tape::new();
                let x = Var::constant(number(3.0));
                let y = match traced {
                    true => pass.run(&tape, &x, 0),
                    false => Context::train(&tape, 0).run(&*layer, &x),
                };
                y.unwrap().tensor().item().unwrap()
            };
            assert_eq!(run(true), run(false), "step {step} of {layer:?}");
        }
        let found = pass.reason(&[1].into(), &Device::Cpu).unwrap().unwrap().to_string();
        assert!(found.starts_with(reason) && found.contains("changes from step to step"), "{found}");
    }
}

/// A student minus a frozen teacher, that has its weight from the student.
#[derive(Debug)]
struct Difference {
    student: Param,
    teacher: Param,
}

impl Layer for Difference {
    fn label(&self) -> &str {
        "Difference"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let tape = context.tape();
        let by = |param| tape.apply_single(Mul, &[input, &tape.param(param)]);
        tape.apply_single(Sub, &[&by(&self.student)?, &by(&self.teacher)?])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("student", &self.student);
        visitor.param("teacher", &self.teacher);
    }
}

#[test]
fn parameters_that_share_memory_are_not_confused() {
    let layer = Arc::new(Difference { student: Param::new(number(1.0)), teacher: Param::new(number(0.0)) });
    layer.teacher.set(&layer.student.value()).unwrap();
    layer.teacher.set_frozen(true);
    let pass = TrainPass::new(layer.clone() as Arc<dyn Layer>);
    for (value, expected) in [(1.0, 0.0), (5.0, 8.0)] {
        layer.student.set(&number(value)).unwrap();
        let tape = Tape::new();
        let y = pass.run(&tape, &Var::constant(number(2.0)), 0).unwrap();
        assert_eq!(y.tensor().item().unwrap(), expected);
        let grads = tape.backward(&y).unwrap();
        assert_eq!(grads.param(&layer.student).unwrap().item().unwrap(), 2.0);
        assert!(grads.param(&layer.teacher).is_none());
    }
    assert_eq!(pass.reason(&[1].into(), &Device::Cpu).unwrap(), None);
}
