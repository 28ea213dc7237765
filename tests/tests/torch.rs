//! Round trip of weights through PyTorch; the Python part is `tests/torch/round_trip.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch and safetensors; without them, the tests are listed as not run.

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

/// Sets running statistics and counters to random values, as after training.
fn randomize_statistics(network: &dyn Layer) {
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

/// Whether a network has statistics that are not part of the `state_dict`. Its predictions depend on them, so it is compared in
/// training mode, which uses the statistics of the batch.
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

/// Returns the output of the Python script.
fn round_trip(python: &str, model: &Model) -> String {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = |name: &str| dir.path().join(name);
    let network = build(model, 1);
    let batch = if has_more_than_state_dict(&*network) { 8 } else { 2 };
    let shape = model.input_shape(batch);
    let mut random = Random::new(9);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_unit()).collect();
    let x = Tensor::from_f32(shape, &values, &Device::Cpu).unwrap();

    randomize_statistics(&*network);
    weights::save(&*network, &file("neocog.safetensors")).unwrap();
    let y = logits(&*network, &x);
    write_tensors(&file("x.safetensors"), &[("x", &shape, &values), ("y", &[batch, y.len() / batch], &y)]);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/round_trip.py");
    let output = Command::new(python).arg(script).arg(model.name).arg(dir.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", model.name);

    let other = build(model, 2);
    weights::load(&*other, &file("pytorch.safetensors")).unwrap();
    let got = logits(&*other, &x);
    let bytes = fs::read(file("pytorch_y.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let torch_y = tensors.tensor("y").unwrap();
    let expected: Vec<f32> =
        torch_y.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
    let off = got.iter().zip(&expected).fold(0f32, |a, (g, e)| a.max((g - e).abs())) / largest;
    assert!(off <= 1e-5, "{}: the logits of PyTorch's weights deviate by {off:e}", model.name);

    weights::save(&*other, &file("back.safetensors")).unwrap();
    let same = fs::read(file("back.safetensors")).unwrap() == fs::read(file("pytorch.safetensors")).unwrap();
    assert!(same, "{}: the file differs from the one that PyTorch has written", model.name);
    format!("{}, and back {off:.1e}", String::from_utf8_lossy(&output.stdout).trim())
}

#[test]
fn weights_round_trip_through_pytorch() {
    let Some(python) = neocog_base::testing::require("python", python()) else { return };
    for model in neocog_models::models_of(neocog_models::Family::Notes).unwrap() {
        let output = round_trip(&python, &model);
        println!("{}: {output}", model.name);
    }
}
