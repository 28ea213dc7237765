//! SqueezeNet as in torchvision.
//!
//! F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016.

use neocog_layers::{
    AdaptiveAvgPool2d, Child, Concat, Conv2d, Dropout, Flatten, LayerSpec, MaxPool2d, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

/// A fire module: a 1x1 convolution to `squeeze` channels, then 1x1 and 3x3 convolutions to `expand` channels each.
fn fire(before: usize, squeeze: usize, expand: usize) -> Sequential {
    let branches = vec![
        vec![
            Child::named("expand1x1", Conv2d::new(squeeze, expand, 1)),
            Child::named("expand1x1_activation", relu()),
        ],
        vec![
            Child::named("expand3x3", Conv2d::new(squeeze, expand, 3).padding(1)),
            Child::named("expand3x3_activation", relu()),
        ],
    ];
    Sequential::new()
        .labeled("Fire")
        .with("squeeze", Conv2d::new(before, squeeze, 1))
        .with("squeeze_activation", relu())
        .unnamed(Concat { label: None, dim: 1, branches })
}

fn pool() -> MaxPool2d {
    MaxPool2d { ceil_mode: true, ..MaxPool2d::new(3, 2) }
}

fn squeezenet(features: Sequential, classes: usize) -> LayerSpec {
    let classifier = Sequential::new()
        .then(Dropout { p: 0.5 })
        .then(Conv2d::new(512, classes, 1))
        .then(relu())
        .then(AdaptiveAvgPool2d::pair([1, 1]));
    Sequential::new()
        .labeled("SqueezeNet")
        .with("features", features)
        .with("classifier", classifier)
        .unnamed(Flatten::default())
        .into()
}

fn squeezenet1_0([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let features = Sequential::new()
        .then(Conv2d::new(c, 96, 7).stride(2))
        .then(relu())
        .then(pool())
        .then(fire(96, 16, 64))
        .then(fire(128, 16, 64))
        .then(fire(128, 32, 128))
        .then(pool())
        .then(fire(256, 32, 128))
        .then(fire(256, 48, 192))
        .then(fire(384, 48, 192))
        .then(fire(384, 64, 256))
        .then(pool())
        .then(fire(512, 64, 256));
    Ok(squeezenet(features, classes))
}

fn squeezenet1_1([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let features = Sequential::new()
        .then(Conv2d::new(c, 64, 3).stride(2))
        .then(relu())
        .then(pool())
        .then(fire(64, 16, 64))
        .then(fire(128, 16, 64))
        .then(pool())
        .then(fire(128, 32, 128))
        .then(fire(256, 32, 128))
        .then(pool())
        .then(fire(256, 48, 192))
        .then(fire(384, 48, 192))
        .then(fire(384, 64, 256))
        .then(fire(512, 64, 256));
    Ok(squeezenet(features, classes))
}

register_model!(model("squeezenet1_0", squeezenet1_0, 224, "torchvision's SqueezeNet 1.0"));
register_model!(model("squeezenet1_1", squeezenet1_1, 224, "torchvision's SqueezeNet 1.1"));
