//! VGG.
//!
//! K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015; in the form
//! of "Dive into Deep Learning", section 5.7: VGG-11, and the same with an eighth of the width.

use neocog_layers::{Conv2d, Dropout, FlattenLayer, LayerSpec, Linear, MaxPool2d, ReLU, Sequential};
use neocog_tensor::Result;

use crate::features;
use crate::register_model;
use crate::registry::{Expected, Model, Optimizer, Recipe};

/// A block: how many convolutions, and the channels before and after them.
pub type ConvBlock = (usize, usize, usize);

/// The blocks of VGG-11.
pub const VGG_11: [ConvBlock; 5] = [(1, 1, 64), (1, 64, 128), (2, 128, 256), (2, 256, 512), (2, 512, 512)];

/// `num_convs` convolutions 3x3, each with a relu, then a pooling that halves the picture.
pub fn vgg_block(num_convs: usize, in_channels: usize, out_channels: usize) -> Sequential {
    let convs = (0..num_convs).fold(Sequential::new(), |block, i| {
        let channels = if i == 0 { in_channels } else { out_channels };
        block.then(Conv2d::new(channels, out_channels, 3).padding(1)).then(ReLU {})
    });
    convs.then(MaxPool2d::new(2, 2))
}

/// VGG of the blocks `conv_arch`, which give `fc_features` numbers, and two hidden linear layers of `fc_hidden_units`.
pub fn vgg(conv_arch: &[ConvBlock], fc_features: usize, fc_hidden_units: usize, classes: usize) -> LayerSpec {
    let fc = Sequential::new()
        .then(FlattenLayer {})
        .then(Linear::new(fc_features, fc_hidden_units))
        .then(ReLU {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(fc_hidden_units, fc_hidden_units))
        .then(ReLU {})
        .then(Dropout { p: 0.5 })
        .then(Linear::new(fc_hidden_units, classes));
    blocks(conv_arch).with("fc", fc).into()
}

fn blocks(conv_arch: &[ConvBlock]) -> Sequential {
    let numbered = conv_arch.iter().zip(1..);
    numbered.fold(Sequential::new(), |net, (&(convs, before, after), i)| {
        net.with(format!("vgg_block_{i}"), vgg_block(convs, before, after))
    })
}

/// VGG-11 for pictures `[c, h, w]`, with all widths divided by `ratio`.
fn vgg_11(ratio: usize, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let mut arch = VGG_11.map(|(convs, before, after)| (convs, before / ratio, after / ratio));
    arch[0].1 = input[0];
    let fc_features = features(&blocks(&arch).unnamed(FlattenLayer {}), input)?;
    Ok(vgg(&arch, fc_features, 4096 / ratio, classes))
}

const RECIPE: Recipe = Recipe {
    input: [1, 224, 224],
    classes: 10,
    batch: 64,
    epochs: 5,
    learning_rate: 0.001,
    optimizer: Optimizer::Adam,
    bench_batch: 32,
};

register_model!(Model {
    name: "vgg",
    crate_name: env!("CARGO_PKG_NAME"),
    about: "VGG-11 (Simonyan and Zisserman 2015), blocks of 3x3 convolutions",
    build: |input, classes| vgg_11(1, input, classes),
    recipe: Recipe { bench_batch: 8, ..RECIPE },
    expected: None,
});

register_model!(Model {
    name: "vgg_small",
    crate_name: env!("CARGO_PKG_NAME"),
    about: "VGG-11 with an eighth of the width",
    build: |input, classes| vgg_11(8, input, classes),
    recipe: RECIPE,
    expected: Some(Expected { train_accuracy: 0.919, test_accuracy: 0.918, best_epoch: false }),
});
