//! The registries of layers and networks: lookup by name, and serialization.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_layers::registry::Registry;
use neocog_layers::{Conv2d, LayerEntry, LayerSpec, Linear, registry};
use neocog_models::{Family, models, models_of};
use neocog_tests as _;

/// All kinds of layers, listed explicitly to detect one that is no longer linked or registered.
const LAYERS: [&str; 42] = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "ELU",
    "Flatten",
    "FlattenLayer",
    "GELU",
    "Gate",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "InPlace",
    "LayerNorm",
    "LayerNorm2d",
    "LayerScale",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Narrow",
    "PReLU",
    "Permute",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StochasticDepth",
    "Tanh",
    "Unused",
    "Upsample",
];

/// All networks of the notes, likewise.
const NETWORKS: [&str; 10] = [
    "alexnet",
    "densenet",
    "googlenet",
    "lenet",
    "lenet_bn",
    "lenet_bn_scratch",
    "nin",
    "resnet",
    "vgg",
    "vgg_small",
];

/// All networks of torchvision, likewise.
const TORCHVISION: [&str; 36] = [
    "convnext_tiny",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "inception_v3",
    "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "tv_alexnet",
    "tv_googlenet",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "wide_resnet50_2",
];

#[test]
fn the_registries_are_complete() {
    let layers: Vec<&str> = registry().unwrap().iter().map(|e| e.kind).collect();
    assert_eq!(layers, LAYERS);
    for (family, expected) in [(Family::Notes, &NETWORKS[..]), (Family::Torchvision, &TORCHVISION)] {
        let networks: Vec<&str> = models_of(family).unwrap().iter().map(|m| m.name).collect();
        assert_eq!(networks, expected);
    }
    assert_eq!(models().unwrap().len(), NETWORKS.len() + TORCHVISION.len());
    for entry in registry().unwrap().iter() {
        assert!(!entry.examples().is_empty(), "{} has no example", entry.kind);
    }
}

fn all_specs() -> Vec<LayerSpec> {
    let examples = registry().unwrap().iter().flat_map(|e| e.examples()).map(|e| e.spec);
    examples.chain(models().unwrap().iter().map(|m| m.spec().unwrap())).collect()
}

#[test]
fn specs_round_trip_through_json_and_bincode() {
    let specs = all_specs();
    assert!(specs.len() > LAYERS.len() + NETWORKS.len());
    for spec in specs {
        let json = spec.to_json().unwrap();
        assert_eq!(LayerSpec::from_json(&json).unwrap(), spec, "{json}");
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&spec, config).unwrap();
        let (read, used): (LayerSpec, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!((read, used), (spec, bytes.len()));
    }
}

#[test]
fn different_specs_differ() {
    let specs = all_specs();
    for (i, a) in specs.iter().enumerate() {
        for (k, b) in specs.iter().enumerate() {
            let json = |s: &LayerSpec| s.to_json().unwrap();
            assert_eq!(a == b, json(a) == json(b), "{i} {k}");
        }
    }
}

#[test]
fn the_error_for_an_unknown_name_suggests_similar_ones() {
    let error = registry().unwrap().get("Conv2D").unwrap_err().to_string();
    assert!(error.contains("there is no layer named `Conv2D`") && error.contains("`Conv2d`"), "{error}");
    let error = LayerSpec::from_json(r#"{"kind": "Sigmod"}"#).unwrap_err().to_string();
    assert!(error.contains("did you mean `Sigmoid`"), "{error}");
    let error = neocog_models::find("lenetbn").unwrap_err().to_string();
    assert!(error.contains("there is no network named `lenetbn`") && error.contains("`lenet_bn`"), "{error}");
}

#[test]
fn errors_of_invalid_specs_name_the_field() {
    let wrong = |json: &str, expected: &str| {
        let error = LayerSpec::from_json(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} is not in: {error}");
    };
    wrong("{", "not the spec of a network");
    wrong(r#"{"in_features": 1}"#, "without the field \"kind\"");
    wrong(r#"{"kind": "Linear", "in_features": 1}"#, "out_features");
    wrong(r#"{"kind": "Linear", "in_features": 1, "out_features": 2, "biass": true}"#, "biass");
    wrong(
        r#"{"kind": "Linear", "in_features": -1, "out_features": 2}"#,
        "Linear: in_features: invalid value: integer `-1`",
    );
    wrong(r#"{"kind": "Sequential", "layers": [{"layer": {"kind": "Relu"}}]}"#, "`ReLU`");
}

#[test]
fn the_error_for_a_duplicate_name_has_both_crates() {
    let registered = registry().unwrap().iter().copied();
    let error = Registry::from_entries(registered.chain([LayerEntry::of::<Conv2d>("a-plugin")]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("Conv2d") && error.contains("a-plugin") && error.contains("neocog-layers"),
        "{error}"
    );
    let distinct = Registry::from_entries([
        LayerEntry::of::<Conv2d>("a-plugin"),
        LayerEntry::of::<Linear>("another-plugin"),
    ]);
    assert_eq!(distinct.unwrap().iter().count(), 2);
}
