//! What several of torchvision's networks consist of.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Conv2d, Gate, InPlace, LayerSpec, ReLU, Sequential,
};

use crate::optimizer::OptimizerKind;
use crate::recipe::Recipe;
use crate::registry::{BuildSpec, Family, Model};

/// The recipe of torchvision's networks: for fine-tuning.
const RECIPE: Recipe = Recipe::new()
    .with_batch(32)
    .with_epochs(10)
    .with_learning_rate(0.001)
    .with_optimizer(OptimizerKind::adam());

/// Creates a network of torchvision for 1,000 classes and color images of `size` by `size` pixels.
pub(super) const fn model(name: &'static str, build: BuildSpec, size: usize, about: &'static str) -> Model {
    Model::new(name, build, [3, size, size], 1000)
        .with_family(Family::Torchvision)
        .with_about(about)
        .with_recipe(RECIPE)
}

/// `ReLU(inplace=True)`.
pub(super) fn relu() -> InPlace {
    InPlace::new(ReLU {})
}

/// `Conv2dNormActivation` with batch norm: a convolution without bias, batch norm, and an activation if there is one.
pub(super) fn conv_norm(conv: Conv2d, activation: Option<LayerSpec>) -> Sequential {
    let norm = BatchNorm2d::new(conv.out_channels);
    conv_norm_with(conv, norm, activation)
}

/// As [`conv_norm`], with the given batch norm.
pub(super) fn conv_norm_with(conv: Conv2d, norm: BatchNorm2d, activation: Option<LayerSpec>) -> Sequential {
    let layers = Sequential::new().labeled("Conv2dNormActivation").then(conv.without_bias()).then(norm);
    match activation {
        Some(activation) => layers.then(activation),
        None => layers,
    }
}

/// Squeeze and excitation, as `torchvision.ops.SqueezeExcitation`.
pub(super) fn squeeze_excitation(
    channels: usize,
    squeezed: usize,
    activation: impl Into<LayerSpec>,
    scale_activation: impl Into<LayerSpec>,
) -> Gate {
    Gate {
        label: Some("SqueezeExcitation".into()),
        body: vec![
            Child::named("avgpool", AdaptiveAvgPool2d::square(1)),
            Child::named("fc1", Conv2d::new(channels, squeezed, 1)),
            Child::named("activation", activation),
            Child::named("fc2", Conv2d::new(squeezed, channels, 1)),
            Child::named("scale_activation", scale_activation),
        ],
        order: ["avgpool", "fc1", "fc2", "activation", "scale_activation"].map(String::from).to_vec(),
    }
}

/// Returns the multiple of 8 that is nearest to `value`, but at least 0.9 of it.
pub(super) fn make_divisible(value: f64) -> usize {
    let nearest = (((value + 4.0) as usize) / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * value { nearest + 8 } else { nearest }
}
