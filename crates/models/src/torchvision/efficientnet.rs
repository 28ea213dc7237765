//! EfficientNet as in torchvision.
//!
//! M. Tan, Q. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.

use neocog_layers::{
    AdaptiveAvgPool2d, Child, Conv2d, Dropout, Flatten, InPlace, LayerSpec, Linear, Residual, Sequential,
    SiLU, Sigmoid, StochasticDepth, Unused,
};
use neocog_tensor::Result;

use super::blocks::{conv_norm, make_divisible, model, squeeze_excitation};
use crate::register_model;

/// Probability that the last block is dropped; for earlier blocks it is proportionally less.
const STOCHASTIC_DEPTH: f64 = 0.2;

/// Expansion, kernel size, stride of the first block, input channels, output channels, number of blocks.
const STAGES: [(usize, usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
];

fn silu() -> InPlace {
    InPlace::new(SiLU {})
}

fn conv(conv: Conv2d) -> Sequential {
    conv_norm(conv, Some(silu().into()))
}

/// An MBConv block; `drop` is the probability that it is dropped.
fn mb_conv(
    before: usize,
    after: usize,
    expansion: usize,
    kernel: usize,
    stride: usize,
    drop: f64,
) -> LayerSpec {
    const LABEL: &str = "MBConv";
    let expanded = make_divisible((before * expansion) as f64);
    let mut block = Sequential::new();
    if expanded != before {
        block = block.then(conv(Conv2d::new(before, expanded, 1)));
    }
    let depthwise =
        Conv2d::new(expanded, expanded, kernel).padding(kernel / 2).stride(stride).groups(expanded);
    let block = block
        .then(conv(depthwise))
        .then(squeeze_excitation(expanded, (before / 4).max(1), silu(), Sigmoid {}))
        .then(conv_norm(Conv2d::new(expanded, after, 1), None));
    let depth = StochasticDepth::rows(drop);
    if stride != 1 || before != after {
        // torchvision declares stochastic depth in blocks without a shortcut, too, where it is not run.
        return Sequential::new()
            .labeled(LABEL)
            .with("block", block)
            .with("stochastic_depth", Unused::new(depth))
            .into();
    }
    Residual {
        label: Some(LABEL.into()),
        body: vec![Child::named("block", block), Child::named("stochastic_depth", depth)],
        shortcut: Vec::new(),
        activation: None,
        order: Vec::new(),
    }
    .into()
}

fn efficientnet(
    width: f64,
    depth: f64,
    dropout: f64,
    input: [usize; 3],
    classes: usize,
) -> Result<LayerSpec> {
    let channels = |channels: usize| make_divisible(channels as f64 * width);
    let blocks = |blocks: usize| (blocks as f64 * depth).ceil() as usize;
    let total: usize = STAGES.iter().map(|stage| blocks(stage.5)).sum();
    let mut before = channels(STAGES[0].3);
    let mut features = Sequential::new().then(conv(Conv2d::new(input[0], before, 3).padding(1).stride(2)));
    let mut number = 0;
    for (expansion, kernel, stride, _, after, count) in STAGES {
        let mut stage = Sequential::new();
        for block in 0..blocks(count) {
            let drop = STOCHASTIC_DEPTH * number as f64 / total as f64;
            let stride = if block == 0 { stride } else { 1 };
            stage = stage.then(mb_conv(before, channels(after), expansion, kernel, stride, drop));
            before = channels(after);
            number += 1;
        }
        features = features.then(stage);
    }
    let features = features.then(conv(Conv2d::new(before, 4 * before, 1)));
    let classifier =
        Sequential::new().then(InPlace::new(Dropout { p: dropout })).then(Linear::new(4 * before, classes));
    let net = Sequential::new()
        .labeled("EfficientNet")
        .with("features", features)
        .with("avgpool", AdaptiveAvgPool2d::square(1))
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model(
    "efficientnet_b0",
    |i, c| efficientnet(1.0, 1.0, 0.2, i, c),
    224,
    "torchvision's EfficientNet-B0"
));
register_model!(model(
    "efficientnet_b1",
    |i, c| efficientnet(1.0, 1.1, 0.2, i, c),
    240,
    "torchvision's EfficientNet-B1"
));
register_model!(model(
    "efficientnet_b2",
    |i, c| efficientnet(1.1, 1.2, 0.3, i, c),
    288,
    "torchvision's EfficientNet-B2"
));
register_model!(model(
    "efficientnet_b3",
    |i, c| efficientnet(1.2, 1.4, 0.3, i, c),
    300,
    "torchvision's EfficientNet-B3"
));
