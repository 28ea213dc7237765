//! A pass or a prediction that is traced computes what the network computes layer by layer, whatever a layer does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use neocog_autograd::{Param, Tape, Var};
use neocog_layers::{
    Buffer, Builder, Context, Counter, Layer, LayerNorm, Predictor, StateUpdate, TrainPass, Visitor,
};
use neocog_tensor::ops::{Add, MaxPool2d, Mul, Pow, Relu, Scale};
use neocog_tensor::{Device, Result, Shape, Tensor};

type Forward = fn(&Net, &Context<'_>, &Var) -> Result<Var>;

/// A layer of one function, with parameters that it passes to visitors, and hidden ones.
struct Net {
    params: Vec<Param>,
    hidden: Vec<Param>,
    counter: Counter,
    /// What the function may depend on besides.
    number: AtomicUsize,
    forward: Forward,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Layer for Net {
    fn label(&self) -> &str {
        "Net"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        (self.forward)(self, context, input)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.params.iter().zip(["a", "b"]).for_each(|(param, name)| visitor.param(name, param));
        visitor.counter("counter", &self.counter);
    }
}

fn number(value: f64) -> Tensor {
    Tensor::full([1], value, &Device::Cpu).unwrap()
}

fn net(params: &[f64], hidden: &[f64], forward: Forward) -> Arc<Net> {
    let all = |values: &[f64]| values.iter().map(|value| Param::new(number(*value))).collect();
    Arc::new(Net {
        params: all(params),
        hidden: all(hidden),
        counter: Counter::default(),
        number: AtomicUsize::new(0),
        forward,
    })
}

fn layers(net: &Arc<Net>) -> Arc<dyn Layer> {
    net.clone()
}

const ONE: fn() -> Shape = || [1].into();

/// Runs a step of a pass and the network layer by layer on `x`, and checks that the results are the same.
fn assert_same(net: &Net, pass: &TrainPass, x: &Tensor, step: u64) {
    let (tape, other) = (Tape::new(), Tape::new());
    let traced = pass.run(&tape, &tape.leaf(x.clone()), step).unwrap();
    let expected = Context::train(&other, step).run(net, &other.leaf(x.clone())).unwrap();
    let values = |var: &Var| var.tensor().to_f64().unwrap();
    assert_eq!(values(&traced), values(&expected), "step {step}");
}

#[test]
fn numbers_are_constants_of_a_trace() {
    let net = net(&[2.0], &[], |net, context, x| {
        let w = context.tape().param(&net.params[0]);
        1.0 - &(&(x * 2.0)? - &(&w + 0.5)?)?
    });
    let (predictor, pass) = (Predictor::new(layers(&net)), TrainPass::new(layers(&net)));
    assert_eq!(predictor.reason(&ONE(), &Device::Cpu).unwrap(), None);
    assert_eq!(pass.reason(&ONE(), &Device::Cpu).unwrap(), None);
    assert_eq!(predictor.run(&number(3.0)).unwrap().item().unwrap(), -2.5);
    assert_same(&net, &pass, &number(3.0), 0);
}

#[test]
fn a_parameter_may_be_the_first_operand() {
    let net = net(&[2.0], &[], |net, context, x| {
        context.tape().apply_single(Mul, &[&context.tape().param(&net.params[0]), x])
    });
    let (predictor, pass) = (Predictor::new(layers(&net)), TrainPass::new(layers(&net)));
    assert_eq!(predictor.reason(&ONE(), &Device::Cpu).unwrap(), None);
    assert!(predictor.inference_bytes(&ONE()).unwrap() > 0);
    assert_same(&net, &pass, &number(3.0), 0);
    assert_eq!(predictor.run(&number(3.0)).unwrap().item().unwrap(), 6.0);
}

#[test]
fn an_activation_stays_before_a_pooling_whose_indices_are_used() {
    let net = net(&[], &[], |_, context, x| {
        let tape = context.tape();
        let pool = MaxPool2d {
            kernel_size: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            return_indices: true,
        };
        let pooled = tape.apply(pool, &[&tape.apply_single(Relu, &[x])?])?;
        tape.apply_single(Add, &[&pooled[0], &pooled[1]])
    });
    let pass = TrainPass::new(layers(&net));
    let x = Tensor::from_f32([1, 1, 2, 2], &[-4.0, -3.0, -2.0, -1.0], &Device::Cpu).unwrap();
    assert_same(&net, &pass, &x, 0);
    assert_eq!(pass.reason(x.shape(), &Device::Cpu).unwrap(), None);
}

#[test]
fn another_parameter_in_each_step_is_noticed() {
    let net = net(&[10.0, 20.0], &[], |net, context, x| {
        let param = &net.params[net.number.load(Ordering::Relaxed) % 2];
        context.tape().apply_single(Mul, &[x, &context.tape().param(param)])
    });
    let pass = TrainPass::new(layers(&net));
    for step in 0..6 {
        net.number.store(step, Ordering::Relaxed);
        assert_same(&net, &pass, &number(1.0), step as u64);
    }
    let reason = pass.reason(&ONE(), &Device::Cpu).unwrap().unwrap().to_string();
    assert_eq!(reason, "which parameters are used, or what is the output, changes from step to step");
}

#[test]
fn another_order_of_operands_in_each_step_is_noticed() {
    let net = net(&[], &[], |net, context, x| {
        let tape = context.tape();
        let both = [tape.apply_single(Relu, &[x])?, tape.apply_single(Relu, &[x])?];
        let scaled = tape.apply_single(Scale { factor: 3.0 }, &[&both[0]])?;
        let other = if net.number.load(Ordering::Relaxed) == 0 { &both[1] } else { &scaled };
        tape.apply_single(Add, &[&scaled, other])
    });
    let pass = TrainPass::new(layers(&net));
    for step in 0..3 {
        net.number.store(step, Ordering::Relaxed);
        assert_same(&net, &pass, &number(1.0), step as u64);
    }
    let reason = pass.reason(&ONE(), &Device::Cpu).unwrap().unwrap().to_string();
    assert!(reason.starts_with("an input of the operation add"), "{reason}");
}

#[test]
fn hidden_parameters_cannot_be_traced() {
    for frozen in [false, true] {
        let net = net(&[1.0], &[5.0], |net, context, x| {
            context.tape().apply_single(Mul, &[x, &context.tape().param(&net.hidden[0])])
        });
        net.hidden[0].set_frozen(frozen);
        let (predictor, pass) = (Predictor::new(layers(&net)), TrainPass::new(layers(&net)));
        assert_eq!(predictor.run(&number(1.0)).unwrap().item().unwrap(), 5.0);
        net.hidden[0].set(&number(7.0)).unwrap();
        assert_eq!(predictor.run(&number(1.0)).unwrap().item().unwrap(), 7.0);
        assert_same(&net, &pass, &number(1.0), 0);
        for reason in [predictor.reason(&ONE(), &Device::Cpu), pass.reason(&ONE(), &Device::Cpu)] {
            let reason = reason.unwrap().unwrap().to_string();
            assert_eq!(reason, "a layer uses a parameter that it does not pass to the visitor");
        }
    }
}

#[test]
fn methods_of_a_frozen_parameter_are_computed_in_each_step() {
    let by_method: Forward = |net, context, x| {
        let square = context.tape().param(&net.params[0]).square()?;
        context.tape().apply_single(Mul, &[x, &square])
    };
    let by_operation: Forward = |net, context, x| {
        let tape = context.tape();
        let square = tape.apply_single(Pow { exponent: 2.0 }, &[&tape.param(&net.params[0])])?;
        tape.apply_single(Mul, &[x, &square])
    };
    for forward in [by_method, by_operation] {
        let net = net(&[2.0, 1.0], &[], forward);
        net.params[0].set_frozen(true);
        let pass = TrainPass::new(layers(&net));
        for step in 0..8 {
            if step == 5 {
                net.params[0].set(&number(3.0)).unwrap();
            }
            assert_same(&net, &pass, &number(1.0), step);
        }
        assert_eq!(pass.reason(&ONE(), &Device::Cpu).unwrap(), None);
    }
}

#[test]
fn a_predictor_notices_a_counter() {
    let net = net(&[], &[], |net, context, x| {
        context.tape().apply_single(Scale { factor: net.counter.get() as f64 }, &[x])
    });
    let predictor = Predictor::new(layers(&net));
    assert_eq!(predictor.run(&number(2.0)).unwrap().item().unwrap(), 0.0);
    net.counter.increment();
    assert_eq!(predictor.run(&number(2.0)).unwrap().item().unwrap(), 2.0);
    net.counter.set(4);
    assert_eq!(predictor.run(&number(2.0)).unwrap().item().unwrap(), 8.0);
}

/// An update that sets a buffer to an attribute.
#[derive(Debug)]
struct Set {
    value: usize,
    buffer: Arc<Buffer>,
}

impl StateUpdate for Set {
    fn update(&self, _values: &[&Tensor]) -> Result<()> {
        self.buffer.value().set(&number(self.value as f64))
    }
}

#[derive(Debug)]
struct Setting {
    buffer: Arc<Buffer>,
    value: AtomicUsize,
}

impl Layer for Setting {
    fn label(&self) -> &str {
        "Setting"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let y = context.tape().apply_single(Relu, &[input])?;
        let (value, buffer) = (self.value.load(Ordering::Relaxed), self.buffer.clone());
        context.update(Arc::new(Set { value, buffer }), &[&y])?;
        Ok(y)
    }

    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.buffer("buffer", &self.buffer);
    }
}

#[test]
fn another_update_in_each_step_is_noticed() {
    let buffer = Arc::new(Buffer::new(number(0.0), true));
    let net = Arc::new(Setting { buffer: buffer.clone(), value: AtomicUsize::new(0) });
    let pass = TrainPass::new(net.clone() as Arc<dyn Layer>);
    for step in 0..5 {
        net.value.store(step, Ordering::Relaxed);
        let tape = Tape::new();
        pass.run(&tape, &tape.leaf(number(1.0)), 0).unwrap();
        assert_eq!(buffer.value().value().item().unwrap(), step as f64, "step {step}");
    }
    let reason = pass.reason(&ONE(), &Device::Cpu).unwrap().unwrap().to_string();
    assert_eq!(reason, "an attribute of an update of state changes from step to step");
}

#[test]
fn a_norm_of_single_values_is_its_bias() {
    let network = Builder::new(&Device::Cpu, 0).build(&LayerNorm::new(1).into(), &[3, 1].into()).unwrap();
    let tape = Tape::new();
    let x = tape.leaf(Tensor::full([3, 1], 2.0, &Device::Cpu).unwrap());
    let y = Context::train(&tape, 0).run(&*network, &x).unwrap();
    assert_eq!(y.tensor().to_f32().unwrap(), [0.0; 3]);
}
