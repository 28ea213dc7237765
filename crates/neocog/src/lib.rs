#![doc = include_str!("../README.md")]

pub use neocog_autograd as autograd;
pub use neocog_base as base;
#[cfg(feature = "cli")]
pub use neocog_bench as bench;
#[cfg(feature = "cli")]
pub use neocog_cli as cli;
pub use neocog_data as data;
pub use neocog_graph as graph;
#[cfg(feature = "insight")]
pub use neocog_insight as insight;
pub use neocog_layers as layers;
#[cfg(feature = "cli")]
pub use neocog_lessons as lessons;
pub use neocog_models as models;
#[cfg(feature = "onnx")]
pub use neocog_onnx as onnx;
pub use neocog_tensor as tensor;
pub use neocog_train as train;
#[cfg(feature = "viz")]
pub use neocog_viz as viz;

/// The names that most programs need: `use neocog::prelude::*;`.
///
/// [`Context`](crate::layers::Context) is that of a forward pass; the trait of the same name, which adds a location to errors, is
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
        Checkpoint, CheckpointDir, Classification, Classifier, NoProgress, Optimizer, OptimizerConfig,
        OptimizerKind, Progress, Schedule, TrainConfig, Trainer, evaluate, predict,
    };
}
