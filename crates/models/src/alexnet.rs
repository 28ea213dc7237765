//! AlexNet.
//!
//! A. Krizhevsky, I. Sutskever, G. E. Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012;
//! in the form of "Dive into Deep Learning", section 5.6: a single column, with half the total width of the original's two.

use neocog_layers::{Conv2d, Dropout, FlattenLayer, LayerSpec, Linear, MaxPool2d, ReLU, Sequential};
use neocog_tensor::Result;

use crate::features;
use crate::recipe::NOTES;
use crate::register_model;
use crate::registry::{Expected, Model};

/// AlexNet for inputs `[c, h, w]`: five convolutions, three linear layers with dropout; 46,764,746 parameters for
/// `[1, 224, 224]` and 10 classes.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn alexnet(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let conv = Sequential::new()
        .then(Conv2d::new(input[0], 96, 11).stride(4))
        .then(ReLU {})
        .then(MaxPool2d::new(3, 2))
        .then(Conv2d::new(96, 256, 5).padding(2))
        .then(ReLU {})
        .then(MaxPool2d::new(3, 2))
        .then(Conv2d::new(256, 384, 3).padding(1))
        .then(ReLU {})
        .then(Conv2d::new(384, 384, 3).padding(1))
        .then(ReLU {})
        .then(Conv2d::new(384, 256, 3).padding(1))
        .then(ReLU {})
        .then(MaxPool2d::new(3, 2));
    let net = Sequential::new().labeled("AlexNet").with("conv", conv).unnamed(FlattenLayer {});
    let fc = Sequential::new()
        .then(Linear::new(features(&net, input)?, 4096))
        .then(ReLU {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(4096, 4096))
        .then(ReLU {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(4096, classes));
    Ok(net.with("fc", fc).into())
}

register_model!(
    Model::new("alexnet", alexnet, [1, 224, 224], 10)
        .with_about("AlexNet (Krizhevsky et al. 2012): large kernels, ReLU and dropout")
        .with_stored_about("AlexNet (Krizhevsky et al. 2012), larger windows, relu and dropout")
        .with_recipe(NOTES.with_batch(128))
        .with_expected(Expected { train_accuracy: 0.913, test_accuracy: 0.902, best_epoch: false })
);
