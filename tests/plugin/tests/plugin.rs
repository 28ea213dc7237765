//! The tests of a plugin.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_autograd::check::Check;
use neocog_autograd::{Tape, Var};
use neocog_graph::check::check_rewrites;
use neocog_graph::registered_rewrites;
use neocog_layers::check::{check_layer, check_registered};
use neocog_layers::{
    Builder, Context, Layer, LayerSpec, Predictor, TrainPass, Visitor, registry, state, weights,
};
use neocog_plugin_example::ops::{PixelShuffle, PixelUnshuffle};
use neocog_tensor::cases::registered_ops;
use neocog_tensor::ops::Sigmoid;
use neocog_tensor::{Device, Result, Tensor, conformance};
use neocog_train::{
    BatchReport, Checkpoint, EpochReport, FitOutcome, ModelFile, NoProgress, Progress, TrainConfig, Trainer, predict,
};
use proptest::prelude::*;

const CRATE: &str = "neocog-plugin-example";

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks the gradients of all registered layers, those of neocog included.
    #[test]
    fn gradients_of_every_layer(seed: u64) {
        prop_assert!(check_registered(seed).map_err(|e| TestCaseError::fail(e.to_string()))? > 4);
    }
}

/// Checks all registered operations and their gradients on every device.
#[test]
fn operations_conform() {
    let opencl = neocog_base::testing::require("opencl", "opencl".parse::<Device>());
    for device in [Device::Cpu, Device::Reference].into_iter().chain(opencl) {
        let summary = conformance::check_all(&device);
        assert!(summary.failures.is_empty(), "{device}: {summary}");
    }
}

/// Unshuffles and shuffles pixels.
#[derive(Debug)]
struct RoundTrip;

