//! Trains and runs convolutional networks without Python and without CUDA.
//!
//! This crate gathers the others under one name. Each can also be used alone.
//!
//! ```
//! use neocog::prelude::*;
//!
//! let spec: LayerSpec = Sequential::new()
//!     .with("conv", Conv2d::new(1, 4, 3).padding(1))
//!     .with("relu", ReLU {})
//!     .into();
//! let network = Builder::new(&Device::Cpu, 0).build(&spec, &Shape::new(&[1, 1, 8, 8])?)?;
//! let x = Tensor::zeros([2, 1, 8, 8], &Device::Cpu)?;
//! let y = Predictor::new(&*network).run(&x)?;
//! assert_eq!(y.shape().to_string(), "[2, 4, 8, 8]");
//! # Ok::<(), Error>(())
//! ```
//!
//! | feature | what it adds |
//! |---|---|
//! | `opencl` | OpenCL devices; the library is opened at run time, where there is one |
//! | `fetch` | downloading data sets over HTTP |
//! | `viz` | contact sheets and line charts as PNG |
//! | `cli` | the program `neocog`, with all of the above but `opencl` |
//!
//! All are on by default; a library turns them off and takes what it needs: `neocog = { version = "0.2",
//! default-features = false }`.

pub use neocog_autograd as autograd;
pub use neocog_base as base;
pub use neocog_data as data;
pub use neocog_layers as layers;
pub use neocog_models as models;
pub use neocog_tensor as tensor;
pub use neocog_train as train;
#[cfg(feature = "viz")]
pub use neocog_viz as viz;

/// What most programs need: `use neocog::prelude::*;`.
pub mod prelude {
    pub use neocog_autograd::{Grads, Param, Tape, Var};
    pub use neocog_base::{Context as _, Error, ErrorKind, Result};
    pub use neocog_layers::{
        BatchNorm1d, BatchNorm2d, Builder, Concat, Context, Conv2d, Layer, LayerSpec, Linear, MaxPool2d,
        Predictor, ReLU, Residual, Sequential, Sigmoid,
    };
    pub use neocog_tensor::{Device, Shape, Tensor, ops};
    pub use neocog_train::{Checkpoint, TrainConfig, Trainer};
}
