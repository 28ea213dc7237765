#![doc = include_str!("../README.md")]

mod element;
pub mod export;
pub mod import;
pub mod proto;

#[doc(hidden)]
pub use inventory;

pub use element::{f32_to_half, half_to_f32};
pub use export::{ExportOptions, Normalization, export_network};
pub use import::{OnnxLayers, OnnxModel, OnnxNetwork, OnnxOutput, OnnxSession};
