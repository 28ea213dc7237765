//! Inception v3 as in torchvision, without the auxiliary head.
//!
//! torchvision's published weights were trained with `transform_input`: they take images that are normalized with a mean and a standard
//! deviation of 0.5.
//!
//! C. Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016.

use neocog_layers::{
    AdaptiveAvgPool2d, AvgPool2d, Child, Concat, Conv2d, Dropout, Flatten, LayerSpec, Linear, MaxPool2d,
    Sequential,
};
use neocog_tensor::Result;

use super::blocks::model;
use super::googlenet::basic_conv;
use crate::register_model;

fn named(name: &str, conv: Conv2d) -> Child {
    Child::named(name, basic_conv(conv))
}

fn concat(label: &str, branches: Vec<Vec<Child>>) -> Concat {
    Concat { label: Some(label.into()), dim: 1, branches }
}

/// A 1x1 convolution.
fn one(before: usize, after: usize) -> Conv2d {
    Conv2d::new(before, after, 1)
}

/// A 3x3 convolution that keeps the size.
fn three(before: usize, after: usize) -> Conv2d {
    Conv2d::new(before, after, 3).padding(1)
}

/// A convolution along the rows, `1 x width`, that keeps the size.
fn row(before: usize, after: usize, width: usize) -> Conv2d {
    Conv2d { kernel_size: [1, width], padding: [0, width / 2], ..Conv2d::new(before, after, 1) }
}

/// A convolution along the columns, `height x 1`, that keeps the size.
fn column(before: usize, after: usize, height: usize) -> Conv2d {
    Conv2d { kernel_size: [height, 1], padding: [height / 2, 0], ..Conv2d::new(before, after, 1) }
}

/// The branch that ends most blocks: the mean of 3x3 pixels, and a 1x1 convolution.
fn pooled(before: usize, after: usize) -> Vec<Child> {
    let pool = AvgPool2d { padding: [1, 1], ..AvgPool2d::new(3, 1) };
    vec![Child::unnamed(pool), named("branch_pool", one(before, after))]
}

fn inception_a(before: usize, pool: usize) -> Concat {
    concat(
        "InceptionA",
        vec![
            vec![named("branch1x1", one(before, 64))],
            vec![
                named("branch5x5_1", one(before, 48)),
                named("branch5x5_2", Conv2d::new(48, 64, 5).padding(2)),
            ],
            vec![
                named("branch3x3dbl_1", one(before, 64)),
                named("branch3x3dbl_2", three(64, 96)),
                named("branch3x3dbl_3", three(96, 96)),
            ],
            pooled(before, pool),
        ],
    )
}

fn inception_b(before: usize) -> Concat {
    concat(
        "InceptionB",
        vec![
            vec![named("branch3x3", Conv2d::new(before, 384, 3).stride(2))],
            vec![
                named("branch3x3dbl_1", one(before, 64)),
                named("branch3x3dbl_2", three(64, 96)),
                named("branch3x3dbl_3", Conv2d::new(96, 96, 3).stride(2)),
            ],
            vec![Child::unnamed(MaxPool2d::new(3, 2))],
        ],
    )
}

fn inception_c(before: usize, c7: usize) -> Concat {
    concat(
        "InceptionC",
        vec![
            vec![named("branch1x1", one(before, 192))],
            vec![
                named("branch7x7_1", one(before, c7)),
                named("branch7x7_2", row(c7, c7, 7)),
                named("branch7x7_3", column(c7, 192, 7)),
            ],
            vec![
                named("branch7x7dbl_1", one(before, c7)),
                named("branch7x7dbl_2", column(c7, c7, 7)),
                named("branch7x7dbl_3", row(c7, c7, 7)),
                named("branch7x7dbl_4", column(c7, c7, 7)),
                named("branch7x7dbl_5", row(c7, 192, 7)),
            ],
            pooled(before, 192),
        ],
    )
}

fn inception_d(before: usize) -> Concat {
    concat(
        "InceptionD",
        vec![
            vec![
                named("branch3x3_1", one(before, 192)),
                named("branch3x3_2", Conv2d::new(192, 320, 3).stride(2)),
            ],
            vec![
                named("branch7x7x3_1", one(before, 192)),
                named("branch7x7x3_2", row(192, 192, 7)),
                named("branch7x7x3_3", column(192, 192, 7)),
                named("branch7x7x3_4", Conv2d::new(192, 192, 3).stride(2)),
            ],
            vec![Child::unnamed(MaxPool2d::new(3, 2))],
        ],
    )
}

fn inception_e(before: usize) -> Concat {
    let split = |first: &str, second: &str| {
        let branches = vec![vec![named(first, row(384, 384, 3))], vec![named(second, column(384, 384, 3))]];
        Child::unnamed(Concat { label: None, dim: 1, branches })
    };
    concat(
        "InceptionE",
        vec![
            vec![named("branch1x1", one(before, 320))],
            vec![named("branch3x3_1", one(before, 384)), split("branch3x3_2a", "branch3x3_2b")],
            vec![
                named("branch3x3dbl_1", one(before, 448)),
                named("branch3x3dbl_2", three(448, 384)),
                split("branch3x3dbl_3a", "branch3x3dbl_3b"),
            ],
            pooled(before, 192),
        ],
    )
}

fn inception_v3([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    let net = Sequential::new()
        .labeled("Inception3")
        .with("Conv2d_1a_3x3", basic_conv(Conv2d::new(c, 32, 3).stride(2)))
        .with("Conv2d_2a_3x3", basic_conv(Conv2d::new(32, 32, 3)))
        .with("Conv2d_2b_3x3", basic_conv(three(32, 64)))
        .with("maxpool1", MaxPool2d::new(3, 2))
        .with("Conv2d_3b_1x1", basic_conv(one(64, 80)))
        .with("Conv2d_4a_3x3", basic_conv(Conv2d::new(80, 192, 3)))
        .with("maxpool2", MaxPool2d::new(3, 2))
        .with("Mixed_5b", inception_a(192, 32))
        .with("Mixed_5c", inception_a(256, 64))
        .with("Mixed_5d", inception_a(288, 64))
        .with("Mixed_6a", inception_b(288))
        .with("Mixed_6b", inception_c(768, 128))
        .with("Mixed_6c", inception_c(768, 160))
        .with("Mixed_6d", inception_c(768, 160))
        .with("Mixed_6e", inception_c(768, 192))
        .with("Mixed_7a", inception_d(768))
        .with("Mixed_7b", inception_e(1280))
        .with("Mixed_7c", inception_e(2048))
        .with("avgpool", AdaptiveAvgPool2d::pair([1, 1]))
        .with("dropout", Dropout { p: 0.5 })
        .unnamed(Flatten::default())
        .with("fc", Linear::new(2048, classes));
    Ok(net.into())
}

register_model!(model(
    "inception_v3",
    inception_v3,
    299,
    "torchvision's Inception v3, without the auxiliary head; published weights: mean and deviation 0.5"
));
