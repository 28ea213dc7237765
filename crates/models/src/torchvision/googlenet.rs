//! GoogLeNet as in torchvision, with batch norm and without auxiliary heads.
//!
//! torchvision's published weights were trained with `transform_input`: they take images that are normalized with a mean and a standard
//! deviation of 0.5.
//!
//! C. Szegedy et al., "Going deeper with convolutions", CVPR 2015.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Concat, Conv2d, Dropout, Flatten, LayerSpec, Linear, MaxPool2d,
    ReLU, Sequential,
};
use neocog_tensor::Result;

use super::blocks::model;
use crate::register_model;

/// A convolution without bias, batch norm and ReLU; also in Inception v3.
pub(super) fn basic_conv(conv: Conv2d) -> Sequential {
    let channels = conv.out_channels;
    Sequential::new()
        .labeled("BasicConv2d")
        .with("conv", conv.without_bias())
        .with("bn", BatchNorm2d { eps: 0.001, ..BatchNorm2d::new(channels) })
        .unnamed(ReLU {})
}

fn pool(kernel: usize, stride: usize) -> MaxPool2d {
    MaxPool2d { ceil_mode: true, ..MaxPool2d::new(kernel, stride) }
}

/// An Inception block; as in torchvision, the third branch has a 3x3 convolution.
fn inception(before: usize, c1: usize, c2: [usize; 2], c3: [usize; 2], c4: usize) -> Concat {
    let reduced = |[reduced, after]: [usize; 2]| {
        Sequential::new()
            .then(basic_conv(Conv2d::new(before, reduced, 1)))
            .then(basic_conv(Conv2d::new(reduced, after, 3).padding(1)))
    };
    let pooled = Sequential::new().then(pool(3, 1).padding(1)).then(basic_conv(Conv2d::new(before, c4, 1)));
    Concat {
        label: Some("Inception".into()),
        dim: 1,
        branches: vec![
            vec![Child::named("branch1", basic_conv(Conv2d::new(before, c1, 1)))],
            vec![Child::named("branch2", reduced(c2))],
            vec![Child::named("branch3", reduced(c3))],
            vec![Child::named("branch4", pooled)],
        ],
    }
}

fn googlenet([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let net = Sequential::new()
        .labeled("GoogLeNet")
        .with("conv1", basic_conv(Conv2d::new(c, 64, 7).stride(2).padding(3)))
        .with("maxpool1", pool(3, 2))
        .with("conv2", basic_conv(Conv2d::new(64, 64, 1)))
        .with("conv3", basic_conv(Conv2d::new(64, 192, 3).padding(1)))
        .with("maxpool2", pool(3, 2))
        .with("inception3a", inception(192, 64, [96, 128], [16, 32], 32))
        .with("inception3b", inception(256, 128, [128, 192], [32, 96], 64))
        .with("maxpool3", pool(3, 2))
        .with("inception4a", inception(480, 192, [96, 208], [16, 48], 64))
        .with("inception4b", inception(512, 160, [112, 224], [24, 64], 64))
        .with("inception4c", inception(512, 128, [128, 256], [24, 64], 64))
        .with("inception4d", inception(512, 112, [144, 288], [32, 64], 64))
        .with("inception4e", inception(528, 256, [160, 320], [32, 128], 128))
        .with("maxpool4", pool(2, 2))
        .with("inception5a", inception(832, 256, [160, 320], [32, 128], 128))
        .with("inception5b", inception(832, 384, [192, 384], [48, 128], 128))
        .with("avgpool", AdaptiveAvgPool2d::pair([1, 1]))
        .unnamed(Flatten::default())
        .with("dropout", Dropout { p: 0.2 })
        .with("fc", Linear::new(1024, classes));
    Ok(net.into())
}

register_model!(model(
    "tv_googlenet",
    googlenet,
    224,
    "torchvision's GoogLeNet, without auxiliary heads; published weights: mean and deviation 0.5"
));
