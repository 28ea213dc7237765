#![doc = include_str!("../README.md")]

mod activation_memory;
mod buffer;
mod build;
pub mod builder;
pub mod check;
mod json;
pub mod layer;
mod layers;
mod parse;
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
pub use layer::{Buffer, Context, Counter, Layer, Observer, Seen, Visitor};
pub use layers::*;
pub use plan::Predictor;
pub use registry::{LayerEntry, registry};
pub use spec::{Example, LayerSpec, Spec};
