//! Whole networks: structure, size, fusion and input shapes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::summary::summarize;
use neocog_layers::{Builder, Context, Layer, Observer, Seen, print, state};
use neocog_models::Model;
use neocog_tensor::{Device, Tensor};
use neocog_tests::devices;

fn build(name: &str, device: &Device) -> (Model, Box<dyn Layer>) {
    let model = neocog_models::find(name).unwrap();
    let network = Builder::new(device, 1).build(&model.spec().unwrap(), &model.input_shape(2)).unwrap();
    (model, network)
}

#[test]
fn networks_print_as_in_pytorch() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("structures");
    for model in neocog_models::models_of(neocog_models::Family::Notes)
        .unwrap()
        .iter()
        .filter(|m| m.name != "lenet_bn_scratch")
    {
        let expected = std::fs::read_to_string(dir.join(format!("{}.txt", model.name))).unwrap();
        let (_, network) = build(model.name, &Device::Meta);
        assert_eq!(print::pytorch(&*network), expected.trim_end(), "{}", model.name);
    }
}

#[test]
fn numbers_of_parameters_and_multiply_adds() {
    let expected = [
        ("alexnet", 46_764_746, 938_146_176),
        ("densenet", 758_226, 129_077_168),
        ("googlenet", 5_977_530, 276_066_304),
        ("lenet", 44_426, 281_640),
        ("lenet_bn", 44_878, 281_640),
        ("lenet_bn_scratch", 44_878, 281_640),
        ("nin", 1_992_166, 762_297_352),
        ("resnet", 11_178_378, 318_657_536),
        ("vgg", 128_806_154, 7_547_232_256),
        ("vgg_small", 2_018_346, 121_091_072),
    ];
    let found = neocog_models::models_of(neocog_models::Family::Notes).unwrap().into_iter().map(|model| {
        let (_, network) = build(model.name, &Device::Meta);
        let summary = summarize(&*network, &model.input_shape(1)).unwrap();
        (model.name, state::param_count(&*network), summary.multiply_adds)
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

struct Ignore;

impl Observer for Ignore {
    fn output(&self, _seen: &Seen<'_>) {}
}

/// Output, and gradients of half its squared norm, with fused layers, or without fusion if observed.
fn pass(name: &str, device: &Device, training: bool, observed: bool) -> Vec<(String, Vec<f64>)> {
    let (model, network) = build(name, device);
    let shape = model.input_shape(3);
    let mut random = Random::new(4);
    let x: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    let tape = Tape::new();
    let x = tape.leaf(Tensor::from_f32(shape, &x, device).unwrap());
    let context = if training { Context::train(&tape, 0) } else { Context::eval(&tape) };
    let context = if observed { context.observed(&Ignore) } else { context };
    let y = context.run(&*network, &x).unwrap();
    let mut all = vec![("output".to_string(), y.tensor().to_f64().unwrap())];
    let grads = tape.backward_from(&[(&y, y.tensor().clone())]).unwrap();
    all.push(("input".into(), grads.get(&x).unwrap().to_f64().unwrap()));
    for (name, param) in state::params(&*network) {
        all.push((name, grads.param(param).unwrap().to_f64().unwrap()));
    }
    all
}

#[test]
fn fusion_of_activations_does_not_change_results() {
    for (device, allowed) in devices().into_iter().zip([1e-12, 1e-5, 1e-5]) {
        for name in ["lenet", "lenet_bn", "lenet_bn_scratch", "vgg_small", "googlenet", "resnet", "densenet"]
        {
            for training in [false, true] {
                let fused = pass(name, &device, training, false);
                let separate = pass(name, &device, training, true);
                let size = fused.iter().flat_map(|(_, v)| v).fold(0.0f64, |a, v| a.max(v.abs()));
                for ((what, a), (_, b)) in fused.iter().zip(&separate) {
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
fn errors_of_inputs_have_the_path_to_the_layer() {
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

/// The smallest square inputs that the networks accept, with other numbers of channels and classes.
#[test]
fn networks_accept_other_input_sizes() {
    let smallest = [
        ("alexnet", 67, "alexnet / conv (Sequential) / 12 (MaxPool2d)"),
        ("densenet", 29, "densenet / transition_block_2 (Sequential) / 3 (AvgPool2d)"),
        ("googlenet", 1, ""),
        ("lenet", 16, "lenet / conv (Sequential) / 5 (MaxPool2d)"),
        ("lenet_bn", 16, "lenet_bn / 7 (MaxPool2d)"),
        ("lenet_bn_scratch", 16, "lenet_bn_scratch / 7 (MaxPool2d)"),
        ("nin", 67, "nin / 5 (MaxPool2d)"),
        ("resnet", 1, ""),
        ("vgg", 32, "vgg / vgg_block_5 (Sequential) / 4 (MaxPool2d)"),
        ("vgg_small", 32, "vgg_small / vgg_block_5 (Sequential) / 4 (MaxPool2d)"),
    ];
    for (model, (name, size, path)) in
        neocog_models::models_of(neocog_models::Family::Notes).unwrap().iter().zip(smallest)
    {
        assert_eq!(model.name, name);
        for [c, h, w] in [[3, size, size], [2, size + 9, size + 40]] {
            let spec = model.spec_for([c, h, w], 7).unwrap();
            let input = [2, c, h, w].into();
            let network = Builder::new(&Device::Meta, 0).build(&spec, &input).unwrap();
            let output = neocog_layers::builder::output_shape(&*network, &input).unwrap();
            assert_eq!(output.extents(), [2, 7], "{name} {h} x {w}");
        }
        if size > 1 {
            let error = model.spec_for([1, size - 1, size], 10).unwrap_err().to_string();
            assert!(error.starts_with(path) && error.contains("the image is smaller"), "{name}: {error}");
        }
    }
}
