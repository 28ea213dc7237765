#![doc = include_str!("../README.md")]

pub mod alexnet;
pub mod densenet;
pub mod googlenet;
pub mod lenet;
pub mod nin;
pub mod optimizer;
pub mod recipe;
pub mod registry;
pub mod resnet;
pub mod schedule;
pub mod torchvision;
pub mod trained;
pub mod vgg;

/// The building blocks of the networks.
pub mod blocks {
    pub use crate::densenet::{dense_block, transition_block};
    pub use crate::googlenet::inception;
    pub use crate::nin::nin_block;
    pub use crate::resnet::residual;
    pub use crate::vgg::vgg_block;
}

use neocog_layers::{Builder, LayerSpec, Sequential, builder::output_shape};
use neocog_tensor::{Device, Result};

#[doc(hidden)]
pub use inventory;

pub use optimizer::{OptimizerConfig, OptimizerKind, ParamGroup};
pub use recipe::{DataOverride, Recipe};
pub use registry::{Expected, Family, Model, find, models, models_of};
pub use schedule::{Decay, EpochMetrics, Factors, OneCycle, Phase, Plateau, Schedule, ScheduleStep};
pub use trained::{ClassProbability, Classification, Classifier, SavedNetwork};

// A crate that is not referenced is not linked, and registers nothing.
use neocog_layers as _;

/// Returns the number of features that `layers`, which end with a flatten layer, compute for an input `[c, h, w]`: the
/// `in_features` of the linear layer that follows.
///
/// # Errors
/// When the input is too small; the error names the layer.
pub fn features(layers: &Sequential, [c, h, w]: [usize; 3]) -> Result<usize> {
    let input = [1, c, h, w].into();
    let built = Builder::new(&Device::Meta, 0).build(&LayerSpec::from(layers.clone()), &input)?;
    Ok(output_shape(&*built, &input)?.elements())
}
