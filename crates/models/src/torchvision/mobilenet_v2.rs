//! MobileNetV2 as in torchvision.
//!
//! M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Conv2d, Dropout, Flatten, InPlace, LayerSpec, Linear, ReLU6,
    Residual, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{conv_norm, model};
use crate::register_model;

fn relu6() -> Option<LayerSpec> {
    Some(InPlace::new(ReLU6 {}).into())
}

fn inverted_residual(before: usize, after: usize, stride: usize, expansion: usize) -> LayerSpec {
    const LABEL: &str = "InvertedResidual";
    let hidden = before * expansion;
    let mut conv = Sequential::new();
    if expansion != 1 {
        conv = conv.then(conv_norm(Conv2d::new(before, hidden, 1), relu6()));
    }
    conv = conv
        .then(conv_norm(Conv2d::new(hidden, hidden, 3).padding(1).stride(stride).groups(hidden), relu6()))
        .then(Conv2d::new(hidden, after, 1).without_bias())
        .then(BatchNorm2d::new(after));
    if stride != 1 || before != after {
        return Sequential::new().labeled(LABEL).with("conv", conv).into();
    }
    Residual {
        label: Some(LABEL.into()),
        body: vec![Child::named("conv", conv)],
        shortcut: Vec::new(),
        activation: None,
        order: Vec::new(),
    }
    .into()
}

fn mobilenet_v2([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let mut features = Sequential::new().then(conv_norm(Conv2d::new(c, 32, 3).padding(1).stride(2), relu6()));
    let mut before = 32;
    // Expansion, channels, number of blocks, stride of the first.
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    for (expansion, channels, blocks, stride) in stages {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            features = features.then(inverted_residual(before, channels, stride, expansion));
            before = channels;
        }
    }
    let features = features.then(conv_norm(Conv2d::new(before, 1280, 1), relu6()));
    let classifier = Sequential::new().then(Dropout { p: 0.2 }).then(Linear::new(1280, classes));
    let net = Sequential::new()
        .labeled("MobileNetV2")
        .with("features", features)
        .unnamed(AdaptiveAvgPool2d::pair([1, 1]))
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model("mobilenet_v2", mobilenet_v2, 224, "torchvision's MobileNetV2"));
