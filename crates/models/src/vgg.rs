//! VGG.
//!
//! K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015; in the form
//! of "Dive into Deep Learning", section 5.7: VGG-11, and the same with an eighth of the width.

use neocog_layers::{Conv2d, Dropout, FlattenLayer, LayerSpec, Linear, MaxPool2d, ReLU, Sequential};
use neocog_tensor::Result;

use crate::features;
use crate::recipe::{NOTES, Recipe};
use crate::register_model;
use crate::registry::{Expected, Model};

/// A block: number of convolutions, input channels and output channels.
pub type ConvBlock = (usize, usize, usize);

/// The blocks of VGG-11.
pub const VGG_11: [ConvBlock; 5] = [(1, 1, 64), (1, 64, 128), (2, 128, 256), (2, 256, 512), (2, 512, 512)];

/// A VGG block: `num_convs` 3x3 convolutions, each with a ReLU, and max pooling that halves height and width.
pub fn vgg_block(num_convs: usize, in_channels: usize, out_channels: usize) -> Sequential {
    let convs = (0..num_convs).fold(Sequential::new(), |block, i| {
        let channels = if i == 0 { in_channels } else { out_channels };
        block.then(Conv2d::new(channels, out_channels, 3).padding(1)).then(ReLU {})
    });
    convs.then(MaxPool2d::new(2, 2))
}

/// VGG with the blocks `conv_arch`, whose output has `fc_features` elements, and two hidden linear layers of
/// `fc_hidden_units`.
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

/// VGG-11 for inputs `[c, h, w]`, with all widths divided by `ratio`.
fn vgg_11(ratio: usize, input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let mut arch = VGG_11.map(|(convs, before, after)| (convs, before / ratio, after / ratio));
    arch[0].1 = input[0];
    let fc_features = features(&blocks(&arch).unnamed(FlattenLayer {}), input)?;
    Ok(vgg(&arch, fc_features, 4096 / ratio, classes))
}

const INPUT: [usize; 3] = [1, 224, 224];

const RECIPE: Recipe = NOTES.with_batch(64);

register_model!(
    Model::new("vgg", |input, classes| vgg_11(1, input, classes), INPUT, 10)
        .with_about("VGG-11 (Simonyan and Zisserman 2015): blocks of 3x3 convolutions")
        .with_stored_about("VGG-11 (Simonyan and Zisserman 2015), blocks of 3x3 convolutions")
        .with_recipe(RECIPE)
);

register_model!(
    Model::new("vgg_small", |input, classes| vgg_11(8, input, classes), INPUT, 10)
        .with_about("VGG-11 with one eighth of the channels")
        .with_stored_about("VGG-11 with an eighth of the width")
        .with_recipe(RECIPE)
        .with_expected(Expected { train_accuracy: 0.919, test_accuracy: 0.918, best_epoch: false })
);
