//! Weights to PyTorch and back, through a real PyTorch: `tests/torch/round_trip.py` is its side.
//!
//! Runs where `python3`, or the interpreter that `NEOCOG_PYTHON` names, has torch and safetensors; says loudly that it did
//! not where there is none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Context, Layer, state, weights};
use neocog_models::Model;
use neocog_tensor::{Device, Tensor};
use neocog_tests as _;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

const PYTHON: &str = "NEOCOG_PYTHON";

/// A Python with PyTorch. One that is asked for must have it.
fn python() -> Result<String, String> {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_string());
    let output = Command::new(&python).args(["-c", "import torch, safetensors.torch"]).output();
    let reason = match output {
        Ok(output) if output.status.success() => return Ok(python),
        Ok(output) => {
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it failed").to_string()
        }
        Err(e) => e.to_string(),
    };
    Err(format!("{python}: {reason}; `pip install torch safetensors`, or name another Python with {PYTHON}"))
}

fn build(model: &Model, seed: u64) -> Box<dyn Layer> {
    Builder::new(&Device::Cpu, seed).build(&model.spec().unwrap(), &model.input_shape(1)).unwrap()
}

/// Running statistics and counts as after some training.
fn draw_statistics(network: &dyn Layer) {
    for (name, entry) in state::state_dict(network) {
        match entry {
            state::Entry::Counter(counter) => counter.set(77),
            state::Entry::Buffer(buffer) => {
                let mut random = Random::stream(3, &name);
                let (low, high) = if name.ends_with("var") { (0.5, 2.0) } else { (-0.5, 0.5) };
                let shape = buffer.value().shape();
                let values: Vec<f32> =
                    (0..shape.elements()).map(|_| random.next_uniform(low, high)).collect();
                buffer.value().set(&Tensor::from_f32(shape, &values, &Device::Cpu).unwrap()).unwrap();
            }
            state::Entry::Param(_) => {}
        }
    }
}

/// Whether a network has statistics that are no part of the `state_dict`: its predictions do not come from that alone, so
/// it is compared in training, by the statistics of the batch.
fn has_more_than_state_dict(network: &dyn Layer) -> bool {
    state::entries(network).len() > state::state_dict(network).len()
}

fn logits(network: &dyn Layer, x: &Tensor) -> Vec<f32> {
    let tape = Tape::no_grad();
    let context =
        if has_more_than_state_dict(network) { Context::train(&tape, 0) } else { Context::eval(&tape) };
    let y = context.run(network, &Var::constant(x.clone())).unwrap();
    y.tensor().to_f32().unwrap()
}

fn write_tensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Returns what PyTorch's side says.
fn round_trip(python: &str, model: &Model) -> String {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = |name: &str| folder.path().join(name);
    let network = build(model, 1);
    let batch = if has_more_than_state_dict(&*network) { 8 } else { 2 };
    let shape = model.input_shape(batch);
    let mut random = Random::new(9);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_unit()).collect();
    let x = Tensor::from_f32(shape, &values, &Device::Cpu).unwrap();

    draw_statistics(&*network);
    weights::save(&*network, &file("ours.safetensors")).unwrap();
    let y = logits(&*network, &x);
    write_tensors(&file("x.safetensors"), &[("x", &shape, &values), ("y", &[batch, y.len() / batch], &y)]);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/round_trip.py");
    let output = Command::new(python).arg(script).arg(model.name).arg(folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", model.name);

    let other = build(model, 2);
    weights::load(&*other, &file("theirs.safetensors")).unwrap();
    let got = logits(&*other, &x);
    let bytes = fs::read(file("theirs_y.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let theirs = tensors.tensor("y").unwrap();
    let expected: Vec<f32> =
        theirs.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
    let off = got.iter().zip(&expected).fold(0f32, |a, (g, e)| a.max((g - e).abs())) / largest;
    assert!(off <= 1e-5, "{}: the logits of PyTorch's weights are off by {off:e}", model.name);

    weights::save(&*other, &file("back.safetensors")).unwrap();
    let same = fs::read(file("back.safetensors")).unwrap() == fs::read(file("theirs.safetensors")).unwrap();
    assert!(same, "{}: PyTorch's weights are written as another file than PyTorch has written", model.name);
    format!("{}, and back {off:.1e}", String::from_utf8_lossy(&output.stdout).trim())
}

#[test]
fn weights_go_to_pytorch_and_come_back() {
    let Some(python) = neocog_base::testing::require("python", python()) else { return };
    for model in neocog_models::models().unwrap() {
        let said = round_trip(&python, &model);
        println!("{}: {said}", model.name);
    }
}
