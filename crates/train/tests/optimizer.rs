//! Optimizers: shared parameters and errors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Grads, Param, Tape, Var};
use neocog_layers::{Context, Layer, Visitor, state, weights};
use neocog_models::optimizer::{OptimizerConfig, OptimizerKind};
use neocog_tensor::ops::{Mul, Sum};
use neocog_tensor::{Device, ErrorKind, Result, Tensor};
use neocog_train::Optimizer;

/// `x a b`, where `a` and `b` may be one parameter.
#[derive(Debug)]
struct Product {
    params: Vec<Param>,
}

impl Product {
    fn new(values: &[f32]) -> Self {
        let param = |v: &f32| Param::new(Tensor::from_f32([1], &[*v], &Device::Cpu).unwrap());
        Product { params: values.iter().map(param).collect() }
    }
}

impl Layer for Product {
    fn label(&self) -> &str {
        "Product"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let tape = context.tape();
        let (a, b) = (&self.params[0], self.params.last().unwrap());
        let xa = tape.apply_single(Mul, &[input, &tape.param(a)])?;
        tape.apply_single(Mul, &[&xa, &tape.param(b)])
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("a", &self.params[0]);
        visitor.param("b", self.params.last().unwrap());
    }
}

fn grads(network: &dyn Layer) -> Grads {
    let tape = Tape::new();
    let x = Var::constant(Tensor::full([1], 2.0, &Device::Cpu).unwrap());
    let y = Context::train(&tape, 0).run(network, &x).unwrap();
    let loss = tape.apply_single(Sum, &[&y]).unwrap();
    tape.backward(&loss).unwrap()
}

fn optimizer(kind: OptimizerKind, network: &dyn Layer) -> Optimizer {
    Optimizer::new(OptimizerConfig { lr: 0.125, kind }, network).unwrap()
}

fn sgd(network: &dyn Layer) -> Optimizer {
    optimizer(OptimizerKind::sgd(), network)
}

#[test]
fn a_shared_parameter_is_stepped_once_and_saved_under_both_names() {
    let network = Product::new(&[3.0]);
    let mut optimizer = sgd(&network);
    // d(2 p p)/dp = 4 p = 12.
    optimizer.step(&network, &grads(&network), 0.125).unwrap();
    assert_eq!(network.params[0].value().item().unwrap(), 3.0 - 0.125 * 12.0);
    assert_eq!(state::param_count(&network), 1);
    assert_eq!(optimizer.state().iter().map(|s| (s.name.as_str(), s.steps)).collect::<Vec<_>>(), [("a", 1)]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tied.safetensors");
    weights::save(&network, &path).unwrap();
    let untied = Product::new(&[0.0, 0.0]);
    assert_eq!(weights::load(&untied, &path).unwrap().loaded, ["a", "b"]);
    assert_eq!(untied.params[0].value().item().unwrap(), 1.5);
    assert_eq!(untied.params[1].value().item().unwrap(), 1.5);
    let tied = Product::new(&[0.0]);
    weights::load(&tied, &path).unwrap();
    assert_eq!(tied.params[0].value().item().unwrap(), 1.5);
}

#[test]
fn another_network_with_the_same_names_is_an_error() {
    let (network, other) = (Product::new(&[1.0, 2.0]), Product::new(&[1.0, 2.0]));
    let mut optimizer = sgd(&network);
    let e = optimizer.step(&other, &grads(&other), 0.1).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(e.to_string().contains("another network: the parameter a is not the same"), "{e}");
    let e = optimizer.step(&Product::new(&[1.0]), &grads(&network), 0.1).unwrap_err();
    assert!(e.to_string().contains("it has 2 parameters, this one has 1"), "{e}");
    optimizer.step(&network, &grads(&network), 0.1).unwrap();
}

/// Adam's bias correction depends on the count.
#[test]
fn a_parameter_without_a_gradient_does_not_step() {
    let network = Product::new(&[3.0, 2.0]);
    let mut optimizer = sgd(&network);
    let tape = Tape::new();
    let loss = tape.apply_single(Sum, &[&tape.param(&network.params[0])]).unwrap();
    optimizer.step(&network, &tape.backward(&loss).unwrap(), 0.125).unwrap();
    assert_eq!(optimizer.state().iter().map(|s| s.steps).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(network.params[0].value().item().unwrap(), 2.875);
    assert_eq!(network.params[1].value().item().unwrap(), 2.0);
}

#[test]
fn a_failed_step_is_not_counted() {
    // The steps of SGD are one operation, those of LAMB many.
    for kind in [OptimizerKind::sgd(), OptimizerKind::lamb()] {
        let network = Product::new(&[1.0, 2.0]);
        let mut optimizer = optimizer(kind, &network);
        let grads = grads(&network);
        *network.params[1].write().unwrap() = Tensor::zeros([5], &Device::Cpu).unwrap();
        optimizer.step(&network, &grads, 0.1).unwrap_err();
        assert!(optimizer.state().iter().all(|state| state.steps == 0));
        assert_eq!(network.params[0].value().item().unwrap(), 1.0);

        // A parameter that this thread has locked is an error, not a hang.
        let guard = network.params[0].write().unwrap();
        let e = optimizer.step(&network, &grads, 0.1).unwrap_err();
        assert!(e.to_string().contains("locked twice"), "{e}");
        drop(guard);
    }
}
