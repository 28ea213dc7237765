//! Checkpoints: the complete state of a run, in files that are replaced atomically.

mod content;
mod dir;
mod file;
mod version1;

pub use content::{Checkpoint, NamedTensor, SavedAverage, SavedFeedback, SavedOptimizerState, Values};
pub use dir::CheckpointDir;
pub use file::{MAGIC, VERSION};
