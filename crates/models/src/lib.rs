//! The classic convolutional networks as values: a spec, a recipe to train it, and the result to expect.
//!
//! There is no forward code here: a network is a [`LayerSpec`] made of registered layers.
//! Networks register themselves with [`register_model!`]; `train` and `bench` find them in the [`models`] of the
//! [`registry`].
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
pub mod registry;
pub mod resnet;
pub mod vgg;

/// The blocks that the networks are made of, to make others of them.
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

pub use registry::{Expected, Model, Optimizer, Recipe, find, models};

// A crate that nothing names is not linked, and then registers nothing.
use neocog_layers as _;

/// How many numbers come out of `layers`, which end with a flattening, for a picture `[c, h, w]`: the inputs of the linear
/// layer that follows.
///
/// # Errors
/// When the picture is too small; the error names the layer where it ran out.
pub fn features(layers: &Sequential, [c, h, w]: [usize; 3]) -> Result<usize> {
    let input = [1, c, h, w].into();
    let built = Builder::new(&Device::Meta, 0).build(&LayerSpec::from(layers.clone()), &input)?;
    Ok(output_shape(&*built, &input)?.elements())
}
