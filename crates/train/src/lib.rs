#![doc = include_str!("../README.md")]

mod average;
pub mod checkpoint;
mod class_balance;
mod config;
mod environment;
mod evaluate;
mod fit;
mod log;
pub mod loss;
mod memory;
mod meter;
pub mod metrics;
mod mix;
pub mod model_file;
mod multi_label;
pub mod optimizer;
mod options;
mod predictions;
mod progress;
pub mod ranks;
mod save_every;
mod shard;

pub use checkpoint::{Checkpoint, CheckpointDir};
pub use class_balance::ClassBalance;
pub use config::TrainConfig;
pub use environment::Environment;
pub use evaluate::{
    Evaluation, check_channels, check_classes, check_fits, evaluate, evaluate_images, evaluate_until,
};
pub use fit::{FitOutcome, LrPoint, LrRange, Trainer, steepest_lr};
pub use log::{LogKind, LogLine};
pub use memory::MemoryNeed;
pub use meter::Totals;
pub use model_file::ModelFile;
pub use multi_label::{MultiLabelMeter, MultiLabelMetrics};
pub use neocog_models::schedule;
pub use neocog_models::trained::{ClassProbability, Classification, Classifier, Prediction, predict};
pub use neocog_models::{
    Decay, OneCycle, OptimizerConfig, OptimizerKind, ParamGroup, Phase, Plateau, Recipe, Schedule,
};
pub use optimizer::Optimizer;
pub use options::{Compression, LossKind, TrainOptions};
pub use predictions::Predictions;
pub use progress::{AverageReport, BatchReport, EpochReport, NoProgress, Position, Progress};
pub use ranks::Ranks;
pub use save_every::SaveEvery;
