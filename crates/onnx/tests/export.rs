//! ONNX export against ONNX Runtime; the Python part is `export.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with onnx, onnxruntime and safetensors; prints a notice if a test is
//! skipped. In a long run (`NEOCOG_TEST_LONG`), all networks are compared, otherwise one of each architecture.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use neocog_base::random::Random;
use neocog_base::testing::{self, require};
use neocog_layers::{Builder, Layer, LayerSpec, Predictor, inference_graph, registry, state};
use neocog_models::{Family, find, models, models_of};
use neocog_onnx::export::form;
use neocog_onnx::{ExportOptions, Normalization, export_network};
use neocog_tensor::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

/// A Python with ONNX Runtime. One that is asked for must have it.
fn python() -> Result<String, String> {
    testing::python("import onnx, onnxruntime, safetensors.numpy", "onnx onnxruntime safetensors")
}

/// Sets parameters and statistics to values that no part of a network ignores.
fn randomize(network: &dyn Layer) {
    for (name, entry) in state::entries(network) {
        let Some(param) = entry.tensor() else { continue };
        let (low, high) = match name.rsplit('.').next().unwrap() {
            name if name.ends_with("var") => (0.5, 1.5),
            "weight" | "gamma" if param.shape().rank() == 1 => (0.5, 1.5),
            "weight" => continue,
            _ => (-0.2, 0.2),
        };
        let mut random = Random::stream(3, &name);
        let values: Vec<f32> =
            (0..param.shape().elements()).map(|_| random.next_uniform(low, high)).collect();
        param.set(&Tensor::from_f32(param.shape(), &values, &param.value().device()).unwrap()).unwrap();
    }
}

fn build(spec: &LayerSpec, input: &[usize], device: &Device) -> Box<dyn Layer> {
    let shape = [&[1], input].concat();
    let network = Builder::new(device, 1).build(spec, &neocog_tensor::Shape::new(&shape).unwrap()).unwrap();
    randomize(&*network);
    network
}

