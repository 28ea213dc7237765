//! Execution plans: they compute the same as the network layer by layer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_graph::check::check_rewrites;
use neocog_layers::state::{self, Entry};
use neocog_layers::{
    Builder, Context, Dropout, Layer, LayerSpec, Linear, Predictor, Sequential, TrainPass, Visitor,
};
use neocog_models::Model;
use neocog_tensor::ops::Relu;
use neocog_tensor::{Device, Tensor, run_single};
use neocog_tests::devices;

fn random(
    shape: impl Into<neocog_tensor::Shape>,
    seed: u64,
    [low, high]: [f32; 2],
    device: &Device,
) -> Tensor {
    let shape = shape.into();
    let mut random = Random::new(seed);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(low, high)).collect();
    Tensor::from_f32(shape, &values, device).unwrap()
}

/// A network with random running statistics, weights and biases of batch norms, as after training.
fn build(model: &Model, device: &Device) -> Arc<dyn Layer> {
    let network = Builder::new(device, 1).build(&model.spec().unwrap(), &model.input_shape(2)).unwrap();
    for (i, (name, entry)) in state::entries(&*network).into_iter().enumerate() {
        let range = match name.rsplit('.').next().unwrap() {
            "running_var" | "moving_var" => [0.5, 2.0],
            "running_mean" | "moving_mean" => [-0.3, 0.3],
            _ => match &entry {
                Entry::Param(param)
                    if param.shape().elements() == param.shape().iter().copied().max().unwrap_or(0) =>
                {
                    [0.1, 1.1]
                }
                _ => continue,
            },
        };
        let tensor = entry.tensor().unwrap();
        tensor.set(&random(tensor.shape(), i as u64, range, device)).unwrap();
    }
    network.into()
}

fn eager(network: &dyn Layer, x: &Tensor) -> Vec<f64> {
    let tape = Tape::no_grad();
    let y = Context::eval(&tape).run(network, &Var::constant(x.clone())).unwrap();
    y.tensor().to_f64().unwrap()
}

fn models() -> Vec<Model> {
    // vgg differs from vgg_small in width only, and takes long in double precision.
    neocog_models::models_of(neocog_models::Family::Notes)
        .unwrap()
        .into_iter()
        .filter(|m| m.name != "vgg")
        .collect()
}

#[test]
fn plans_agree_with_layers() {
    for (device, allowed) in devices().into_iter().zip([1e-12, 1e-5, 1e-5]) {
        let images = if device == Device::Reference { vec![1] } else { vec![6, 2] };
        for model in &models() {
            if device == Device::Reference
                && !["lenet_bn", "lenet_bn_scratch", "densenet"].contains(&model.name)
            {
                continue;
            }
            let network = build(model, &device);
            let predictor = Predictor::new(network.clone());
            for n in &images {
                let x = random(model.input_shape(*n), 3, [0.0, 1.0], &device);
                let expected = eager(&*network, &x);
                let size = expected.iter().fold(0.0f64, |size, y| size.max(y.abs()));
                for _ in 0..2 {
                    let y = predictor.run(&x).unwrap().to_f64().unwrap();
                    let off = y.iter().zip(&expected).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
                    assert_eq!(y.len(), expected.len());
                    assert!(
                        size > 0.0 && off <= allowed * size,
                        "{} on {device}: {off:e} of {size}",
                        model.name
                    );
                }
            }
        }
    }
}

#[test]
fn plans_fold_batch_norm_and_drop_dropout() {
    // A batch may be computed in several stages.
    let plan = |name: &str, images: usize| {
        let model = neocog_models::find(name).unwrap();
        let network = build(&model, &Device::Cpu);
        Predictor::new(network).plan(&model.input_shape(images), &Device::Cpu).unwrap().unwrap()
    };
    let count = |name: &str, op: &str| plan(name, 1).operations().filter(|o| *o == op).count();
    assert_eq!(
        plan("lenet_bn", 5).operations().collect::<Vec<_>>(),
        [
            "packed_conv2d",
            "max_pool2d",
            "packed_conv2d",
            "max_pool2d",
            "reshape",
            "linear",
            "linear",
            "linear"
        ]
    );
    assert_eq!(plan("lenet_bn_scratch", 5).operations().count(), plan("lenet_bn", 5).operations().count());
    // One image has few pixels, so it is computed in blocks, though its channels fill them in part only.
    assert_eq!(count("lenet_bn", "in_channel_blocks"), 4);
    assert_eq!(count("resnet", "batch_norm_eval"), 0);
    // All of it is in blocks of channels: 20 convolutions, the pooling at the start and that at the end.
    assert_eq!(count("resnet", "in_channel_blocks"), 22);
    assert_eq!(count("resnet", "to_channel_blocks") + count("resnet", "from_channel_blocks"), 0);
    assert_eq!(count("alexnet", "dropout"), 0);
    // In densenet, batch norm precedes the convolution and cannot be folded.
    // These 20, as many convolutions and five poolings are in blocks of channels; but what follows the first concatenation of 120
    // channels, which are not whole blocks, is not, apart from convolutions.
    assert_eq!(count("densenet", "in_channel_blocks"), 40);
    assert_eq!(count("densenet", "batch_norm_eval"), 4);
    assert_eq!(count("densenet", "relu"), 0);
    // Branches write to their part of the concatenation; in densenet, outputs of poolings are copied, three of them within blocks.
    assert_eq!(count("googlenet", "concat"), 0);
    assert_eq!(count("densenet", "concat"), 3);
}

