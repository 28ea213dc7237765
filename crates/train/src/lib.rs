#![doc = include_str!("../README.md")]

pub mod checkpoint;
mod classifier;
mod config;
mod environment;
mod evaluate;
mod fit;
mod memory;
mod meter;
pub mod metrics;
pub mod model_file;
pub mod optimizer;
mod predictions;
mod progress;
mod save_every;

pub use checkpoint::{Checkpoint, CheckpointDir};
pub use classifier::{ClassProbability, Classification, Classifier};
pub use config::{ClassBalance, TrainConfig};
pub use environment::Environment;
pub use evaluate::{
    Evaluation, Prediction, check_classes, check_fits, evaluate, evaluate_images, evaluate_until, predict,
};
pub use fit::{FitOutcome, Trainer};
pub use memory::MemoryNeed;
pub use meter::Totals;
pub use model_file::ModelFile;
pub use neocog_models::schedule;
pub use neocog_models::{Decay, OptimizerConfig, OptimizerKind, ParamGroup, Recipe, Schedule};
pub use optimizer::Optimizer;
pub use predictions::Predictions;
pub use progress::{BatchReport, EpochReport, NoProgress, Position, Progress};
pub use save_every::SaveEvery;
