//! One training step of random networks against PyTorch in double precision: loss, gradients and running statistics. The Python
//! part is `tests/torch/random_networks.py`. `NEOCOG_TEST_LONG` makes it more networks, `NEOCOG_TEST_SEED` others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_base::testing::{cases, require};
use neocog_layers::builder::output_shape;
use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec, TrainPass, weights};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Shape, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const PYTHON: &str = "NEOCOG_PYTHON";
const CLASSES: usize = 4;
/// Kinds whose gradient jumps: rounding decides which way.
const WITH_JUMPS: [&str; 2] = ["ReLU", "MaxPool2d"];

fn python() -> Result<String, String> {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_string());
    match Command::new(&python).args(["-c", "import torch, safetensors.torch"]).output() {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it failed").to_string())
        }
        Err(e) => Err(format!("{python}: {e}")),
    }
}

/// A random network and the shape of its input, `[n, c, h, w]`.
struct Network {
    layers: Vec<Value>,
    input: Shape,
}

impl Network {
    fn random(random: &mut Random) -> Self {
        let size = |random: &mut Random| between(random, 5, 14);
        let extents = [between(random, 2, 6), between(random, 1, 3), size(random), size(random)];
        let mut network = Network { layers: Vec::new(), input: Shape::new(&extents).unwrap() };
        for _ in 0..between(random, 2, 8) {
            let channels = network.output()[1];
            let pair =
                |random: &mut Random, low, high| [between(random, low, high), between(random, low, high)];
            let kernel = pair(random, 1, 4);
            let layer = match between(random, 0, 7) {
                0 | 1 => {
                    let groups = if between(random, 0, 2) == 0 { channels } else { 1 };
                    json!({
                        "kind": "Conv2d", "in_channels": channels, "out_channels": groups * between(random, 1, 6),
                        "kernel_size": kernel, "stride": pair(random, 1, 2), "padding": pair(random, 0, 2),
                        "dilation": pair(random, 1, 2), "groups": groups, "bias": between(random, 0, 1) == 1
                    })
                }
                2 => json!({ "kind": "BatchNorm2d", "num_features": channels }),
                3 => json!({ "kind": "Sigmoid" }),
                4 => json!({ "kind": "Tanh" }),
                5 => json!({ "kind": "ReLU" }),
                6 => json!({
                    "kind": "MaxPool2d", "kernel_size": kernel, "stride": pair(random, 1, 3),
                    "padding": [between(random, 0, kernel[0] / 2), between(random, 0, kernel[1] / 2)],
                    "ceil_mode": between(random, 0, 1) == 1
                }),
                _ => json!({
                    "kind": "AvgPool2d", "kernel_size": kernel, "stride": pair(random, 1, 3),
                    "padding": [between(random, 0, kernel[0] / 2), between(random, 0, kernel[1] / 2)],
                    "ceil_mode": between(random, 0, 1) == 1, "count_include_pad": between(random, 0, 1) == 1
                }),
            };
            network.layers.push(layer);
            if !network.is_valid() {
                network.layers.pop();
            }
        }
        let [_, c, h, w] = network.output().extents().try_into().unwrap();
        network.layers.push(json!({ "kind": "Flatten" }));
        network.layers.push(json!({ "kind": "Linear", "in_features": c * h * w, "out_features": CLASSES }));
        network
    }

    fn json(&self) -> Value {
        let layers = self.layers.iter().enumerate();
        let layers: Vec<Value> =
            layers.map(|(i, layer)| json!({ "name": i.to_string(), "layer": layer })).collect();
        json!({ "kind": "Sequential", "layers": layers })
    }

    fn build(&self, device: &Device) -> neocog_tensor::Result<Arc<dyn Layer>> {
        let spec = LayerSpec::from_json(&self.json().to_string())?;
        Ok(Builder::new(device, 3).build(&spec, &self.input)?.into())
    }

    fn output(&self) -> Shape {
        if self.layers.is_empty() {
            return self.input;
        }
        output_shape(&*self.build(&Device::Meta).unwrap(), &self.input).unwrap()
    }

    fn is_valid(&self) -> bool {
        let Ok(network) = self.build(&Device::Meta) else { return false };
        // Statistics of one element have no variance.
        output_shape(&*network, &self.input).is_ok_and(|shape| shape.elements() > 0)
            && TrainPass::new(network).step_bytes(&self.input, &Device::Meta).is_ok()
    }

    fn has_jumps(&self) -> bool {
        self.layers.iter().any(|layer| WITH_JUMPS.contains(&layer["kind"].as_str().unwrap()))
    }
}

fn between(random: &mut Random, low: usize, high: usize) -> usize {
    low + random.next_u32() as usize % (high - low + 1)
}

/// Results by name: `loss`, `grad.NAME` and `buffer.NAME`.
type Results = BTreeMap<String, Vec<f64>>;

