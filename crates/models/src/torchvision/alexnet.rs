//! AlexNet as in torchvision.
//!
//! A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

use neocog_layers::{AdaptiveAvgPool2d, Conv2d, Dropout, Flatten, LayerSpec, Linear, MaxPool2d, Sequential};
use neocog_tensor::Result;

use super::blocks::{model, relu};
use crate::register_model;

fn alexnet([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let features = Sequential::new()
        .then(Conv2d::new(c, 64, 11).stride(4).padding(2))
        .then(relu())
        .then(MaxPool2d::new(3, 2))
        .then(Conv2d::new(64, 192, 5).padding(2))
        .then(relu())
        .then(MaxPool2d::new(3, 2))
        .then(Conv2d::new(192, 384, 3).padding(1))
        .then(relu())
        .then(Conv2d::new(384, 256, 3).padding(1))
        .then(relu())
        .then(Conv2d::new(256, 256, 3).padding(1))
        .then(relu())
        .then(MaxPool2d::new(3, 2));
    let classifier = Sequential::new()
        .then(Dropout { p: 0.5 })
        .then(Linear::new(256 * 6 * 6, 4096))
        .then(relu())
        .then(Dropout { p: 0.5 })
        .then(Linear::new(4096, 4096))
        .then(relu())
        .then(Linear::new(4096, classes));
    let net = Sequential::new()
        .labeled("AlexNet")
        .with("features", features)
        .with("avgpool", AdaptiveAvgPool2d::pair([6, 6]))
        .unnamed(Flatten::default())
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model("tv_alexnet", alexnet, 224, "torchvision's AlexNet (Krizhevsky 2014)"));
