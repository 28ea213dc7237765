//! Trains and runs convolutional networks without Python and without CUDA, on the CPU and on OpenCL devices.
//!
//! This crate re-exports the crates of neocog; each can also be used alone.
//!
//! # Training
//!
//! A [`Trainer`](train::Trainer) runs epochs, evaluates and writes checkpoints. Here it trains LeNet on the embedded data set
//! of handwritten digits:
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use neocog::prelude::*;
//!
//! let mut config = TrainConfig::for_network("lenet", "digits")?;
//! config.epochs = 1;
//! config.limit = Some(64);
//! let data = config.load_data("data".as_ref())?;
//! let mut trainer = Trainer::new(config, &data.train, &Device::Cpu)?;
//! trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
//! assert!(trainer.history()[0].train_loss.is_finite());
//! # Ok::<(), Error>(())
//! ```
//!
//! # A training loop of your own
//!
//! ```
//! use neocog::prelude::*;
//!
//! // The layers, and parameters for inputs of shape [n, 1, 28, 28].
//! let spec: LayerSpec = Sequential::new()
//!     .then(Conv2d::new(1, 4, 5).stride(2))
//!     .then(ReLU {})
//!     .then(Flatten::default())
//!     .then(Linear::new(4 * 12 * 12, 10))
//!     .into();
//! let pass = TrainPass::new(Builder::new(&Device::Cpu, 0).build(&spec, &Shape::new(&[1, 1, 28, 28])?)?);
//! let network = pass.network();
//!
//! let config = OptimizerConfig { lr: 0.01, rule: OptimizerKind::named("adam")? };
//! let mut optimizer = Optimizer::new(config, network)?;
//! let digits = neocog::data::load("digits", "data".as_ref())?.train;
//! let loader = Loader::new(digits, LoaderOptions { batch: 64, shuffle: Some(0), ..Default::default() })?;
//! let mut losses = Vec::new();
//! for (step, batch) in loader.epoch(0)?.take(10).enumerate() {
//!     let batch = batch?;
//!     let labels: Vec<f32> = batch.labels.iter().map(|&label| label as f32).collect();
//!     let x = Var::constant(Tensor::from_f32(batch.shape(), &batch.pixels, &Device::Cpu)?);
//!     let y = Var::constant(Tensor::from_f32([batch.len()], &labels, &Device::Cpu)?);
//!
//!     let tape = Tape::new();
//!     let logits = pass.run(&tape, &x, step as u64)?;
//!     let loss = tape.apply(ops::CrossEntropy::default(), &[&logits, &y])?.remove(0);
//!     losses.push(loss.tensor().item()?);
//!     let grads = tape.backward(&loss)?;
//!     optimizer.step(network, &grads, 0.01)?;
//! }
//! assert!(losses[9] < losses[0]);
//!
//! // Prediction.
//! let images = Tensor::zeros([2, 1, 28, 28], &Device::Cpu)?;
//! let logits = Predictor::new(pass.shared_network()).run(&images)?;
//! assert_eq!(logits.shape().to_string(), "[2, 10]");
//! # Ok::<(), Error>(())
//! ```
//!
//! # Features
//!
//! | feature | contents |
//! |---|---|
//! | `opencl` | OpenCL devices; the OpenCL library is loaded at run time, if there is one |
//! | `fetch` | downloads of data sets over HTTP |
//! | `viz` | contact sheets and line charts as PNG files |
//! | `cli` | the program `neocog`, with `fetch` and `viz` |
//!
//! All are enabled by default. A library disables them and enables what it needs:
//! `neocog = { version = "0.2", default-features = false }`.

pub use neocog_autograd as autograd;
pub use neocog_base as base;
#[cfg(feature = "cli")]
pub use neocog_cli as cli;
pub use neocog_data as data;
pub use neocog_graph as graph;
pub use neocog_layers as layers;
pub use neocog_models as models;
pub use neocog_tensor as tensor;
pub use neocog_train as train;
#[cfg(feature = "viz")]
pub use neocog_viz as viz;

/// The names that most programs need: `use neocog::prelude::*;`.
///
/// [`Context`](layers::Context) is that of a forward pass; the trait of the same name, which adds a location to errors, is
/// imported without a name.
pub mod prelude {
    pub use neocog_autograd::{Grads, Param, Tape, Var};
    pub use neocog_base::{Context as _, Error, ErrorKind, Result};
    pub use neocog_data::{Dataset, Loader, LoaderOptions, Split};
    pub use neocog_layers::{
        BatchNorm1d, BatchNorm2d, Builder, Concat, Context, Conv2d, Dropout, Flatten, Layer, LayerSpec,
        Linear, MaxPool2d, Predictor, ReLU, Residual, Sequential, Sigmoid, TrainPass,
    };
    pub use neocog_tensor::{Device, Shape, Tensor, ops};
    pub use neocog_train::{
        Checkpoint, CheckpointDir, NoProgress, Optimizer, OptimizerConfig, OptimizerKind, Progress, Schedule,
        TrainConfig, Trainer, evaluate, predict,
    };
}