/// Computes one step on a device, with the weights in a file.
fn step(network: &Network, device: &Device, weights: &Path, x: &[f32], labels: &[f32]) -> Results {
    let built = network.build(device).unwrap();
    weights::load(&*built, weights).unwrap();
    let pass = TrainPass::new(built.clone());
    let tape = Tape::new();
    let x = Var::constant(Tensor::from_f32(network.input, x, device).unwrap());
    let logits = pass.run(&tape, &x, 1).unwrap();
    let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
    let labels = Var::constant(Tensor::from_f32([labels.len()], labels, device).unwrap());
    let loss = tape.apply(op, &[&logits, &labels]).unwrap().remove(0);
    let mut results = Results::from([("loss".to_string(), loss.tensor().to_f64().unwrap())]);
    let grads = tape.backward(&loss).unwrap();
    for (name, entry) in state::entries(&*built) {
        match entry {
            Entry::Param(param) => {
                let grad = grads
                    .param(param)
                    .map_or_else(|| vec![0.0; param.shape().elements()], |grad| grad.to_f64().unwrap());
                results.insert(format!("grad.{name}"), grad);
            }
            Entry::Buffer(buffer) => {
                results.insert(format!("buffer.{name}"), buffer.value().value().to_f64().unwrap());
            }
            Entry::Counter(_) => {}
        }
    }
    results
}

fn write(path: &Path, tensors: &[(&str, Vec<usize>, &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read(path: &Path) -> Results {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: &TensorView<'_>| {
        view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    tensors.iter().map(|(name, view)| (name.to_string(), values(&view))).collect()
}

/// The largest deviation of a tensor, relative to its largest element, and that of the norms; with the name.
fn deviation(found: &Results, expected: &Results) -> (f64, f64, String) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    // Gradients that cancel out, such as that of a bias before batch norm, are rounding errors only.
    let all = expected.iter().filter(|(name, _)| name.starts_with("grad."));
    let scale = all.flat_map(|(_, values)| values).fold(0f64, |a, v| a.max(v.abs()));
    let mut worst = (0.0, 0.0, String::new());
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(found.len(), expected.len(), "{name}");
        let floor = if name.starts_with("grad.") { scale * 1e-2 } else { 1e-3 };
        let largest = expected.iter().fold(floor, |a, v| a.max(v.abs()));
        let pairs = || found.iter().zip(expected).map(|(f, e)| f - e);
        let off = pairs().fold(0f64, |a, d| a.max(d.abs())) / largest;
        let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt().max(floor);
        let off_norm = pairs().map(|d| d * d).sum::<f64>().sqrt() / norm;
        if !off.is_finite() || off > worst.0 {
            worst = (off, off_norm, name.clone());
        }
    }
    worst
}

#[test]
fn random_networks_compute_what_pytorch_does() {
    let Some(python) = require("python", python()) else { return };
    let seed = std::env::var("NEOCOG_TEST_SEED").map_or(0, |seed| seed.parse().unwrap());
    let mut random = Random::stream(seed, "random networks");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut networks = Vec::new();
    for i in 0..cases(20) {
        let network = Network::random(&mut random);
        let file = |end: &str| dir.path().join(format!("{i}.{end}"));
        fs::write(file("json"), network.json().to_string()).unwrap();
        weights::save(&*network.build(&Device::Cpu).unwrap(), &file("weights.safetensors")).unwrap();
        let x: Vec<f32> = (0..network.input.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
        let n = network.input[0];
        let labels: Vec<f32> = (0..n).map(|_| between(&mut random, 0, CLASSES - 1) as f32).collect();
        let tensors = [("x", network.input.to_vec(), x.as_slice()), ("labels", vec![n], labels.as_slice())];
        write(&file("input.safetensors"), &tensors);
        networks.push((network, x, labels));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/random_networks.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut worst = [0f64; 2];
    for (i, (network, x, labels)) in networks.iter().enumerate() {
        let file = |end: &str| dir.path().join(format!("{i}.{end}"));
        let expected = read(&file("torch.safetensors"));
        let run = |device: &Device| {
            let found = step(network, device, &file("weights.safetensors"), x, labels);
            deviation(&found, &expected)
        };
        let what = || format!("seed {seed}, network {i}, input {}: {}", network.input, network.json());
        let (off, _, name) = run(&Device::Reference);
        assert!(off <= 1e-9, "{}: {name} on the reference deviates by {off:e}", what());
        worst[0] = worst[0].max(off);
        let (off, norm, name) = run(&Device::Cpu);
        let is_right = if network.has_jumps() { norm <= 0.05 } else { off <= 1e-3 };
        assert!(is_right, "{}: {name} on the CPU deviates by {off:e}, in the norm by {norm:e}", what());
        worst[1] = worst[1].max(off);
    }
    println!(
        "{} networks, largest deviation {:.1e} on the reference, {:.1e} on the CPU",
        networks.len(),
        worst[0],
        worst[1]
    );
}
