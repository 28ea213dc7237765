//! DenseNet as in torchvision.
//!
//! G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely connected convolutional networks", CVPR 2017.

use neocog_layers::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Child, Concat, Conv2d, Flatten, LayerSpec, Linear, MaxPool2d,
    ReLU, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

/// Channels of the 1x1 convolutions, in growth rates.
const BOTTLENECK: usize = 4;

fn dense_block(layers: usize, channels: usize, growth: usize) -> Sequential {
    (0..layers).fold(Sequential::new().labeled("_DenseBlock"), |block, i| {
        let before = channels + i * growth;
        let layer = Sequential::new()
            .labeled("_DenseLayer")
            .with("norm1", BatchNorm2d::new(before))
            .with("relu1", relu())
            .with("conv1", Conv2d::new(before, BOTTLENECK * growth, 1).without_bias())
            .with("norm2", BatchNorm2d::new(BOTTLENECK * growth))
            .with("relu2", relu())
            .with("conv2", Conv2d::new(BOTTLENECK * growth, growth, 3).padding(1).without_bias());
        let branches = vec![vec![], vec![Child::named(format!("denselayer{}", i + 1), layer)]];
        block.unnamed(Concat { label: None, dim: 1, branches })
    })
}

fn transition(before: usize, after: usize) -> Sequential {
    Sequential::new()
        .labeled("_Transition")
        .with("norm", BatchNorm2d::new(before))
        .with("relu", relu())
        .with("conv", Conv2d::new(before, after, 1).without_bias())
        .with("pool", AvgPool2d::new(2, 2))
}

fn densenet(
    growth: usize,
    blocks: [usize; 4],
    first: usize,
    input: [usize; 3],
    classes: usize,
) -> Result<LayerSpec> {
    let mut features = Sequential::new()
        .with("conv0", Conv2d::new(input[0], first, 7).stride(2).padding(3).without_bias())
        .with("norm0", BatchNorm2d::new(first))
        .with("relu0", relu())
        .with("pool0", MaxPool2d::new(3, 2).padding(1));
    let mut channels = first;
    for (i, layers) in blocks.into_iter().enumerate() {
        features = features.with(format!("denseblock{}", i + 1), dense_block(layers, channels, growth));
        channels += layers * growth;
        if i + 1 < blocks.len() {
            features = features.with(format!("transition{}", i + 1), transition(channels, channels / 2));
            channels /= 2;
        }
    }
    let net = Sequential::new()
        .labeled("DenseNet")
        .with("features", features.with("norm5", BatchNorm2d::new(channels)))
        .unnamed(ReLU {})
        .unnamed(AdaptiveAvgPool2d::pair([1, 1]))
        .unnamed(Flatten::default())
        .with("classifier", Linear::new(channels, classes));
    Ok(net.into())
}

register_model!(model(
    "densenet121",
    |i, c| densenet(32, [6, 12, 24, 16], 64, i, c),
    224,
    "torchvision's DenseNet-121"
));
register_model!(model(
    "densenet161",
    |i, c| densenet(48, [6, 12, 36, 24], 96, i, c),
    224,
    "torchvision's DenseNet-161"
));
register_model!(model(
    "densenet169",
    |i, c| densenet(32, [6, 12, 32, 32], 64, i, c),
    224,
    "torchvision's DenseNet-169"
));
register_model!(model(
    "densenet201",
    |i, c| densenet(32, [6, 12, 48, 32], 64, i, c),
    224,
    "torchvision's DenseNet-201"
));