impl Layer for RoundTrip {
    fn label(&self) -> &str {
        "RoundTrip"
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let y = context.tape().apply_single(PixelUnshuffle { downscale_factor: 2 }, &[input])?;
        let y = context.tape().apply_single(
            Sigmoid,
            &[&context.tape().apply_single(PixelShuffle { upscale_factor: 2 }, &[&y])?],
        )?;
        context.tape().apply_single(PixelUnshuffle { downscale_factor: 2 }, &[&y])
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

/// The rewrite of the plugin is applied to networks, in inference and in training.
#[test]
fn the_rewrite_takes_part() {
    let names: Vec<&str> =
        registered_rewrites().iter().filter(|r| r.crate_name == CRATE).map(|r| r.name).collect();
    assert_eq!(names, ["cancel_pixel_unshuffle"]);
    for device in [Device::Cpu, Device::Reference] {
        check_rewrites(&device).unwrap();
    }
    let x = Tensor::from_f32([1, 1, 2, 2], &[-1.0, 0.0, 0.5, 2.0], &Device::Cpu).unwrap();
    let network: Arc<dyn Layer> = Arc::new(RoundTrip);
    let expected = {
        let (tape, x) = (Tape::new(), x.clone());
        let x = tape.leaf(x);
        let y = Context::train(&tape, 0).run(&*network, &x).unwrap();
        let direction = Tensor::full(*y.shape(), 1.0, &Device::Cpu).unwrap();
        let gradient = tape.backward_from(&[(&y, direction)]).unwrap().get(&x).unwrap().to_f32().unwrap();
        (y.tensor().to_f32().unwrap(), gradient)
    };
    let fused = ["reshape", "sigmoid", "pixel_unshuffle"];

    let predictor = Predictor::new(network.clone());
    let plan = predictor.plan(x.shape(), &Device::Cpu).unwrap().unwrap();
    assert_eq!(plan.operations().collect::<Vec<_>>(), fused);
    assert_eq!(predictor.run(&x).unwrap().to_f32().unwrap(), expected.0);

    let pass = TrainPass::new(network);
    let graph = pass.graph(x.shape(), &Device::Cpu).unwrap().unwrap();
    assert_eq!(graph.operations().collect::<Vec<_>>(), fused);
    let tape = Tape::new();
    let leaf = tape.leaf(x);
    let y = pass.run(&tape, &leaf, 0).unwrap();
    assert_eq!(y.tensor().to_f32().unwrap(), expected.0);
    let direction = Tensor::full(*y.shape(), 1.0, &Device::Cpu).unwrap();
    let grads = tape.backward_from(&[(&y, direction)]).unwrap();
    assert_eq!(grads.get(&leaf).unwrap().to_f32().unwrap(), expected.1);
}

#[test]
fn everything_is_registered() {
    let layers: Vec<&str> =
        registry().unwrap().iter().filter(|e| e.crate_name == CRATE).map(|e| e.kind).collect();
    assert_eq!(layers, ["PixelUnshuffle", "SqueezeExcitation"]);
    let ops: Vec<&str> = registered_ops().iter().filter(|e| e.crate_name == CRATE).map(|e| e.name).collect();
    assert_eq!(ops, ["pixel_shuffle", "pixel_unshuffle"]);
    assert_eq!(neocog_models::find("unshuffle_net").unwrap().crate_name, CRATE);
}

#[test]
fn the_recipe_depends_on_the_data_set() {
    let config = |data| {
        let config = TrainConfig::for_network("unshuffle_net", data).unwrap();
        (
            config.batch,
            config.epochs,
            config.optimizer.lr,
            config.schedule.to_string(),
            config.transforms.is_empty(),
        )
    };
    assert_eq!(config("mnist"), (64, 5, 0.002, "constant".into(), true));
    assert_eq!(config("digits"), (16, 60, 0.002, "cosine decay to 0".into(), false));
}

#[test]
fn the_command_line_includes_the_layers_the_network_and_the_command() {
    // Cargo builds examples next to the tests.
    let tests = std::env::current_exe().unwrap();
    let cli = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join(format!("examples/cli{}", std::env::consts::EXE_SUFFIX));
    let run = |args: &[&str]| {
        let output = Command::new(&cli).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let line = r#"{"kind":"SqueezeExcitation","crate":"neocog-plugin-example","fields":{"channels":"4","reduction":"2"}}"#;
    let layers = run(&["layers", "--json"]);
    assert!(layers.lines().any(|l| l == line), "{layers}");
    println!("{}", run(&["layers"]));
    let summary = run(&["summary", "unshuffle_net"]);
    assert!(summary.contains("PixelUnshuffle") && summary.contains("block2.se"), "{summary}");
    println!("{summary}");
    assert!(run(&["count-networks", "--json"]).starts_with(r#"{"networks":"#));
    let help = run(&["--help"]);
    assert!(help.contains("count-networks  Count the registered networks"), "{help}");
    let help = run(&["count-networks", "--help"]);
    assert!(help.contains("  cli count-networks --json"), "{help}");
    assert!(run(&["completions", "bash"]).contains("count-networks"));
}

#[test]
fn gradients_of_the_network() {
    let model = neocog_models::find("unshuffle_net").unwrap();
    let spec = model.spec_for([1, 8, 8], 10).unwrap();
    let check = Check::default().with_samples(8).with_floor(1e-2);
    let report = check_layer(&spec, &[2, 1, 8, 8].into(), 3, &check).unwrap().into_result().unwrap();
    assert!(report.compared > 70);
}

/// Requests a stop after a number of batches.
struct StopAfter<'a>(usize, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0 -= 1;
        self.1.store(self.0 == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

#[test]
fn a_network_of_a_file_is_trained_and_resumed_bit_for_bit() {
    let file = ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small_net.json")).unwrap();
    let config = TrainConfig::for_file(&file, "digits").unwrap().with_epochs(6).with_limit(200);
    let data = config.load_data(Path::new("data")).unwrap();
    let start = || {
        let (spec, input) = (file.network.clone(), file.recipe.input.unwrap());
        Trainer::with_spec(config.clone(), spec, input, &*data.train, &Device::Cpu).unwrap()
    };
    let stop = AtomicBool::new(false);

    let mut uninterrupted = start();
    let end = uninterrupted.fit(&data, None, &mut StopAfter(usize::MAX, &stop), &stop).unwrap();
    assert_eq!(end, FitOutcome::Finished);
    let losses: Vec<f64> = uninterrupted.history().iter().map(|epoch| epoch.train_loss).collect();
    assert!(losses[5] < 0.8 * losses[0], "the loss falls: {losses:?}");

    let mut stopped = start();
    let end = stopped.fit(&data, None, &mut StopAfter(17, &stop), &stop).unwrap();
    assert_eq!(end, FitOutcome::Stopped(None));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    stopped.checkpoint().unwrap().write(&path).unwrap();
    drop(stopped);

    let stop = AtomicBool::new(false);
    let mut resumed = Trainer::resume(Checkpoint::read(&path).unwrap(), &Device::Cpu).unwrap();
    resumed.fit(&data, None, &mut StopAfter(usize::MAX, &stop), &stop).unwrap();
    assert_eq!(resumed.checkpoint().unwrap(), uninterrupted.checkpoint().unwrap());

    // A round trip of the weights does not change the predictions.
    let path = folder.path().join("small_net.safetensors");
    weights::save(resumed.network(), &path).unwrap();
    let other = Builder::new(&Device::Cpu, 9).build(&file.network, &[1, 1, 16, 16].into()).unwrap();
    weights::load(&*other, &path).unwrap();
    let names: Vec<String> = state::params(&*other).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"se.fc1.weight".to_string()), "{names:?}");
    let x = neocog_tensor::Tensor::full([2, 1, 16, 16], 0.5, &Device::Cpu).unwrap();
    assert_eq!(
        predict(&Predictor::new(other), &x).unwrap(),
        predict(&Predictor::new(resumed.shared_network()), &x).unwrap()
    );
}

#[test]
fn errors_have_the_path_to_the_layer() {
    let spec = neocog_models::find("unshuffle_net").unwrap().spec_for([1, 27, 28], 10);
    let error = spec.unwrap_err().to_string();
    assert!(
        error.starts_with("unshuffle_net / unshuffle (PixelUnshuffle)")
            && error.contains("27 x 28 pixels cannot be cut"),
        "{error}"
    );
    let wrong = |layer: &str| {
        let json = format!(r#"{{"kind": "Sequential", "layers": [{{"name": "se", "layer": {layer}}}]}}"#);
        let spec = LayerSpec::from_json(&json)?;
        Builder::new(&Device::Cpu, 0).build(&spec, &[1, 8, 4, 4].into())
    };
    for (layer, expected) in [
        (r#"{"kind": "SqueezeExcitation"}"#, "se (SqueezeExcitation): missing field `channels`"),
        (
            r#"{"kind": "SqueezeExcitation", "channels": 8, "reduction": 0}"#,
            "se (SqueezeExcitation): reduction must be",
        ),
        (
            r#"{"kind": "SqueezeExcitation", "channels": 6, "reduction": 2}"#,
            "se (SqueezeExcitation) / fc1 (Linear)",
        ),
        (r#"{"kind": "SqueezeExitation", "channels": 8}"#, "did you mean `SqueezeExcitation`"),
    ] {
        let error = wrong(layer).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }
}

/// The data set of the plugin is found by name, and a network trains on it.
#[test]
fn the_data_set_is_registered() {
    let info = neocog_data::DatasetInfo::find("bright_half").unwrap();
    assert_eq!((info.crate_name, info.class_names), (CRATE, &["left", "right"][..]));
    let mut config = TrainConfig::for_network("lenet", "bright_half").unwrap().with_epochs(4);
    config.batch = 16;
    let data = config.load_data(Path::new("nowhere")).unwrap();
    assert_eq!((data.train.len(), data.train.channels(), data.train.classes()), (64, 3, 2));
    let model = neocog_models::find("lenet").unwrap();
    let spec = model.spec_for([3, 28, 28], 2).unwrap();
    let mut trainer = Trainer::with_spec(config, spec, [3, 28, 28], &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false)).unwrap();
    assert_eq!(trainer.history().len(), 4);
    assert!(trainer.history().iter().all(|epoch| epoch.train_loss.is_finite()));
}
