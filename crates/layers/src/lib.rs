#![doc = include_str!("../README.md")]

mod activation_memory;
mod buffer;
mod build;
pub mod builder;
pub mod check;
mod drop_branches;
pub mod freeze;
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
pub use drop_branches::drop_branches;
pub use layer::{Buffer, Context, Counter, Layer, Observer, Seen, StateUpdate, Visitor};
pub use layers::*;
pub use predictor::Predictor;
pub use registry::{LayerEntry, registry};
pub use spec::{Example, LayerSpec, Spec};
pub use trace::{Untraceable, inference_graph};
pub use train_pass::TrainPass;
