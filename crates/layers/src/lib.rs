//! Neural network layers that register themselves.
//!
//! A [`Spec`] is a value that says what a layer is: it can be written as JSON, edited, stored. Built, it becomes a
//! [`Layer`] with parameters. Every kind of layer registers itself with [`register_layer!`], here and in other crates
//! alike; the [`registry`](mod@registry) then builds it from its kind's name, and the tests prove its gradients from its examples.
//! The parameters of a network go to PyTorch and come from there as safetensors files ([`weights`]).
//! Combinators ([`Sequential`], [`Residual`], [`Concat`]) are layers too, so a whole network is one spec.
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
pub mod builder;
pub mod check;
pub mod context;
pub mod layer;
mod layers;
pub mod plan;
pub mod print;
pub mod receptive_field;
pub mod registry;
pub mod spec;
pub mod state;
pub mod summary;
pub mod weights;

#[doc(hidden)]
pub use inventory;

pub use builder::{Builder, Init};
pub use context::{Context, Observer, Seen};
pub use layer::{Buffer, Counter, Layer, Visitor};
pub use layers::*;
pub use plan::Predictor;
pub use registry::{LayerEntry, registry};
pub use spec::{Example, LayerSpec, Spec};
