//! GoogLeNet.
//!
//! C. Szegedy et al., "Going deeper with convolutions", CVPR 2015; in the form of "Dive into Deep Learning", section 5.9: no
//! batch norm, no auxiliary heads, and no relu between or after the two convolutions of the second part.

use neocog_layers::{
    Child, Concat, Conv2d, FlattenLayer, GlobalAvgPool2d, LayerSpec, Linear, MaxPool2d, ReLU, Sequential,
};
use neocog_tensor::Result;

use crate::features;
use crate::recipe::NOTES;
use crate::register_model;
use crate::registry::{Expected, Model};

/// An Inception block of four branches, concatenated along the channels: 1x1; 1x1 and 3x3; 1x1 and 5x5; max pooling and 1x1;
/// a ReLU after each convolution. `c1` to `c4` are the output channels of the convolutions of each branch.
pub fn inception(in_channels: usize, c1: usize, c2: [usize; 2], c3: [usize; 2], c4: usize) -> Concat {
    let conv = |name: &str, conv: Conv2d| [Child::named(format!("p{name}"), conv), Child::unnamed(ReLU {})];
    let one = |name: &str, before, after| conv(name, Conv2d::new(before, after, 1));
    Concat {
        label: Some("Inception".into()),
        dim: 1,
        branches: vec![
            one("1_1", in_channels, c1).to_vec(),
            [one("2_1", in_channels, c2[0]), conv("2_2", Conv2d::new(c2[0], c2[1], 3).padding(1))].concat(),
            [one("3_1", in_channels, c3[0]), conv("3_2", Conv2d::new(c3[0], c3[1], 5).padding(2))].concat(),
            [
                vec![Child::named("p4_1", MaxPool2d::new(3, 1).padding(1))],
                one("4_2", in_channels, c4).to_vec(),
            ]
            .concat(),
        ],
    }
}

/// GoogLeNet for inputs `[c, h, w]`: nine Inception blocks; 5,977,530 parameters for one channel and 10 classes.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn googlenet(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let half = || MaxPool2d::new(3, 2).padding(1);
    let b1 =
        Sequential::new().then(Conv2d::new(input[0], 64, 7).stride(2).padding(3)).then(ReLU {}).then(half());
    let b2 =
        Sequential::new().then(Conv2d::new(64, 64, 1)).then(Conv2d::new(64, 192, 3).padding(1)).then(half());
    let b3 = Sequential::new()
        .then(inception(192, 64, [96, 128], [16, 32], 32))
        .then(inception(256, 128, [128, 192], [32, 96], 64))
        .then(half());
    let b4 = Sequential::new()
        .then(inception(480, 192, [96, 208], [16, 48], 64))
        .then(inception(512, 160, [112, 224], [24, 64], 64))
        .then(inception(512, 128, [128, 256], [24, 64], 64))
        .then(inception(512, 112, [144, 288], [32, 64], 64))
        .then(inception(528, 256, [160, 320], [32, 128], 128))
        .then(half());
    let b5 = Sequential::new()
        .then(inception(832, 256, [160, 320], [32, 128], 128))
        .then(inception(832, 384, [192, 384], [48, 128], 128))
        .then(GlobalAvgPool2d {});
    let net = Sequential::new().then(b1).then(b2).then(b3).then(b4).then(b5).then(FlattenLayer {});
    let features = features(&net, input)?;
    Ok(net.then(Linear::new(features, classes)).into())
}

register_model!(
    Model::new("googlenet", googlenet, [1, 96, 96], 10)
        .with_about("GoogLeNet (Szegedy et al. 2015): Inception blocks with parallel branches")
        .with_stored_about("GoogLeNet (Szegedy et al. 2015), branches side by side")
        .with_recipe(NOTES.with_batch(128))
        .with_expected(Expected { train_accuracy: 0.906, test_accuracy: 0.896, best_epoch: false })
);
