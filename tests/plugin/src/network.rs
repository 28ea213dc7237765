//! A network of layers of this crate and of neocog.

use neocog_layers::{Conv2d, Flatten, LayerSpec, Linear, MaxPool2d, ReLU, Sequential};
use neocog_models::{Model, OptimizerKind, Recipe, features, register_model};
use neocog_tensor::Result;

use crate::layers::{PixelUnshuffle, SqueezeExcitation};

/// A small network for inputs `[c, h, w]` of even height and width.
///
/// # Errors
/// When height or width is odd or too small; the error names the layer.
pub fn unshuffle_net([c, h, w]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let block = |channels: usize| {
        Sequential::new()
            .with("conv", Conv2d::new(channels, 16, 3).padding(1))
            .with("relu", ReLU {})
            .with("se", SqueezeExcitation { channels: 16, reduction: 4 })
    };
    let layers = Sequential::new()
        .labeled("UnshuffleNet")
        .with("unshuffle", PixelUnshuffle { downscale_factor: 2 })
        .with("block1", block(4 * c))
        .with("pool", MaxPool2d::new(2, 2))
        .with("block2", block(16))
        .with("flatten", Flatten::default());
    let inputs = features(&layers, [c, h, w])?;
    Ok(layers.with("fc", Linear::new(inputs, classes)).into())
}

register_model!(
    Model::new("unshuffle_net", unshuffle_net, [1, 28, 28], 10)
        .with_about("a small network with squeeze and excitation, from a crate outside of neocog")
        .with_recipe(
            Recipe::new()
                .with_batch(64)
                .with_epochs(5)
                .with_learning_rate(0.002)
                .with_optimizer(OptimizerKind::adam())
        )
);
