//! ResNet-18.
//!
//! K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016; in the form of "Dive into Deep
//! Learning", section 5.11: convolutions with bias, 1x1 shortcuts without batch norm.

use neocog_layers::{
    BatchNorm2d, Child, Conv2d, FlattenLayer, GlobalAvgPool2d, LayerSpec, Linear, MaxPool2d, ReLU, Residual,
    Sequential,
};
use neocog_tensor::Result;
use neocog_tensor::ops::Activation;

use crate::features;
use crate::recipe::NOTES;
use crate::register_model;
use crate::registry::{Expected, Model};

/// A residual block: two 3x3 convolutions with batch norm, and a shortcut, which is the identity or with `use_1x1conv` a 1x1
/// convolution. `stride` is that of the first convolution and of the shortcut.
pub fn residual(in_channels: usize, out_channels: usize, use_1x1conv: bool, stride: usize) -> Residual {
    let shortcut = Child::named("conv3", Conv2d::new(in_channels, out_channels, 1).stride(stride));
    let order =
        ["conv1", "conv2", "conv3", "bn1", "bn2"].into_iter().filter(|n| use_1x1conv || *n != "conv3");
    Residual {
        label: None,
        body: vec![
            Child::named("conv1", Conv2d::new(in_channels, out_channels, 3).padding(1).stride(stride)),
            Child::named("bn1", BatchNorm2d::new(out_channels)),
            Child::unnamed(ReLU {}),
            Child::named("conv2", Conv2d::new(out_channels, out_channels, 3).padding(1)),
            Child::named("bn2", BatchNorm2d::new(out_channels)),
        ],
        shortcut: if use_1x1conv { vec![shortcut] } else { Vec::new() },
        activation: Some(Activation::Relu),
        order: order.map(String::from).collect(),
    }
}

/// The first layers, which reduce height and width to a quarter; also those of DenseNet.
pub(crate) fn stem(in_channels: usize) -> Sequential {
    Sequential::new()
        .then(Conv2d::new(in_channels, 64, 7).stride(2).padding(3))
        .then(BatchNorm2d::new(64))
        .then(ReLU {})
        .then(MaxPool2d::new(3, 2).padding(1))
}

/// ResNet-18 for inputs `[c, h, w]`: eight residual blocks; 11,178,378 parameters for one channel and 10 classes.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn resnet(input: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let channels = [(64, 64), (64, 128), (128, 256), (256, 512)];
    let net = channels.into_iter().zip(1..).fold(stem(input[0]), |net, ((before, after), i)| {
        let smaller = before != after;
        let head = residual(before, after, smaller, if smaller { 2 } else { 1 });
        let block = Sequential::new().then(head).then(residual(after, after, false, 1));
        net.with(format!("resnet_block{i}"), block)
    });
    let net = net.with("global_avg_pool", GlobalAvgPool2d {});
    let features = features(&net.clone().unnamed(FlattenLayer {}), input)?;
    let fc = Sequential::new().then(FlattenLayer {}).then(Linear::new(features, classes));
    Ok(net.with("fc", fc).into())
}

register_model!(
    Model::new("resnet", resnet, [1, 96, 96], 10)
        .with_about("ResNet-18 (He et al. 2016): residual blocks")
        .with_stored_about("ResNet-18 (He et al. 2016), shortcuts around blocks")
        .with_recipe(NOTES.with_batch(256))
        .with_expected(Expected { train_accuracy: 0.944, test_accuracy: 0.926, best_epoch: true })
);
