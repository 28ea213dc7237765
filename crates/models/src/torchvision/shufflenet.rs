//! ShuffleNet V2 as in torchvision.
//!
//! N. Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design", ECCV 2018.

use neocog_layers::{
    BatchNorm2d, ChannelShuffle, Child, Concat, Conv2d, Flatten, GlobalAvgPool2d, LayerSpec, Linear,
    MaxPool2d, Narrow, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

fn one(layers: Sequential, before: usize, after: usize) -> Sequential {
    layers.then(Conv2d::new(before, after, 1).without_bias()).then(BatchNorm2d::new(after)).then(relu())
}

fn depthwise(layers: Sequential, channels: usize, stride: usize) -> Sequential {
    layers
        .then(Conv2d::new(channels, channels, 3).padding(1).stride(stride).groups(channels).without_bias())
        .then(BatchNorm2d::new(channels))
}

/// A block: with stride 2, both branches see all channels; with stride 1, the first half of the channels is passed on.
fn block(before: usize, after: usize, stride: usize) -> Sequential {
    let half = after / 2;
    let (branch1, inputs) = match stride {
        1 => (Sequential::new(), half),
        _ => (one(depthwise(Sequential::new(), before, stride), before, half), before),
    };
    let branch2 = one(depthwise(one(Sequential::new(), inputs, half), half, stride), half, half);
    let branch = |start: usize, name: &str, layers: Sequential| {
        let part = Child::unnamed(Narrow { dim: 1, start, length: half });
        let branch = Child::named(name, layers);
        if stride == 1 { vec![part, branch] } else { vec![branch] }
    };
    let branches = vec![branch(0, "branch1", branch1), branch(half, "branch2", branch2)];
    Sequential::new()
        .labeled("InvertedResidual")
        .unnamed(Concat { label: None, dim: 1, branches })
        .unnamed(ChannelShuffle { groups: 2 })
}

fn shufflenet_v2(channels: [usize; 3], input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let conv1 = Sequential::new()
        .then(Conv2d::new(input[0], 24, 3).padding(1).stride(2).without_bias())
        .then(BatchNorm2d::new(24))
        .then(relu());
    let mut net = Sequential::new()
        .labeled("ShuffleNetV2")
        .with("conv1", conv1)
        .with("maxpool", MaxPool2d::new(3, 2).padding(1));
    let mut before = 24;
    for (i, (after, blocks)) in channels.into_iter().zip([4, 8, 4]).enumerate() {
        let first = Sequential::new().then(block(before, after, 2));
        let stage = (1..blocks).fold(first, |stage, _| stage.then(block(after, after, 1)));
        net = net.with(format!("stage{}", i + 2), stage);
        before = after;
    }
    let net = net
        .with("conv5", one(Sequential::new(), before, 1024))
        .unnamed(GlobalAvgPool2d {})
        .unnamed(Flatten::default())
        .with("fc", Linear::new(1024, classes));
    Ok(net.into())
}

register_model!(model(
    "shufflenet_v2_x0_5",
    |i, c| shufflenet_v2([48, 96, 192], i, c),
    224,
    "torchvision's ShuffleNet V2 x0.5"
));
register_model!(model(
    "shufflenet_v2_x1_0",
    |i, c| shufflenet_v2([116, 232, 464], i, c),
    224,
    "torchvision's ShuffleNet V2 x1.0"
));
