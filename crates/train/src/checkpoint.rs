//! Checkpoints: the complete state of a run, in files that are replaced atomically.

mod content;
mod dir;
mod file;
mod version1;

pub use content::{Checkpoint, SavedAverage, SavedFeedback, SavedOptimizerState};
pub use dir::CheckpointDir;
pub use neocog_models::trained::{MAGIC, NamedTensor, VERSION, Values};
