//! MobileNetV3 as in torchvision.
//!
//! A. Howard et al., "Searching for MobileNetV3", ICCV 2019.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Conv2d, Dropout, Flatten, Hardsigmoid, Hardswish, InPlace,
    LayerSpec, Linear, ReLU, Residual, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{conv_norm_with, make_divisible, model, relu, squeeze_excitation};
use crate::register_model;

/// A block: kernel size, expanded channels, output channels, squeeze and excitation, hard swish in place of ReLU, stride.
type Block = (usize, usize, usize, bool, bool, usize);

const LARGE: [Block; 15] = [
    (3, 16, 16, false, false, 1),
    (3, 64, 24, false, false, 2),
    (3, 72, 24, false, false, 1),
    (5, 72, 40, true, false, 2),
    (5, 120, 40, true, false, 1),
    (5, 120, 40, true, false, 1),
    (3, 240, 80, false, true, 2),
    (3, 200, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 480, 112, true, true, 1),
    (3, 672, 112, true, true, 1),
    (5, 672, 160, true, true, 2),
    (5, 960, 160, true, true, 1),
    (5, 960, 160, true, true, 1),
];

const SMALL: [Block; 11] = [
    (3, 16, 16, true, false, 2),
    (3, 72, 24, false, false, 2),
    (3, 88, 24, false, false, 1),
    (5, 96, 40, true, true, 2),
    (5, 240, 40, true, true, 1),
    (5, 240, 40, true, true, 1),
    (5, 120, 48, true, true, 1),
    (5, 144, 48, true, true, 1),
    (5, 288, 96, true, true, 2),
    (5, 576, 96, true, true, 1),
    (5, 576, 96, true, true, 1),
];

fn conv(conv: Conv2d, activation: Option<LayerSpec>) -> Sequential {
    let norm = BatchNorm2d { eps: 0.001, momentum: Some(0.01), ..BatchNorm2d::new(conv.out_channels) };
    conv_norm_with(conv, norm, activation)
}

fn inverted_residual(before: usize, block: Block) -> LayerSpec {
    const LABEL: &str = "InvertedResidual";
    let (kernel, expanded, after, excites, hard_swish, stride) = block;
    let activation = || Some(if hard_swish { Hardswish {}.into() } else { LayerSpec::from(relu()) });
    let mut layers = Sequential::new();
    if expanded != before {
        layers = layers.then(conv(Conv2d::new(before, expanded, 1), activation()));
    }
    let depthwise =
        Conv2d::new(expanded, expanded, kernel).padding(kernel / 2).stride(stride).groups(expanded);
    layers = layers.then(conv(depthwise, activation()));
    if excites {
        let squeezed = make_divisible((expanded / 4) as f64);
        layers = layers.then(squeeze_excitation(expanded, squeezed, ReLU {}, Hardsigmoid {}));
    }
    layers = layers.then(conv(Conv2d::new(expanded, after, 1), None));
    if stride != 1 || before != after {
        return Sequential::new().labeled(LABEL).with("block", layers).into();
    }
    Residual {
        label: Some(LABEL.into()),
        body: vec![Child::named("block", layers)],
        shortcut: Vec::new(),
        activation: None,
        order: Vec::new(),
    }
    .into()
}

fn mobilenet_v3(blocks: &[Block], last: usize, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let hard_swish = || Some(LayerSpec::from(Hardswish {}));
    let mut features =
        Sequential::new().then(conv(Conv2d::new(input[0], 16, 3).padding(1).stride(2), hard_swish()));
    let mut before = 16;
    for &block in blocks {
        features = features.then(inverted_residual(before, block));
        before = block.2;
    }
    let features = features.then(conv(Conv2d::new(before, 6 * before, 1), hard_swish()));
    let classifier = Sequential::new()
        .then(Linear::new(6 * before, last))
        .then(Hardswish {})
        .then(InPlace::new(Dropout { p: 0.2 }))
        .then(Linear::new(last, classes));
    let net = Sequential::new()
        .labeled("MobileNetV3")
        .with("features", features)
        .with("avgpool", AdaptiveAvgPool2d::square(1))
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model(
    "mobilenet_v3_large",
    |i, c| mobilenet_v3(&LARGE, 1280, i, c),
    224,
    "torchvision's MobileNetV3 large"
));
register_model!(model(
    "mobilenet_v3_small",
    |i, c| mobilenet_v3(&SMALL, 1024, i, c),
    224,
    "torchvision's MobileNetV3 small"
));
