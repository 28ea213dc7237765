//! VGG as in torchvision.
//!
//! K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, LayerSpec, Linear, MaxPool2d, Sequential,
};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

/// A VGG with `convs` convolutions in each of its five stages.
fn vgg(convs: [usize; 5], batch_norm: bool, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let mut features = Sequential::new();
    let mut before = input[0];
    for (convs, channels) in convs.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..convs {
            features = features.then(Conv2d::new(before, channels, 3).padding(1));
            if batch_norm {
                features = features.then(BatchNorm2d::new(channels));
            }
            features = features.then(relu());
            before = channels;
        }
        features = features.then(MaxPool2d::new(2, 2));
    }
    let classifier = Sequential::new()
        .then(Linear::new(512 * 7 * 7, 4096))
        .then(relu())
        .then(Dropout { p: 0.5 })
        .then(Linear::new(4096, 4096))
        .then(relu())
        .then(Dropout { p: 0.5 })
        .then(Linear::new(4096, classes));
    let net = Sequential::new()
        .labeled("VGG")
        .with("features", features)
        .with("avgpool", AdaptiveAvgPool2d::pair([7, 7]))
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

const VGG11: [usize; 5] = [1, 1, 2, 2, 2];
const VGG13: [usize; 5] = [2, 2, 2, 2, 2];
const VGG16: [usize; 5] = [2, 2, 3, 3, 3];
const VGG19: [usize; 5] = [2, 2, 4, 4, 4];

register_model!(model("vgg11", |i, c| vgg(VGG11, false, i, c), 224, "torchvision's VGG-11"));
register_model!(model("vgg13", |i, c| vgg(VGG13, false, i, c), 224, "torchvision's VGG-13"));
register_model!(model("vgg16", |i, c| vgg(VGG16, false, i, c), 224, "torchvision's VGG-16"));
register_model!(model("vgg19", |i, c| vgg(VGG19, false, i, c), 224, "torchvision's VGG-19"));
register_model!(model(
    "vgg11_bn",
    |i, c| vgg(VGG11, true, i, c),
    224,
    "torchvision's VGG-11 with batch norm"
));
register_model!(model(
    "vgg13_bn",
    |i, c| vgg(VGG13, true, i, c),
    224,
    "torchvision's VGG-13 with batch norm"
));
register_model!(model(
    "vgg16_bn",
    |i, c| vgg(VGG16, true, i, c),
    224,
    "torchvision's VGG-16 with batch norm"
));
register_model!(model(
    "vgg19_bn",
    |i, c| vgg(VGG19, true, i, c),
    224,
    "torchvision's VGG-19 with batch norm"
));
