//! The classic convolutional networks as values: a spec, a recipe to train it, and the result to expect.
//!
//! There is no forward code here: a network is a [`LayerSpec`](neocog_layers::LayerSpec) made of registered layers.
//! Networks register themselves with [`register_model!`]; `train` and `bench` find them in the [`models`] of the
//! [`registry`].
//!
//! ```
//! use neocog_layers::Builder;
//! use neocog_tensor::Device;
//!
//! let model = neocog_models::find("lenet")?;
//! let spec = model.spec();
//! let net = Builder::new(&Device::Cpu, 0).build(&spec, &model.input_shape(1))?;
//! assert_eq!(neocog_layers::state::param_count(&*net), 44_426);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

pub mod lenet;
pub mod registry;

#[doc(hidden)]
pub use inventory;

pub use registry::{Expected, Model, Optimizer, Recipe, find, models};

// A crate that nothing names is not linked, and then registers nothing.
use neocog_layers as _;
