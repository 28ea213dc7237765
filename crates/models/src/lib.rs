//! Classic convolutional networks: a spec, the recipe to train it, and the accuracy to expect.
//!
//! A network is a [`LayerSpec`] of registered layers; there is no forward code here. Networks are registered with
//! [`register_model!`], here and in other crates, and found with [`find`] and [`models`].
//!
//! ```
//! use neocog_layers::Builder;
//! use neocog_tensor::Device;
//!
//! let model = neocog_models::find("lenet")?;
//! let spec = model.spec()?;
//! let net = Builder::new(&Device::Cpu, 0).build(&spec, &model.input_shape(1))?;
//! assert_eq!(neocog_layers::state::param_count(&*net), 44_426);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

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

pub use optimizer::{OptimizerConfig, OptimizerKind};
pub use recipe::{DataOverride, Recipe};
pub use registry::{Expected, Model, find, models};
pub use schedule::{Decay, Schedule, ScheduleStep};

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