fn images(batch: usize, input: &[usize], seed: u64) -> (Vec<usize>, Vec<f32>) {
    let shape = [&[batch], input].concat();
    let mut random = Random::new(seed);
    let values = (0..shape.iter().product()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    (shape, values)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn write_tensors(path: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes a model, with inputs and outputs for batches of 1 and 7, and the output for one image in double precision.
fn write_case(folder: &Path, name: &str, spec: &LayerSpec, input: &[usize], options: &ExportOptions) {
    let network = build(spec, input, &Device::Cpu);
    let model = export_network(&*network, input, options).unwrap_or_else(|e| panic!("{name}: {e}"));
    fs::write(folder.join(format!("{name}.onnx")), model).unwrap();
    let exact = build(spec, input, &Device::Reference);
    for ((_, exact), (_, own)) in state::entries(&*exact).iter().zip(state::entries(&*network)) {
        if let Some((exact, own)) = exact.tensor().zip(own.tensor()) {
            exact.set(&own.value().to_device(&Device::Reference).unwrap()).unwrap();
        }
    }
    let predictor = Predictor::new(network);
    let (one, x1) = images(1, input, 5);
    let (seven, x7) = images(7, input, 6);
    let run = |shape: &[usize], values: &[f32]| {
        let y = predictor.run(&Tensor::from_f32(shape, values, &Device::Cpu).unwrap()).unwrap();
        (y.shape().to_vec(), y.to_f32().unwrap())
    };
    let (y1, y7) = (run(&one, &x1), run(&seven, &x7));
    let r1 =
        Predictor::new(exact).run(&Tensor::from_f32(&one[..], &x1, &Device::Reference).unwrap()).unwrap();
    let r1 = r1.to_f64().unwrap().into_iter().flat_map(f64::to_le_bytes).collect();
    let tensors: [(&str, Dtype, &[usize], Vec<u8>); 5] = [
        ("x1", Dtype::F32, &one, bytes(&x1)),
        ("y1", Dtype::F32, &y1.0, bytes(&y1.1)),
        ("r1", Dtype::F64, &y1.0, r1),
        ("x7", Dtype::F32, &seven, bytes(&x7)),
        ("y7", Dtype::F32, &y7.0, bytes(&y7.1)),
    ];
    write_tensors(&folder.join(format!("{name}.safetensors")), &tensors);
}

/// Runs the script, which checks all models of a folder.
fn check(python: &str, folder: &Path, count: usize) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}");
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout.lines().filter(|line| line.ends_with(" ok")).count(), count, "{stdout}");
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn every_operation_of_inference_has_a_form() {
    let mut names = BTreeSet::new();
    let mut collect = |network: &dyn Layer, input: &neocog_tensor::Shape| {
        if let Ok(graph) = inference_graph(network, input) {
            names.extend(graph.operations());
        }
    };
    for entry in registry().unwrap().iter() {
        for example in entry.examples() {
            let network = Builder::new(&Device::Cpu, 0).build(&example.spec, &example.input).unwrap();
            collect(&*network, &example.input);
        }
    }
    for model in models_of(Family::Notes).unwrap() {
        collect(&*build(&model.spec().unwrap(), &model.input, &Device::Cpu), &model.input_shape(2));
    }
    let missing: Vec<_> = names.iter().filter(|name| form::find(name).is_none()).collect();
    assert!(names.len() > 20 && missing.is_empty(), "no ONNX form: {missing:?}");
}

#[test]
fn layers_compute_the_same_in_onnx_runtime() {
    let Some(python) = require("python", python()) else { return };
    let dir = temporary();
    let mut count = 0;
    for entry in registry().unwrap().iter() {
        for (i, example) in entry.examples().into_iter().enumerate() {
            let name = format!("{}_{i}", entry.kind);
            let input = &example.input[1..];
            for opset in [17, 18, 22] {
                let mut options = ExportOptions::new(&name);
                options.opset = opset;
                write_case(dir.path(), &format!("{name}_{opset}"), &example.spec, input, &options);
                count += 1;
            }
        }
    }
    check(&python, dir.path(), count);
}

#[test]
fn networks_compute_the_same_in_onnx_runtime() {
    let Some(python) = require("python", python()) else { return };
    let is_long = std::env::var_os(testing::LONG).is_some();
    let sample = [
        ("convnext_tiny", 64),
        ("densenet121", 64),
        ("efficientnet_b0", 64),
        ("inception_v3", 107),
        ("mnasnet1_0", 64),
        ("mobilenet_v2", 64),
        ("mobilenet_v3_small", 64),
        ("regnet_y_400mf", 64),
        ("resnet18", 64),
        ("shufflenet_v2_x0_5", 64),
        ("squeezenet1_1", 48),
        ("tv_alexnet", 67),
        ("tv_googlenet", 64),
        ("vgg11_bn", 64),
    ];
    let mut cases: Vec<(&str, [usize; 3])> = Vec::new();
    for model in models().unwrap() {
        match sample.iter().find(|(name, _)| *name == model.name) {
            Some((name, size)) => cases.push((name, [3, *size, *size])),
            None if model.family == Family::Notes => cases.push((model.name, model.input)),
            None if is_long => cases.push((model.name, [3, 64, 64])),
            None => {}
        }
    }
    for (name, input) in &cases {
        // One folder for each: together they need gigabytes.
        let dir = temporary();
        let model = find(name).unwrap();
        let spec = model.spec_for(*input, model.classes).unwrap();
        write_case(dir.path(), name, &spec, input, &ExportOptions::new(*name));
        check(&python, dir.path(), 1);
    }
}

#[test]
fn softmax_and_preprocessing_are_part_of_the_model() {
    let Some(python) = require("python", python()) else { return };
    let dir = temporary();
    let model = find("lenet").unwrap();
    let network = build(&model.spec().unwrap(), &model.input, &Device::Cpu);
    let mut options = ExportOptions::new("lenet");
    options.softmax = true;
    options.normalization = Some(Normalization { mean: vec![0.25], std: vec![0.5] });
    options.metadata.insert("key".to_string(), "value".to_string());
    fs::write(dir.path().join("lenet.onnx"), export_network(&*network, &model.input, &options).unwrap())
        .unwrap();
    let x: Vec<f32> = (0..2 * 28 * 28).map(|i| ((i * 37) % 256) as f32).collect();
    let shape = [2, 1, 28, 28];
    let normalized: Vec<f32> = x.iter().map(|byte| (byte / 255.0 - 0.25) / 0.5).collect();
    let y =
        Predictor::new(network).run(&Tensor::from_f32(shape, &normalized, &Device::Cpu).unwrap()).unwrap();
    let softmax = neocog_tensor::run_single(&neocog_tensor::ops::Softmax { dim: 1 }, &[&y]).unwrap();
    let tensors: [(&str, Dtype, &[usize], Vec<u8>); 2] = [
        ("x2", Dtype::F32, &shape, bytes(&x)),
        ("y2", Dtype::F32, softmax.shape(), bytes(&softmax.to_f32().unwrap())),
    ];
    write_tensors(&dir.path().join("lenet.safetensors"), &tensors);
    check(&python, dir.path(), 1);
}

#[test]
fn what_cannot_be_exported_is_an_error() {
    let model = find("lenet").unwrap();
    let network = build(&model.spec().unwrap(), &model.input, &Device::Cpu);
    let export = |input: &[usize], change: fn(&mut ExportOptions)| {
        let mut options = ExportOptions::new("lenet");
        change(&mut options);
        export_network(&*network, input, &options).unwrap_err().to_string()
    };
    let error = export(&model.input, |options| options.opset = 16);
    assert!(error.contains("opset 16 cannot be written; use one from 17 to 22"), "{error}");
    let error = export(&[3, 28, 28], |_| {});
    assert!(error.contains("the input has 3 channels"), "{error}");
    let error = export(&model.input, |options| {
        options.normalization = Some(Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] });
    });
    assert!(error.contains("3 means and 3 standard deviations for 1 channels"), "{error}");
}
