//! MNASNet as in torchvision.
//!
//! M. Tan et al., "MnasNet: platform-aware neural architecture search for mobile", CVPR 2019.

use neocog_layers::{
    BatchNorm2d, Child, Conv2d, Dropout, Flatten, GlobalAvgPool2d, InPlace, LayerSpec, Linear, Residual,
    Sequential,
};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

/// Weight of the old value in the running statistics.
const DECAY: f64 = 0.9997;

fn norm(channels: usize) -> BatchNorm2d {
    BatchNorm2d { momentum: Some(1.0 - DECAY), ..BatchNorm2d::new(channels) }
}

fn conv(layers: Sequential, conv: Conv2d) -> Sequential {
    let channels = conv.out_channels;
    layers.then(conv.without_bias()).then(norm(channels))
}

fn inverted_residual(
    before: usize,
    after: usize,
    kernel: usize,
    stride: usize,
    expansion: usize,
) -> LayerSpec {
    const LABEL: &str = "_InvertedResidual";
    let hidden = before * expansion;
    let layers = conv(Sequential::new(), Conv2d::new(before, hidden, 1)).then(relu());
    let depthwise = Conv2d::new(hidden, hidden, kernel).padding(kernel / 2).stride(stride).groups(hidden);
    let layers = conv(conv(layers, depthwise).then(relu()), Conv2d::new(hidden, after, 1));
    if stride != 1 || before != after {
        return Sequential::new().labeled(LABEL).with("layers", layers).into();
    }
    Residual {
        label: Some(LABEL.into()),
        body: vec![Child::named("layers", layers)],
        shortcut: Vec::new(),
        activation: None,
        order: Vec::new(),
    }
    .into()
}

fn mnasnet1_0([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let layers = conv(Sequential::new(), Conv2d::new(c, 32, 3).padding(1).stride(2)).then(relu());
    let layers = conv(layers, Conv2d::new(32, 32, 3).padding(1).groups(32)).then(relu());
    let mut layers = conv(layers, Conv2d::new(32, 16, 1));
    let mut before = 16;
    // Channels, kernel size, stride of the first block, expansion, number of blocks.
    let stacks = [
        (24, 3, 2, 3, 3),
        (40, 5, 2, 3, 3),
        (80, 5, 2, 6, 3),
        (96, 3, 1, 6, 2),
        (192, 5, 2, 6, 4),
        (320, 3, 1, 6, 1),
    ];
    for (channels, kernel, stride, expansion, blocks) in stacks {
        let first = Sequential::new().then(inverted_residual(before, channels, kernel, stride, expansion));
        layers =
            layers.then((1..blocks).fold(first, |stack, _| {
                stack.then(inverted_residual(channels, channels, kernel, 1, expansion))
            }));
        before = channels;
    }
    let layers = conv(layers, Conv2d::new(before, 1280, 1)).then(relu());
    let classifier =
        Sequential::new().then(InPlace::new(Dropout { p: 0.2 })).then(Linear::new(1280, classes));
    let net = Sequential::new()
        .labeled("MNASNet")
        .with("layers", layers)
        .unnamed(GlobalAvgPool2d {})
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model("mnasnet1_0", mnasnet1_0, 224, "torchvision's MNASNet 1.0"));
