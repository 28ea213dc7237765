//! A network of this crate's layers and neocog's.

use neocog_layers::{Conv2d, Flatten, LayerSpec, Linear, MaxPool2d, ReLU, Sequential};
use neocog_models::{Model, Optimizer, Recipe, features, register_model};
use neocog_tensor::Result;

use crate::layers::{PixelUnshuffle, SqueezeExcitation};

/// A small network for pictures `[c, h, w]` with even sides.
///
/// # Errors
/// When the sides are not even, or too small; the error names the layer.
pub fn unshuffle_net([c, h, w]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let block = |channels: usize| {
        Sequential::new()
            .with("conv", Conv2d::new(channels, 16, 3).padding(1))
            .with("relu", ReLU {})
            .with("se", SqueezeExcitation { channels: 16, reduction: 4 })
    };
    let layers = Sequential::new()
        .labelled("UnshuffleNet")
        .with("unshuffle", PixelUnshuffle { downscale_factor: 2 })
        .with("block1", block(4 * c))
        .with("pool", MaxPool2d::new(2, 2))
        .with("block2", block(16))
        .with("flatten", Flatten::default());
    let inputs = features(&layers, [c, h, w])?;
    Ok(layers.with("fc", Linear::new(inputs, classes)).into())
}

register_model!(Model {
    name: "unshuffle_net",
    crate_name: env!("CARGO_PKG_NAME"),
    about: "a small network with squeeze and excitation, of another crate than neocog's",
    build: unshuffle_net,
    recipe: Recipe {
        input: [1, 28, 28],
        classes: 10,
        batch: 64,
        epochs: 5,
        learning_rate: 0.002,
        optimizer: Optimizer::Adam,
        bench_batch: 64,
    },
    expected: None,
});
