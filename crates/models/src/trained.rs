//! Trained networks: what a checkpoint holds of a network, and its use, without what training needs.

mod classifier;
mod file;
mod network;
mod predict;
mod tensor;
mod version1;

pub use classifier::{ClassProbability, Classification, Classifier};
pub use file::{CheckpointFile, ContentWriter, MAGIC, VERSION, write};
pub use network::{SavedNetwork, load_state};
pub use predict::{Prediction, predict};
pub use tensor::{NamedTensor, Values};
pub use version1::{Config1, Start1};