#[test]
fn a_wrong_input_is_an_error() {
    let model = neocog_models::find("lenet").unwrap();
    let network = build(&model, &Device::Cpu);
    let predictor = Predictor::new(network.clone());
    let plan = predictor.plan(&model.input_shape(4), &Device::Cpu).unwrap().unwrap();
    let error = plan.run(&random([3, 1, 28, 28], 0, [0.0, 1.0], &Device::Cpu)).unwrap_err().to_string();
    assert!(error.contains("[4, 1, 28, 28]") && error.contains("[3, 1, 28, 28]"), "{error}");
    let error = plan.run(&random([4, 1, 28, 28], 0, [0.0, 1.0], &Device::Reference)).unwrap_err().to_string();
    assert!(error.contains("the plan is for cpu"), "{error}");
    let predictor = Predictor::new(network.clone());
    let wrong = random([2, 3, 28, 28], 0, [0.0, 1.0], &Device::Cpu);
    let error = predictor.run(&wrong).unwrap_err().to_string();
    assert!(error.starts_with("conv (Sequential) / 0 (Conv2d)"), "{error}");
}

/// On the examples of the layers.
#[test]
fn every_registered_layer_can_be_planned() {
    let mut planned = 0;
    for entry in neocog_layers::registry().unwrap().iter() {
        for (i, example) in entry.examples().into_iter().enumerate() {
            let network: Arc<dyn Layer> =
                Builder::new(&Device::Cpu, 1).build(&example.spec, &example.input).unwrap().into();
            let x = random(example.input, 3, [-1.0, 1.0], &Device::Cpu);
            let predictor = Predictor::new(network.clone());
            let (y, expected) = (predictor.run(&x).unwrap().to_f64().unwrap(), eager(&*network, &x));
            let off = y.iter().zip(&expected).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
            assert!(y.len() == expected.len() && off <= 1e-5, "{} {i}: {off:e}", entry.kind);
            planned += usize::from(predictor.plan(&example.input, &Device::Cpu).unwrap().is_some());
        }
    }
    assert!(planned > 20, "{planned}");
}

/// A layer that bypasses the tape.
#[derive(Debug)]
struct Untraceable;

impl Layer for Untraceable {
    fn label(&self) -> &str {
        "Untraceable"
    }

