//! ConvNeXt as in torchvision.
//!
//! Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022.

use neocog_layers::{
    AdaptiveAvgPool2d, Child, Conv2d, Flatten, GELU, LayerNorm, LayerNorm2d, LayerScale, LayerSpec, Linear,
    Permute, Residual, Sequential, StochasticDepth,
};
use neocog_tensor::Result;

use super::blocks::model;
use crate::register_model;

/// Added to the variance in all norms.
const EPS: f64 = 1e-6;
/// Initial factor of a block.
const LAYER_SCALE: f64 = 1e-6;
/// Probability that the last block is dropped; for earlier blocks it is proportionally less.
const STOCHASTIC_DEPTH: f64 = 0.1;

fn norm(channels: usize) -> LayerNorm2d {
    LayerNorm2d { num_channels: channels, eps: EPS }
}

fn block(channels: usize, drop: f64) -> Residual {
    let block = Sequential::new()
        .then(Conv2d::new(channels, channels, 7).padding(3).groups(channels))
        .then(Permute { dims: vec![0, 2, 3, 1] })
        .then(LayerNorm { eps: EPS, ..LayerNorm::new(channels) })
        .then(Linear::new(channels, 4 * channels))
        .then(GELU::default())
        .then(Linear::new(4 * channels, channels))
        .then(Permute { dims: vec![0, 3, 1, 2] });
    Residual {
        label: Some("CNBlock".into()),
        body: vec![
            Child::named("block", block),
            Child::unnamed(LayerScale { channels, init: LAYER_SCALE }),
            Child::named("stochastic_depth", StochasticDepth::rows(drop)),
        ],
        shortcut: Vec::new(),
        activation: None,
        // Layers without a name come first, as the parameter of the block does.
        order: ["block", "stochastic_depth"].map(String::from).to_vec(),
    }
}

fn convnext_tiny([c, ..]: [usize; 3], classes: usize) -> Result<LayerSpec> {
    const STAGES: [(usize, usize); 4] = [(96, 3), (192, 3), (384, 9), (768, 3)];
    let total: usize = STAGES.iter().map(|(_, blocks)| blocks).sum();
    let stem = Sequential::new()
        .labeled("Conv2dNormActivation")
        .then(Conv2d::new(c, STAGES[0].0, 4).stride(4))
        .then(norm(STAGES[0].0));
    let mut features = Sequential::new().then(stem);
    let mut number = 0;
    for (i, (channels, blocks)) in STAGES.into_iter().enumerate() {
        let mut stage = Sequential::new();
        for _ in 0..blocks {
            stage = stage.then(block(channels, STOCHASTIC_DEPTH * number as f64 / (total as f64 - 1.0)));
            number += 1;
        }
        features = features.then(stage);
        if let Some((next, _)) = STAGES.get(i + 1) {
            let downsample =
                Sequential::new().then(norm(channels)).then(Conv2d::new(channels, *next, 2).stride(2));
            features = features.then(downsample);
        }
    }
    let channels = STAGES[3].0;
    let classifier =
        Sequential::new().then(norm(channels)).then(Flatten::default()).then(Linear::new(channels, classes));
    let net = Sequential::new()
        .labeled("ConvNeXt")
        .with("features", features)
        .with("avgpool", AdaptiveAvgPool2d::square(1))
        .with("classifier", classifier);
    Ok(net.into())
}

register_model!(model("convnext_tiny", convnext_tiny, 224, "torchvision's ConvNeXt tiny"));
