//! DenseNet.
//!
//! G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely connected convolutional networks", CVPR 2017; in the form
//! of "Dive into Deep Learning", section 5.12: no bottlenecks.

use neocog_layers::{
    AvgPool2d, BatchNorm2d, Child, Concat, Conv2d, FlattenLayer, GlobalAvgPool2d, LayerSpec, Linear, ReLU,
    Sequential,
};
use neocog_tensor::Result;

use crate::features;
use crate::recipe::NOTES;
use crate::register_model;
use crate::registry::{Expected, Model};
use crate::resnet::stem;

/// Number of channels that each convolution adds.
const GROWTH_RATE: usize = 32;

/// A dense block: the output of each convolution is concatenated with its input along the channels, from `in_channels` to
/// `in_channels + num_convs * growth_rate` channels.
pub fn dense_block(num_convs: usize, in_channels: usize, growth_rate: usize) -> Sequential {
    let net = (0..num_convs).fold(Sequential::new().labeled("ModuleList"), |net, i| {
        let channels = in_channels + i * growth_rate;
        let layers = Sequential::new()
            .then(BatchNorm2d::new(channels))
            .then(ReLU {})
            .then(Conv2d::new(channels, growth_rate, 3).padding(1));
        let branches = vec![vec![], vec![Child::named(i.to_string(), layers)]];
        net.unnamed(Concat { label: None, dim: 1, branches })
    });
    Sequential::new().labeled("DenseBlock").with("net", net)
}

/// A transition block: a 1x1 convolution reduces the channels, average pooling halves height and width.
pub fn transition_block(in_channels: usize, out_channels: usize) -> Sequential {
    Sequential::new()
        .then(BatchNorm2d::new(in_channels))
        .then(ReLU {})
        .then(Conv2d::new(in_channels, out_channels, 1))
        .then(AvgPool2d::new(2, 2))
}

/// DenseNet for inputs `[c, h, w]`: four dense blocks of four convolutions; 758,226 parameters for one channel and 10
/// classes. The blocks are named as in the notes, typing error included, so that weights can be exchanged.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn densenet(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let num_convs = [4, 4, 4, 4];
    let mut channels = 64;
    let mut net = stem(input[0]);
    for (i, convs) in num_convs.into_iter().enumerate() {
        net = net.with(format!("DenseBlosk_{i}"), dense_block(convs, channels, GROWTH_RATE));
        channels += convs * GROWTH_RATE;
        if i + 1 < num_convs.len() {
            net = net.with(format!("transition_block_{i}"), transition_block(channels, channels / 2));
            channels /= 2;
        }
    }
    let net = net
        .with("BN", BatchNorm2d::new(channels))
        .with("relu", ReLU {})
        .with("global_avg_pool", GlobalAvgPool2d {});
    let features = features(&net.clone().unnamed(FlattenLayer {}), input)?;
    let fc = Sequential::new().then(FlattenLayer {}).then(Linear::new(features, classes));
    Ok(net.with("fc", fc).into())
}

register_model!(
    Model::new("densenet", densenet, [1, 96, 96], 10)
        .with_about("DenseNet (Huang et al. 2017): each layer receives the outputs of all preceding layers")
        .with_stored_about("DenseNet (Huang et al. 2017), each layer sees all before it")
        .with_recipe(NOTES.with_batch(256))
        .with_expected(Expected { train_accuracy: 0.929, test_accuracy: 0.889, best_epoch: true })
);
