//! Network in network.
//!
//! M. Lin, Q. Chen, S. Yan, "Network in network", ICLR 2014; in the form of "Dive into Deep Learning", section 5.8.

use neocog_layers::{Conv2d, Dropout, FlattenLayer, GlobalAvgPool2d, LayerSpec, MaxPool2d, ReLU, Sequential};
use neocog_tensor::Result;

use crate::features;
use crate::recipe::NOTES;
use crate::register_model;
use crate::registry::{Expected, Model};

/// A NiN block: a convolution and two 1x1 convolutions, a ReLU after each.
pub fn nin_block(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    stride: usize,
    padding: usize,
) -> Sequential {
    Sequential::new()
        .then(Conv2d::new(in_channels, out_channels, kernel_size).stride(stride).padding(padding))
        .then(ReLU {})
        .then(Conv2d::new(out_channels, out_channels, 1))
        .then(ReLU {})
        .then(Conv2d::new(out_channels, out_channels, 1))
        .then(ReLU {})
}

/// NiN for inputs `[c, h, w]`: four blocks, the last with a channel for each class, and global average pooling;
/// 1,992,166 parameters for one channel and 10 classes.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn nin(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let net = Sequential::new()
        .then(nin_block(input[0], 96, 11, 4, 0))
        .then(MaxPool2d::new(3, 2))
        .then(nin_block(96, 256, 5, 1, 2))
        .then(MaxPool2d::new(3, 2))
        .then(nin_block(256, 384, 3, 1, 1))
        .then(MaxPool2d::new(3, 2))
        .then(Dropout { p: 0.5 })
        .then(nin_block(384, classes, 3, 1, 1))
        .then(GlobalAvgPool2d {})
        .then(FlattenLayer {});
    features(&net, input)?;
    Ok(net.into())
}

register_model!(
    Model::new("nin", nin, [1, 224, 224], 10)
        .with_about("Network in Network (Lin et al. 2014): 1x1 convolutions and global average pooling")
        .with_stored_about(
            "Network in network (Lin et al. 2014), 1x1 convolutions and global average pooling"
        )
        .with_recipe(NOTES.with_batch(128).with_learning_rate(0.002))
        .with_expected(Expected { train_accuracy: 0.839, test_accuracy: 0.831, best_epoch: false })
);
