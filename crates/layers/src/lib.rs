//! Neural network layers with a registry.
//!
//! A [`Spec`] is the configuration of a layer: a value that can be written as JSON, edited and stored. Built, it becomes a
//! [`Layer`] with parameters. Each kind of layer is registered with [`register_layer!`], here and in other crates. The
//! [`registry`](mod@registry) creates layers from the names of their kinds, and the tests check the gradients of every
//! registered layer on its examples. Combinators ([`Sequential`], [`Residual`], [`Concat`]) are layers as well, so a whole
//! network is one spec. [`weights`] exchanges parameters with PyTorch as safetensors files.
//!
//! ```
//! use neocog_layers::{Builder, Context, Conv2d, LayerSpec, ReLU, Sequential};
//! use neocog_autograd::{Tape, Var};
//! use neocog_tensor::{Device, Tensor};
//!
//! let spec: LayerSpec = Sequential::new()
//!     .with("conv", Conv2d::new(1, 4, 3).padding(1))
//!     .with("relu", ReLU {})
//!     .into();
//! let net = Builder::new(&Device::Cpu, 0).build(&spec, &[1, 1, 8, 8].into())?;
//! let tape = Tape::no_grad();
//! let x = Var::constant(Tensor::zeros([2, 1, 8, 8], &Device::Cpu)?);
//! let y = net.forward(&Context::eval(&tape), &x)?;
//! assert_eq!(y.shape().extents(), [2, 4, 8, 8]);
//! println!("{}", neocog_layers::print::pytorch(&*net));
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

mod activation_memory;
mod buffer;
mod build;
pub mod builder;
pub mod check;
mod json;
pub mod layer;
mod layers;
mod parse;
mod predictor;
pub mod print;
pub mod receptive_field;
pub mod registry;
pub mod spec;
pub mod state;
pub mod summary;
mod trace;
mod train_pass;
pub mod weights;

#[doc(hidden)]
pub use inventory;

pub use builder::{Builder, Init};
pub use layer::{Buffer, Context, Counter, Layer, Observer, Seen, StateUpdate, Visitor};
pub use layers::*;
pub use predictor::Predictor;
pub use registry::{LayerEntry, registry};
pub use spec::{Example, LayerSpec, Spec};
pub use trace::Untraceable;
pub use train_pass::TrainPass;
