//! LeNet, and LeNet with batch norm in two forms.
//!
//! Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", Proceedings
//! of the IEEE 86 (1998); in the form of "Dive into Deep Learning", sections 5.5 and 5.10.

use neocog_layers::{
    BatchNorm, BatchNorm1d, BatchNorm2d, Conv2d, FlattenLayer, LayerSpec, Linear, MaxPool2d, Sequential,
    Sigmoid,
};

use neocog_tensor::Result;

use crate::features;
use crate::recipe::{DataOverride, NOTES, Recipe};
use crate::register_model;
use crate::registry::{Expected, Model};

/// LeNet for inputs `[c, h, w]`: two convolutions and three linear layers with sigmoids; 44,426 parameters for
/// `[1, 28, 28]` and 10 classes.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn lenet(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let conv = Sequential::new()
        .then(Conv2d::new(input[0], 6, 5))
        .then(Sigmoid {})
        .then(MaxPool2d::new(2, 2))
        .then(Conv2d::new(6, 16, 5))
        .then(Sigmoid {})
        .then(MaxPool2d::new(2, 2));
    let net = Sequential::new().labeled("LeNet").with("conv", conv).unnamed(FlattenLayer {});
    let fc = Sequential::new()
        .then(Linear::new(features(&net, input)?, 120))
        .then(Sigmoid {})
        .then(Linear::new(120, 84))
        .then(Sigmoid {})
        .then(Linear::new(84, classes));
    Ok(net.with("fc", fc).into())
}

/// [`lenet`] with batch norm after each layer but the last; 44,878 parameters.
///
/// # Errors
/// As [`lenet`].
pub fn lenet_bn(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    with_batch_norm(input, classes, |features, dims| match dims {
        2 => BatchNorm1d::new(features).into(),
        _ => BatchNorm2d::new(features).into(),
    })
}

/// [`lenet_bn`] with the batch norm that the notes implement from scratch.
///
/// # Errors
/// As [`lenet`].
pub fn lenet_bn_scratch(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    with_batch_norm(input, classes, |features, dims| BatchNorm::new(features, dims).into())
}

fn with_batch_norm(
    input: [usize; 3],
    classes: usize,
    norm: impl Fn(usize, usize) -> LayerSpec,
) -> Result<LayerSpec> {
    let conv = Sequential::new()
        .then(Conv2d::new(input[0], 6, 5))
        .then(norm(6, 4))
        .then(Sigmoid {})
        .then(MaxPool2d::new(2, 2))
        .then(Conv2d::new(6, 16, 5))
        .then(norm(16, 4))
        .then(Sigmoid {})
        .then(MaxPool2d::new(2, 2))
        .then(FlattenLayer {});
    let features = features(&conv, input)?;
    let net = conv
        .then(Linear::new(features, 120))
        .then(norm(120, 2))
        .then(Sigmoid {})
        .then(Linear::new(120, 84))
        .then(norm(84, 2))
        .then(Sigmoid {})
        .then(Linear::new(84, classes));
    Ok(net.into())
}

const INPUT: [usize; 3] = [1, 28, 28];

const RECIPE: Recipe =
    NOTES.with_batch(256).with_overrides(&[DataOverride::DIGITS.with_learning_rate(0.002)]);

const BATCH_NORM_RESULT: Expected = Expected { train_accuracy: 0.89, test_accuracy: 0.858, best_epoch: true };

register_model!(
    Model::new("lenet", lenet, INPUT, 10)
        .with_about("LeNet (LeCun et al. 1998) with sigmoid activations and max pooling")
        .with_stored_about("LeNet (LeCun et al. 1998) with sigmoids and max pooling")
        .with_recipe(RECIPE)
        .with_expected(Expected { train_accuracy: 0.755, test_accuracy: 0.754, best_epoch: false })
);

register_model!(
    Model::new("lenet_bn", lenet_bn, INPUT, 10)
        .with_about("LeNet with batch normalization (Ioffe and Szegedy 2015)")
        .with_stored_about("LeNet with batch normalisation (Ioffe and Szegedy 2015)")
        .with_recipe(RECIPE)
        .with_expected(BATCH_NORM_RESULT)
);

register_model!(
    Model::new("lenet_bn_scratch", lenet_bn_scratch, INPUT, 10)
        .with_about("LeNet with batch normalization from scratch, as in \"Dive into Deep Learning\"")
        .with_stored_about("LeNet with the notes' hand-made batch normalisation")
        .with_recipe(RECIPE)
        .with_expected(BATCH_NORM_RESULT)
);
