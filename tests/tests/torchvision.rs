//! torchvision's networks against torchvision: parameters, printed structure, weights in both directions, logits, and the
//! gradients of a training step. The Python part is `tests/torch/torchvision_parity.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch, torchvision and safetensors; prints a notice if a test is
//! skipped. In a long run (`NEOCOG_TEST_LONG`), all networks are compared, otherwise one of each architecture.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_base::testing::{self, require};
use neocog_layers::freeze::freeze;
use neocog_layers::{Builder, Layer, LayerSpec, Predictor, TrainPass, print, state, weights};
use neocog_models::{Family, find, models_of};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Shape, Tensor};
use neocog_tests as _;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

/// Parameters and entries of the `state_dict` of each network, as torchvision 0.29.2 has them, counted with
/// `sum(p.numel() for p in m.parameters())` and `len(m.state_dict())` of `torchvision.models.NAME(weights=None)`; GoogLeNet and
/// Inception v3 with `aux_logits=False`. The last number is the size of the images that the comparison uses.
const NETWORKS: [(&str, usize, usize, usize); 36] = [
    ("convnext_tiny", 28_589_128, 182, 64),
    ("densenet121", 7_978_856, 727, 64),
    ("densenet161", 28_681_000, 967, 64),
    ("densenet169", 14_149_480, 1015, 64),
    ("densenet201", 20_013_928, 1207, 64),
    ("efficientnet_b0", 5_288_548, 360, 64),
    ("efficientnet_b1", 7_794_184, 508, 64),
    ("efficientnet_b2", 9_109_994, 508, 64),
    ("efficientnet_b3", 12_233_232, 574, 64),
    ("inception_v3", 23_834_568, 566, 107),
    ("mnasnet1_0", 4_383_312, 314, 64),
    ("mobilenet_v2", 3_504_872, 314, 64),
    ("mobilenet_v3_large", 5_483_032, 312, 64),
    ("mobilenet_v3_small", 2_542_856, 244, 64),
    ("regnet_y_400mf", 4_344_144, 384, 64),
    ("resnet101", 44_549_160, 626, 64),
    ("resnet152", 60_192_808, 932, 64),
    ("resnet18", 11_689_512, 122, 64),
    ("resnet34", 21_797_672, 218, 64),
    ("resnet50", 25_557_032, 320, 64),
    ("resnext50_32x4d", 25_028_904, 320, 64),
    ("shufflenet_v2_x0_5", 1_366_792, 338, 64),
    ("shufflenet_v2_x1_0", 2_278_604, 338, 64),
    ("squeezenet1_0", 1_248_424, 52, 48),
    ("squeezenet1_1", 1_235_496, 52, 48),
    ("tv_alexnet", 61_100_840, 16, 67),
    ("tv_googlenet", 6_624_904, 344, 64),
    ("vgg11", 132_863_336, 22, 32),
    ("vgg11_bn", 132_868_840, 62, 64),
    ("vgg13", 133_047_848, 26, 32),
    ("vgg13_bn", 133_053_736, 76, 64),
    ("vgg16", 138_357_544, 32, 32),
    ("vgg16_bn", 138_365_992, 97, 64),
    ("vgg19", 143_667_240, 38, 32),
    ("vgg19_bn", 143_678_248, 118, 64),
    ("wide_resnet50_2", 68_883_240, 320, 64),
];

/// One network of each architecture, without those whose weights take long.
const SAMPLE: [&str; 11] = [
    "densenet121",
    "efficientnet_b0",
    "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "convnext_tiny",
    "tv_googlenet",
];

const BATCH: usize = 8;

#[test]
fn parameters_are_those_of_torchvision() {
    let names: Vec<&str> = models_of(Family::Torchvision).unwrap().iter().map(|model| model.name).collect();
    assert_eq!(names, NETWORKS.map(|(name, ..)| name));
    for (name, parameters, entries, size) in NETWORKS {
        let model = find(name).unwrap();
        for size in [size, model.input[1]] {
            let spec = model.spec_for([3, size, size], 1000).unwrap();
            let network = Builder::new(&Device::Meta, 0).build(&spec, &[2, 3, size, size].into()).unwrap();
            assert_eq!(state::param_count(&*network), parameters, "{name}");
            assert_eq!(state::state_dict(&*network).len(), entries, "{name}");
        }
    }
}

/// A Python with torchvision. One that is asked for must have it.
fn python() -> Result<String, String> {
    testing::python("import torchvision, safetensors.torch", "torch torchvision safetensors")
}

/// Removes what PyTorch 2.15 prints and earlier versions do not: `bias=True` of norms.
fn without_bias_of_norms(structure: &str) -> String {
    let line =
        |line: &str| if line.contains("Norm") { line.replace(", bias=True", "") } else { line.to_string() };
    structure.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the network without dropout and stochastic depth, whose random numbers differ from PyTorch's.
fn without_chance(spec: &LayerSpec) -> LayerSpec {
    fn clear(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                if fields.get("kind").is_some_and(|kind| kind == "Dropout" || kind == "StochasticDepth") {
                    fields["p"] = 0.0.into();
                }
                fields.iter_mut().for_each(|(_, value)| clear(value));
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(clear),
            _ => {}
        }
    }
    let mut json = serde_json::from_str(&spec.to_json().unwrap()).unwrap();
    clear(&mut json);
    LayerSpec::from_json(&json.to_string()).unwrap()
}

