//! Checkpoints: the complete state of a run, in files that are replaced atomically.

mod content;
mod file;
mod version1;

pub use content::{Checkpoint, NamedTensor, SavedOptimizerState, Values};
pub use file::{CheckpointDir, MAGIC, VERSION};
