//! ResNet, ResNeXt and Wide ResNet as in torchvision.
//!
//! K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016; S. Xie et al., "Aggregated residual
//! transformations for deep neural networks", CVPR 2017; S. Zagoruyko, N. Komodakis, "Wide residual networks", BMVC 2016.

use neocog_layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Child, Conv2d, Flatten, LayerSpec, Linear, MaxPool2d, Residual,
    Sequential,
};
use neocog_tensor::Result;
use neocog_tensor::ops::Activation;

use super::blocks::{model, relu};
use crate::register_model;

/// A ResNet: the kind of its blocks and their number in each of the four stages.
struct ResNet {
    blocks: [usize; 4],
    /// Groups and channels per group of the bottleneck, at 64 channels; `None` for basic blocks.
    bottleneck: Option<(usize, usize)>,
}

impl ResNet {
    /// Number of output channels of a block of `planes` channels.
    fn channels(&self, planes: usize) -> usize {
        if self.bottleneck.is_some() { 4 * planes } else { planes }
    }

    fn block(&self, before: usize, planes: usize, stride: usize) -> Residual {
        let after = self.channels(planes);
        let conv = |number: usize, conv: Conv2d| {
            let norm = BatchNorm2d::new(conv.out_channels);
            [
                Child::named(format!("conv{number}"), conv.without_bias()),
                Child::named(format!("bn{number}"), norm),
            ]
        };
        // torchvision's blocks have one ReLU, which runs several times.
        let body = match self.bottleneck {
            None => [
                &conv(1, Conv2d::new(before, planes, 3).padding(1).stride(stride))[..],
                &[Child::named("relu", relu())],
                &conv(2, Conv2d::new(planes, planes, 3).padding(1)),
            ]
            .concat(),
            Some((groups, per_group)) => {
                let width = planes * per_group / 64 * groups;
                [
                    &conv(1, Conv2d::new(before, width, 1))[..],
                    &[Child::unnamed(relu())],
                    &conv(2, Conv2d::new(width, width, 3).padding(1).stride(stride).groups(groups)),
                    &[Child::named("relu", relu())],
                    &conv(3, Conv2d::new(width, after, 1)),
                ]
                .concat()
            }
        };
        let mut order = match self.bottleneck {
            None => vec!["conv1", "bn1", "relu", "conv2", "bn2"],
            Some(_) => vec!["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "relu"],
        };
        let mut shortcut = Vec::new();
        if stride != 1 || before != after {
            let downsample = Sequential::new()
                .then(Conv2d::new(before, after, 1).stride(stride).without_bias())
                .then(BatchNorm2d::new(after));
            shortcut.push(Child::named("downsample", downsample));
            order.push("downsample");
        }
        let label = if self.bottleneck.is_some() { "Bottleneck" } else { "BasicBlock" };
        Residual {
            label: Some(label.into()),
            body,
            shortcut,
            activation: Some(Activation::Relu),
            order: order.into_iter().map(String::from).collect(),
        }
    }

    fn spec(&self, input: [usize; 3], classes: usize) -> LayerSpec {
        let mut net = Sequential::new()
            .labeled("ResNet")
            .with("conv1", Conv2d::new(input[0], 64, 7).stride(2).padding(3).without_bias())
            .with("bn1", BatchNorm2d::new(64))
            .with("relu", relu())
            .with("maxpool", MaxPool2d::new(3, 2).padding(1));
        let mut before = 64;
        for (stage, (&blocks, planes)) in self.blocks.iter().zip([64, 128, 256, 512]).enumerate() {
            let mut layer = Sequential::new();
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                layer = layer.then(self.block(before, planes, stride));
                before = self.channels(planes);
            }
            net = net.with(format!("layer{}", stage + 1), layer);
        }
        net.with("avgpool", AdaptiveAvgPool2d::pair([1, 1]))
            .unnamed(Flatten::default())
            .with("fc", Linear::new(before, classes))
            .into()
    }
}

/// Registers a ResNet.
macro_rules! resnet {
    ($name:literal, $blocks:expr, $bottleneck:expr, $about:literal) => {
        register_model!(model(
            $name,
            |input, classes| -> Result<LayerSpec> {
                Ok(ResNet { blocks: $blocks, bottleneck: $bottleneck }.spec(input, classes))
            },
            224,
            $about
        ));
    };
}

resnet!("resnet18", [2, 2, 2, 2], None, "torchvision's ResNet-18");
resnet!("resnet34", [3, 4, 6, 3], None, "torchvision's ResNet-34");
resnet!("resnet50", [3, 4, 6, 3], Some((1, 64)), "torchvision's ResNet-50");
resnet!("resnet101", [3, 4, 23, 3], Some((1, 64)), "torchvision's ResNet-101");
resnet!("resnet152", [3, 8, 36, 3], Some((1, 64)), "torchvision's ResNet-152");
resnet!("resnext50_32x4d", [3, 4, 6, 3], Some((32, 4)), "torchvision's ResNeXt-50 32x4d");
resnet!("wide_resnet50_2", [3, 4, 6, 3], Some((1, 128)), "torchvision's Wide ResNet-50-2");