/// Sets weights that keep the magnitude of activations, and statistics as after training.
fn randomize(network: &dyn Layer) {
    for (name, entry) in state::state_dict(network) {
        let mut random = Random::stream(3, &name);
        let shape = entry.tensor().map(|tensor| tensor.shape());
        let (low, high) = match (&entry, shape.map_or(0, |shape| shape.rank())) {
            (state::Entry::Counter(counter), _) => {
                counter.set(77);
                continue;
            }
            (state::Entry::Buffer(_), _) if name.ends_with("var") => (0.5, 2.0),
            (state::Entry::Buffer(_), _) => (-0.2, 0.2),
            (state::Entry::Param(_), 4) => {
                let shape = shape.unwrap();
                let bound = (6.0 / (shape[1] * shape[2] * shape[3]) as f32).sqrt();
                (-bound, bound)
            }
            (state::Entry::Param(_), 2) => continue,
            (state::Entry::Param(_), _) if name.ends_with("bias") => (-0.2, 0.2),
            (state::Entry::Param(_), _) => (0.7, 1.3),
        };
        let param = entry.tensor().unwrap();
        let values: Vec<f32> =
            (0..param.shape().elements()).map(|_| random.next_uniform(low, high)).collect();
        param.set(&Tensor::from_f32(param.shape(), &values, &param.value().device()).unwrap()).unwrap();
    }
}

fn write_inputs(path: &Path, images: &[f32], size: usize, labels: &[f32]) {
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let (images, labels_bytes) = (bytes(images), bytes(labels));
    let views = [
        ("images", TensorView::new(Dtype::F32, vec![BATCH, 3, size, size], &images).unwrap()),
        ("labels", TensorView::new(Dtype::F32, vec![BATCH], &labels_bytes).unwrap()),
    ];
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read_doubles(path: &Path) -> HashMap<String, Vec<f64>> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let values = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
            (name.to_string(), values.collect())
        })
        .collect()
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

/// The largest difference, relative to the magnitude of what is expected.
fn deviation(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |a: f64, (f, e)| a.max((f - e).abs())) / magnitude(expected)
}

/// A network with random weights and inputs, and what torchvision computes with them.
struct Comparison {
    name: String,
    dir: TempDir,
    spec: LayerSpec,
    shape: Shape,
    images: Vec<f32>,
    labels: Vec<f32>,
    /// What the Python part prints: the number of parameters.
    printed: String,
    expected: HashMap<String, Vec<f64>>,
}

impl Comparison {
    /// Runs the Python part, with the layers frozen whose names match the regular expression `freeze`.
    fn new(python: &str, name: &str, size: usize, freeze: Option<&str>) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let spec = without_chance(&find(name).unwrap().spec_for([3, size, size], 1000).unwrap());
        let shape = [BATCH, 3, size, size].into();
        let network = Builder::new(&Device::Reference, 1).build(&spec, &shape).unwrap();
        randomize(&*network);
        weights::save(&*network, &dir.path().join("neocog.safetensors")).unwrap();
        let mut random = Random::new(9);
        let images: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-2.0, 2.0)).collect();
        let labels: Vec<f32> = (0..BATCH).map(|_| (random.next_u32() % 1000) as f32).collect();
        write_inputs(&dir.path().join("input.safetensors"), &images, size, &labels);

        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/torchvision_parity.py");
        let output =
            Command::new(python).arg(script).arg(name).arg(dir.path()).args(freeze).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let expected = read_doubles(&dir.path().join("results.safetensors"));
        Self { name: name.into(), dir, spec, shape, images, labels, printed, expected }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self, device: &Device, seed: u64) -> Box<dyn Layer> {
        Builder::new(device, seed).build(&self.spec, &self.shape).unwrap()
    }

    /// The largest deviation of a logit on `device`.
    fn logits(&self, device: &Device) -> f64 {
        let network = self.build(device, 3);
        weights::load(&*network, &self.file("torch.safetensors")).unwrap();
        let x = Tensor::from_f32(self.shape, &self.images, device).unwrap();
        let found = Predictor::new(network).run(&x).unwrap().to_f64().unwrap();
        deviation(&found, &self.expected["logits"])
    }

    /// Computes the gradients of a training step and returns the largest deviation and the names of the parameters that have one.
    fn gradients(&self, network: Box<dyn Layer>) -> (f64, Vec<String>) {
        let pass = TrainPass::new(network);
        let tape = Tape::new();
        let x = Tensor::from_f32(self.shape, &self.images, &Device::Reference).unwrap();
        let labels = Tensor::from_f32([BATCH], &self.labels, &Device::Reference).unwrap();
        let output = pass.run(&tape, &Var::constant(x), 0).unwrap();
        let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
        let loss = tape.apply(op, &[&output, &Var::constant(labels)]).unwrap().remove(0);
        let found = loss.tensor().item().unwrap();
        let expected = self.expected["loss"][0];
        assert!(
            (found - expected).abs() <= 1e-9 * found.abs(),
            "{}: loss {found}, expected {expected}",
            self.name
        );
        let grads = tape.backward(&loss).unwrap();
        // Biases that feed a batch norm have the gradient 0: what is computed for them is noise, relative to all gradients.
        let of_grads = self.expected.iter().filter(|(key, _)| key.starts_with("grad."));
        let floor = 1e-3 * of_grads.map(|(_, values)| magnitude(values)).fold(0.0, f64::max);
        let (mut worst, mut names) = (0.0_f64, Vec::new());
        for (key, param) in state::params(pass.network()) {
            let Some(expected) = self.expected.get(&format!("grad.{key}")) else {
                assert!(grads.param(param).is_none(), "{}: torchvision has no gradient of {key}", self.name);
                continue;
            };
            let found = grads
                .param(param)
                .unwrap_or_else(|| panic!("{}: no gradient of {key}", self.name))
                .to_f64()
                .unwrap();
            let difference = found.iter().zip(expected).fold(0.0, |a: f64, (f, e)| a.max((f - e).abs()));
            let deviation = difference / magnitude(expected).max(floor);
            assert!(deviation <= 1e-8, "{}: the gradient of {key} deviates by {deviation:e}", self.name);
            worst = worst.max(deviation);
            names.push(key);
        }
        (worst, names)
    }
}

