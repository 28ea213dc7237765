//! Fine-tuning: frozen parameters and statistics, groups of parameters, and their bad input.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use neocog_autograd::{Tape, Var};
use neocog_data::Split;
use neocog_layers::freeze::freeze;
use neocog_layers::{
    BatchNorm2d, Builder, Conv2d, Flatten, GlobalAvgPool2d, Layer, LayerSpec, Linear, ReLU, Sequential,
    TrainPass, state, weights,
};
use neocog_tensor::{Device, Tensor};
use neocog_train::{
    Checkpoint, CheckpointDir, NoProgress, Optimizer, OptimizerConfig, OptimizerKind, ParamGroup, Recipe,
    TrainConfig, Trainer,
};

fn spec() -> LayerSpec {
    let block = |before, after| {
        Sequential::new()
            .with("conv", Conv2d::new(before, after, 3).padding(1).stride(2))
            .with("bn", BatchNorm2d::new(after))
            .unnamed(ReLU {})
    };
    Sequential::new()
        .with("layer1", block(1, 4))
        .with("layer2", block(4, 8))
        .unnamed(GlobalAvgPool2d {})
        .unnamed(Flatten::default())
        .with("fc", Linear::new(8, 10))
        .into()
}

fn config() -> TrainConfig {
    let mut config = TrainConfig::new("mine", "digits", &Recipe::new()).with_limit(64);
    (config.epochs, config.batch) = (2, 16);
    config
}

fn trainer(config: &TrainConfig) -> (Trainer, Split) {
    let data = config.load_data(Path::new("data")).unwrap();
    let trainer =
        Trainer::with_spec(config.clone(), spec(), [1, 28, 28], &*data.train, &Device::Cpu).unwrap();
    (trainer, data)
}

fn fit(trainer: &mut Trainer, data: &Split) {
    trainer.fit(data, None, &mut NoProgress, &AtomicBool::new(false)).unwrap();
}

fn snapshot(network: &dyn Layer) -> Vec<(String, Vec<f32>)> {
    let values = |(name, entry): (String, state::Entry<'_>)| match entry {
        state::Entry::Counter(counter) => (name, vec![counter.get() as f32]),
        other => (name, other.tensor().unwrap().value().to_f32().unwrap()),
    };
    state::entries(network).into_iter().map(values).collect()
}

/// The names of the entries that an epoch changes.
fn changed(config: &TrainConfig) -> Vec<String> {
    let (mut trainer, data) = trainer(config);
    let before = snapshot(trainer.network());
    fit(&mut trainer, &data);
    let after = snapshot(trainer.network());
    before.into_iter().zip(after).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect()
}

#[test]
fn what_is_frozen_does_not_change() {
    let all = changed(&config());
    assert_eq!(all.len(), 16, "{all:?}");
    let frozen = changed(&config().with_freeze("layer1"));
    let expected: Vec<String> = all.iter().filter(|name| !name.starts_with("layer1")).cloned().collect();
    assert_eq!(frozen, expected);
    assert_eq!(changed(&config().with_freeze("layer[12]")), ["fc.weight", "fc.bias"]);
    // Only the parameters of a norm: its statistics are updated.
    let affine = changed(&config().with_freeze(r"bn\.(weight|bias)$"));
    assert_eq!(affine.len(), 12, "{affine:?}");
    assert!(affine.contains(&"layer1.bn.running_mean".to_string()));
    assert_eq!(changed(&config().with_freeze("layer1|layer2.bn").with_freeze("^layer")).len(), 2);
}

#[test]
fn nothing_is_computed_backward_for_what_is_frozen() {
    let entries = |pattern: Option<&str>| {
        let network = Builder::new(&Device::Cpu, 0).build(&spec(), &[4, 1, 28, 28].into()).unwrap();
        let pass = TrainPass::new(network);
        let run = || {
            let tape = Tape::new();
            let x = Tensor::full([4, 1, 28, 28], 0.5, &Device::Cpu).unwrap();
            pass.run(&tape, &Var::constant(x), 0).unwrap();
            tape.len()
        };
        let before = run();
        if let Some(pattern) = pattern {
            freeze(pass.network(), pattern).unwrap();
        }
        (before, run())
    };
    let (all, same) = entries(None);
    assert_eq!(all, same);
    let (_, second) = entries(Some("layer1"));
    let (_, head) = entries(Some("layer"));
    assert!(all > second && second > head && head == 1, "{all} {second} {head}");
}

#[test]
fn a_resumed_run_keeps_what_is_frozen_and_the_groups() {
    let config = config()
        .with_freeze("layer1")
        .with_param_group("head=0.01,0.1".parse().unwrap())
        .with_decay_weights_only(true);
    let (mut whole, data) = trainer(&config);
    fit(&mut whole, &data);

    let root = tempfile::tempdir().unwrap();
    let folder = CheckpointDir::create(root.path()).unwrap();
    let (mut half, _) = trainer(&config.clone().with_epochs(1));
    half.fit(&data, Some(&folder), &mut NoProgress, &AtomicBool::new(false)).unwrap();
    let checkpoint = Checkpoint::read(&root.path().join(CheckpointDir::LAST)).unwrap();
    assert_eq!(checkpoint.config.freeze.as_deref(), Some("layer1"));
    let mut resumed = Trainer::resume(checkpoint, &Device::Cpu).unwrap();
    resumed.set_epochs(2).unwrap();
    fit(&mut resumed, &data);
    assert_eq!(snapshot(resumed.network()), snapshot(whole.network()));
}