    fn forward(&self, _context: &Context<'_>, input: &Var) -> neocog_tensor::Result<Var> {
        Ok(Var::constant(run_single(&Relu, &[input.tensor()])?))
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

#[test]
fn a_network_that_cannot_be_traced_runs_layer_by_layer() {
    let x = random([2, 3], 0, [-1.0, 1.0], &Device::Cpu);
    let network: Arc<dyn Layer> = Arc::new(Untraceable);
    let predictor = Predictor::new(network.clone());
    assert!(predictor.plan(x.shape(), &Device::Cpu).unwrap().is_none());
    assert_eq!(predictor.run(&x).unwrap().to_f64().unwrap(), eager(&Untraceable, &x));
    let reason = predictor.reason(x.shape(), &Device::Cpu).unwrap().unwrap().to_string();
    assert!(reason.contains("runs operations without the tape"), "{reason}");
    let pass = TrainPass::new(network);
    let y = pass.run(&Tape::new(), &Var::constant(x.clone()), 0).unwrap();
    assert_eq!(y.tensor().to_f64().unwrap(), eager(&Untraceable, &x));
    assert_eq!(pass.reason(x.shape(), &Device::Cpu).unwrap().unwrap().to_string(), reason);
}

/// On all devices; the tests of `neocog-graph` have no OpenCL.
#[test]
fn graphs_before_and_after_a_rewrite_give_the_same_numbers() {
    for device in devices() {
        assert!(check_rewrites(&device).unwrap() > 20, "{device}");
    }
}

#[test]
fn a_plan_is_replaced_when_a_parameter_changes() {
    let model = neocog_models::find("lenet_bn").unwrap();
    let network = build(&model, &Device::Cpu);
    let x = random(model.input_shape(2), 3, [0.0, 1.0], &Device::Cpu);
    let predictor = Predictor::new(network.clone());
    let first = predictor.run(&x).unwrap().to_f64().unwrap();
    let plan = predictor.plan(x.shape(), &Device::Cpu).unwrap().unwrap();
    assert!(Arc::ptr_eq(&plan, &predictor.plan(x.shape(), &Device::Cpu).unwrap().unwrap()));
    for (name, entry) in state::entries(&*network) {
        let tensor = entry.tensor().filter(|_| name.ends_with("running_mean") || name.ends_with("fc3.bias"));
        let Some(tensor) = tensor else { continue };
        tensor.set(&random(tensor.shape(), 9, [0.5, 1.0], &Device::Cpu)).unwrap();
        let expected = eager(&*network, &x);
        let y = predictor.run(&x).unwrap().to_f64().unwrap();
        let off = y.iter().zip(&expected).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
        assert!(off < 1e-5 && y != first, "{name}: {off:e}");
    }
}

/// Outputs, gradients, running statistics and counters of two steps.
fn train(network: &dyn Layer, forward: impl Fn(&Tape, u64) -> Var) -> Vec<Vec<f64>> {
    let mut all = Vec::new();
    for seed in [3, 4] {
        let tape = Tape::new();
        let y = forward(&tape, seed);
        all.push(y.tensor().to_f64().unwrap());
        let direction = neocog_autograd::check::direction(&y).unwrap();
        let grads = tape.backward_from(&[(&y, direction)]).unwrap();
        for (_, entry) in state::entries(network) {
            match entry {
                Entry::Param(param) => all.push(grads.param(param).unwrap().to_f64().unwrap()),
                Entry::Buffer(buffer) => all.push(buffer.value().value().to_f64().unwrap()),
                Entry::Counter(counter) => all.push(vec![counter.get() as f64]),
            }
        }
    }
    all
}

/// A training pass by its graph agrees with the network layer by layer, and is fused.
#[test]
fn training_passes_agree_with_layers() {
    for (device, allowed) in devices().into_iter().zip([1e-10, 2e-3, 2e-3]) {
        for name in ["lenet", "lenet_bn", "lenet_bn_scratch", "alexnet", "resnet", "googlenet", "densenet"] {
            if device == Device::Reference && !name.starts_with("lenet") {
                continue;
            }
            let model = neocog_models::find(name).unwrap();
            let x = Var::constant(random(model.input_shape(2), 3, [0.0, 1.0], &device));
            let network = build(&model, &device);
            let eager = train(&*network, |tape, seed| Context::train(tape, seed).run(&*network, &x).unwrap());
            let network = build(&model, &device);
            let pass = TrainPass::new(network.clone());
            let traced = train(&*network, |tape, seed| pass.run(tape, &x, seed).unwrap());
            assert_eq!(pass.reason(x.shape(), &device).unwrap(), None, "{name}");
            let largest = eager.iter().flatten().fold(0.0f64, |a, v| a.max(v.abs()));
            for (i, (eager, traced)) in eager.iter().zip(&traced).enumerate() {
                let size = eager.iter().fold(1e-4 * largest, |a, v| a.max(v.abs()));
                let off = eager.iter().zip(traced).fold(0.0f64, |off, (a, b)| off.max((a - b).abs()));
                assert!(off <= allowed * size, "{name} on {device}, tensor {i}: {off:e} of {size:e}");
            }
        }
    }
}

#[test]
fn training_graphs_are_fused() {
    let operations = |name: &str| -> Vec<&str> {
        let model = neocog_models::find(name).unwrap();
        let pass = TrainPass::new(build(&model, &Device::Cpu));
        let graph = pass.graph(&model.input_shape(2), &Device::Cpu).unwrap().unwrap();
        graph.operations().collect()
    };
    let expected = ["conv2d", "batch_norm_train", "max_pool2d", "conv2d", "batch_norm_train", "max_pool2d"];
    println!("{:?}", operations("lenet_bn"));
    assert_eq!(operations("lenet_bn")[..6], expected);
    let alexnet = operations("alexnet");
    println!("{alexnet:?}");
    assert_eq!(alexnet[..3], ["conv2d", "max_pool2d", "relu"]);
    assert_eq!(alexnet.iter().filter(|op| **op == "dropout").count(), 2);
}

#[test]
fn each_step_draws_other_numbers() {
    let spec: LayerSpec = Sequential::new().then(Dropout { p: 0.5 }).then(Linear::new(64, 8)).into();
    let pass = TrainPass::new(Builder::new(&Device::Cpu, 1).build(&spec, &[2, 64].into()).unwrap());
    let x = Var::constant(random([2, 64], 1, [0.5, 1.0], &Device::Cpu));
    let run = |seed| pass.run(&Tape::new(), &x, seed).unwrap().tensor().to_f64().unwrap();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let eager = Context::train(&Tape::new(), 2).run(pass.network(), &x).unwrap();
    assert_eq!(run(2), eager.tensor().to_f64().unwrap());
}