/// Compares a network and returns a row of the table.
fn compare(python: &str, name: &str) -> String {
    let &(_, parameters, entries, size) = NETWORKS.iter().find(|(other, ..)| *other == name).unwrap();
    let comparison = Comparison::new(python, name, size, None);
    assert_eq!(comparison.printed, parameters.to_string(), "{name}");

    let spec = find(name).unwrap().spec_for([3, size, size], 1000).unwrap();
    let structure = fs::read_to_string(comparison.file("structure.txt")).unwrap();
    let network = Builder::new(&Device::Meta, 0).build(&spec, &comparison.shape).unwrap();
    assert_eq!(print::pytorch(&*network), without_bias_of_norms(&structure), "{name}");

    // The weights that torchvision has written, in both formats.
    let network = comparison.build(&Device::Reference, 2);
    let given = fs::read(comparison.file("neocog.safetensors")).unwrap();
    for written in ["torch.safetensors", "torch.pth"] {
        let loaded = weights::load(&*network, &comparison.file(written)).unwrap();
        assert_eq!(loaded.loaded.len(), entries, "{name}: {written}");
        let back = comparison.file("back.safetensors");
        weights::save(&*network, &back).unwrap();
        assert!(fs::read(back).unwrap() == given, "{name}: {written} changes when it is loaded and saved");
    }

    let mut row = format!("{name:20} {parameters:>11} {entries:>5}  {size:>3}");
    let devices = neocog_tests::devices();
    for (device, allowed) in devices.iter().zip([1e-9, 1e-4, 1e-4]) {
        let deviation = comparison.logits(device);
        assert!(deviation <= allowed, "{name}: the logits deviate by {deviation:e} on {device}");
        row += &format!("  {deviation:>7.1e}");
    }
    if devices.len() < 3 {
        row += "        -";
    }
    let (worst, names) = comparison.gradients(network);
    assert_eq!(names.len(), comparison.expected.keys().filter(|key| key.starts_with("grad.")).count());
    row + &format!("  {worst:>7.1e}")
}

#[test]
fn networks_agree_with_torchvision() {
    let Some(python) = require("torchvision", python()) else { return };
    let only = std::env::var("NEOCOG_NETWORKS").ok();
    let names: Vec<&str> = match &only {
        Some(names) => names.split(',').collect(),
        None if std::env::var_os(testing::LONG).is_some() => {
            NETWORKS.iter().map(|(name, ..)| *name).collect()
        }
        None => SAMPLE.to_vec(),
    };
    println!(
        "{:20} {:>11} {:>5} {:>4}  {:>7}  {:>7}  {:>7}  {:>7}",
        "network", "parameters", "state", "size", "f64", "cpu", "opencl", "grads"
    );
    for name in names {
        println!("{}", compare(&python, name));
    }
}

/// Frozen batch norms normalize with their running statistics, as PyTorch's do in evaluation.
#[test]
fn gradients_beside_frozen_layers_agree_with_torchvision() {
    let Some(python) = require("torchvision", python()) else { return };
    let pattern = r"^(conv1|bn1|layer[1-3])\.";
    let comparison = Comparison::new(&python, "resnet18", 64, Some(pattern));
    let network = comparison.build(&Device::Reference, 2);
    weights::load(&*network, &comparison.file("torch.pth")).unwrap();
    freeze(&*network, pattern).unwrap();
    let (worst, names) = comparison.gradients(network);
    assert!(names.iter().all(|name| name.starts_with("layer4.") || name.starts_with("fc.")), "{names:?}");
    assert_eq!(names.len(), 17, "{names:?}");
    println!("{} gradients beside frozen layers deviate by {worst:.1e} at most", names.len());
}