fn optimizer_step(
    groups: &[ParamGroup],
    weights_only: bool,
    rule: OptimizerKind,
    lr: f64,
) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    let network = Builder::new(&Device::Cpu, 0).build(&spec(), &[4, 1, 28, 28].into()).unwrap();
    let mut optimizer =
        Optimizer::with_groups(OptimizerConfig { lr, kind: rule }, groups, weights_only, &*network).unwrap();
    let before = snapshot(&*network);
    let tape = Tape::new();
    let params = state::params(&*network);
    let grads: Vec<(Var, Tensor)> = params
        .iter()
        .map(|(_, param)| (tape.param(param), Tensor::full(param.shape(), 1.0, &Device::Cpu).unwrap()))
        .collect();
    let outputs: Vec<(&Var, Tensor)> = grads.iter().map(|(var, grad)| (var, grad.clone())).collect();
    let grads = tape.backward_from(&outputs).unwrap();
    optimizer.step_scaled(&*network, &grads, 0.5).unwrap();
    let after = snapshot(&*network);
    before.into_iter().zip(after).map(|((name, a), (_, b))| (name, a, b)).collect()
}

#[test]
fn groups_have_their_learning_rate_and_weight_decay() {
    let groups = ["fc=0.5".parse().unwrap(), "layer2=0.25,0.0625".parse().unwrap(), ".*=9".parse().unwrap()];
    let rule = OptimizerKind::sgd().with_weight_decay(0.125);
    for weights_only in [false, true] {
        for (name, before, after) in optimizer_step(&groups, weights_only, rule, 0.0) {
            if name.contains("running") || name.contains("num_batches") {
                continue;
            }
            let (lr, decay) = match &name {
                name if name.starts_with("fc") => (0.25, 0.125),
                name if name.starts_with("layer2") => (0.125, 0.0625),
                _ => (4.5, 0.125),
            };
            let is_weight = name == "fc.weight" || name.ends_with("conv.weight");
            let decay = if weights_only && !is_weight { 0.0 } else { decay };
            for (a, b) in before.iter().zip(&after) {
                let expected = a - lr * (1.0 + decay * a);
                assert!((b - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{name}: {a} {b} {expected}");
            }
        }
    }
}

#[test]
fn bad_patterns_are_errors() {
    let data = config().load_data(Path::new("data")).unwrap();
    let error = |config: TrainConfig| {
        let made = Trainer::with_spec(config, spec(), [1, 28, 28], &*data.train, &Device::Cpu);
        made.err().unwrap().to_string()
    };
    let group = |text: &str| config().with_param_group(text.parse().unwrap());
    for (config, expected) in [
        (
            config().with_freeze("features"),
            "no parameter matches the pattern \"features\"; the names start with layer1, layer2, fc",
        ),
        (config().with_freeze("(layer1"), "is not a regular expression"),
        (config().with_freeze("layer|fc"), "leaves none to train"),
        (group("classifier=0.1"), "no parameter matches the pattern \"classifier\""),
        (
            group("layer=0.1").with_param_group("layer2.conv=0.2".parse().unwrap()),
            "the group \"layer2.conv\" comes after groups that have all of its parameters",
        ),
        (config().with_freeze("layer|head"), "leaves none to train"),
        (group("layer1=0.1").with_freeze("layer1"), "all parameters of the group \"layer1\" are frozen"),
    ] {
        let error = error(config);
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }
    for text in ["head", "=0.1", "head=fast", "head=0.1,much", "head=-1", "head=NaN"] {
        assert!(text.parse::<ParamGroup>().is_err(), "{text}");
    }
}

#[test]
fn all_but_the_head_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    let build = |spec: &LayerSpec, seed| {
        Builder::new(&Device::Cpu, seed).build(spec, &[4, 1, 28, 28].into()).unwrap()
    };
    let with_classes = |classes: usize| {
        let json = spec()
            .to_json()
            .unwrap()
            .replace("\"out_features\": 10", &format!("\"out_features\": {classes}"));
        LayerSpec::from_json(&json).unwrap()
    };
    let pretrained = build(&spec(), 1);
    weights::save(&*pretrained, &path).unwrap();
    let network = build(&with_classes(5), 2);
    let strict = weights::load(&*network, &path).unwrap_err().to_string();
    assert!(strict.contains("fc.weight is [10, 8], the network has [5, 8]"), "{strict}");
    let own_head =
        snapshot(&*network).into_iter().filter(|(name, _)| name.starts_with("fc")).collect::<Vec<_>>();
    let loaded = weights::load_except_head(&*network, &path).unwrap();
    assert_eq!(loaded.mismatched_shapes, ["fc.weight", "fc.bias"]);
    for (found, expected) in snapshot(&*network).iter().zip(snapshot(&*pretrained)) {
        match own_head.iter().find(|(name, _)| *name == found.0) {
            Some(own) => assert_eq!(found, own),
            None => assert_eq!(*found, expected),
        }
    }
    // Another network is an error all the same, in a few lines.
    let other = neocog_models::find("mobilenet_v3_small").unwrap();
    let other = Builder::new(&Device::Cpu, 0)
        .build(&other.spec_for([3, 32, 32], 5).unwrap(), &[1, 3, 32, 32].into())
        .unwrap();
    let error = weights::load_except_head(&*other, &path).unwrap_err().to_string();
    assert!(error.lines().count() < 12 && error.contains("more that are missing in the file"), "{error}");
}
