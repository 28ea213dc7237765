//! RegNet as in torchvision.
//!
//! I. Radosavovic et al., "Designing network design spaces", CVPR 2020.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Conv2d, Flatten, LayerSpec, Linear, ReLU, Residual, Sequential,
    Sigmoid,
};
use neocog_tensor::Result;

use super::blocks::{conv_norm, model, relu, squeeze_excitation};
use crate::register_model;

/// Channels of a group of the 3x3 convolutions.
const GROUP_WIDTH: usize = 8;

fn block(before: usize, after: usize, stride: usize) -> Sequential {
    let activation = || Some(LayerSpec::from(relu()));
    let grouped = Conv2d::new(after, after, 3).padding(1).stride(stride).groups(after / GROUP_WIDTH);
    let transform = Sequential::new()
        .labeled("BottleneckTransform")
        .with("a", conv_norm(Conv2d::new(before, after, 1), activation()))
        .with("b", conv_norm(grouped, activation()))
        .with("se", squeeze_excitation(after, before / 4, ReLU {}, Sigmoid {}))
        .with("c", conv_norm(Conv2d::new(after, after, 1), None));
    let (mut shortcut, mut order) = (Vec::new(), vec!["f".to_string()]);
    if stride != 1 || before != after {
        let proj = conv_norm(Conv2d::new(before, after, 1).stride(stride), None);
        shortcut.push(Child::named("proj", proj));
        order.insert(0, "proj".to_string());
    }
    let body = vec![Child::named("f", transform)];
    Sequential::new()
        .labeled("ResBottleneckBlock")
        .unnamed(Residual { label: None, body, shortcut, activation: None, order })
        .with("activation", relu())
}

fn regnet_y_400mf([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let stem = Sequential::new()
        .labeled("SimpleStemIN")
        .then(Conv2d::new(c, 32, 3).padding(1).stride(2).without_bias())
        .then(BatchNorm2d::new(32))
        .then(relu());
    let mut trunk = Sequential::new();
    let mut before = 32;
    // Channels and number of blocks, which torchvision computes from the depth 16 and w_0 = 48, w_a = 27.89, w_m = 2.09.
    for (i, (channels, blocks)) in [(48, 1), (104, 3), (208, 6), (440, 6)].into_iter().enumerate() {
        let mut stage = Sequential::new().labeled("AnyStage");
        for k in 0..blocks {
            let stride = if k == 0 { 2 } else { 1 };
            stage = stage.with(format!("block{}-{k}", i + 1), block(before, channels, stride));
            before = channels;
        }
        trunk = trunk.with(format!("block{}", i + 1), stage);
    }
    let net = Sequential::new()
        .labeled("RegNet")
        .with("stem", stem)
        .with("trunk_output", trunk)
        .with("avgpool", AdaptiveAvgPool2d::pair([1, 1]))
        .unnamed(Flatten::default())
        .with("fc", Linear::new(before, classes));
    Ok(net.into())
}

register_model!(model("regnet_y_400mf", regnet_y_400mf, 224, "torchvision's RegNetY-400MF"));
