//! Whole networks: what they print, how they are run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var};
use neocog_layers::{Builder, Context, Layer, Observer, Seen, print, state};
use neocog_models::Model;
use neocog_tensor::random::Random;
use neocog_tensor::{Device, Tensor};

fn build(name: &str, device: &Device) -> (Model, Box<dyn Layer>) {
    let model = neocog_models::find(name).unwrap();
    let network = Builder::new(device, 1).build(&model.spec().unwrap(), &model.input_shape(2)).unwrap();
    (model, network)
}

#[test]
fn networks_print_as_in_pytorch() {
    for (name, expected) in [
        ("lenet", include_str!("../structures/lenet.txt")),
        ("lenet_bn", include_str!("../structures/lenet_bn.txt")),
    ] {
        let (_, network) = build(name, &Device::Cpu);
        assert_eq!(print::pytorch(&*network), expected.trim_end(), "{name}");
    }
}

#[test]
fn networks_have_as_many_parameters_as_in_the_book() {
    for (name, expected) in [("lenet", 44_426), ("lenet_bn", 44_878), ("lenet_bn_scratch", 44_878)] {
        assert_eq!(state::param_count(&*build(name, &Device::Cpu).1), expected, "{name}");
    }
}

struct Nobody;

impl Observer for Nobody {
    fn output(&self, _seen: &Seen<'_>) {}
}

/// Output and gradients of the sum of squares of the output, fused or, with someone who looks on, layer by layer.
fn pass(name: &str, device: &Device, training: bool, observed: bool) -> Vec<(String, Vec<f64>)> {
    let (model, network) = build(name, device);
    let shape = model.input_shape(3);
    let mut random = Random::new(4);
    let x: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    let tape = Tape::new();
    let x = tape.leaf(Tensor::from_f32(shape, &x, device).unwrap());
    let context = if training { Context::train(&tape, 0) } else { Context::eval(&tape) };
    let context = if observed { context.observed(&Nobody) } else { context };
    let y = context.run(&*network, &x).unwrap();
    let mut all = vec![("output".to_string(), y.tensor().to_f64().unwrap())];
    let grads = tape.backward_from(&[(&y, y.tensor().clone())]).unwrap();
    all.push(("input".into(), grads.of(&x).unwrap().to_f64().unwrap()));
    for (name, param) in state::params(&*network) {
        all.push((name, grads.param(param).unwrap().to_f64().unwrap()));
    }
    all
}

#[test]
fn layers_fused_with_their_activations_give_the_same() {
    for (device, allowed) in [(Device::Reference, 1e-12), (Device::Cpu, 1e-5)] {
        for name in ["lenet", "lenet_bn", "lenet_bn_scratch"] {
            for training in [false, true] {
                let fused = pass(name, &device, training, false);
                let single = pass(name, &device, training, true);
                let size = fused.iter().flat_map(|(_, v)| v).fold(0.0f64, |a, v| a.max(v.abs()));
                for ((what, a), (_, b)) in fused.iter().zip(&single) {
                    let off = a.iter().zip(b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                    assert!(
                        off <= allowed * size,
                        "{name} on {device}, training {training}, {what}: {off:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_input_that_does_not_fit_is_an_error_with_the_way_to_the_layer() {
    let (model, network) = build("lenet", &Device::Cpu);
    let tape = Tape::no_grad();
    let wrong = Var::constant(Tensor::zeros([2, 3, 28, 28], &Device::Cpu).unwrap());
    let error = Context::eval(&tape).run(&*network, &wrong).unwrap_err().to_string();
    assert!(error.starts_with("conv (Sequential) / 0 (Conv2d)"), "{error}");
    let error = Builder::new(&Device::Cpu, 0)
        .build(&model.spec().unwrap(), &[1, 1, 32, 32].into())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("fc (Sequential) / 0 (Linear)"), "{error}");
}
