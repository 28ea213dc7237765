//! Training: configuration, training loop, optimizers, metrics and checkpoints.
//!
//! A [`TrainConfig`] determines a run, a [`Trainer`] holds its state, and [`Trainer::fit`] is the training loop. A
//! [`Checkpoint`] holds everything that is needed to resume a run bit-for-bit, and to [`evaluate`] the network or to
//! [`predict`] with it. A [`ModelFile`] is a network in a JSON file.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use neocog_tensor::Device;
//! use neocog_train::{NoProgress, TrainConfig, Trainer};
//!
//! let config = TrainConfig::for_network("lenet", "digits")?.with_epochs(1).with_limit(64);
//! let data = config.load_data("data".as_ref())?;
//! let mut trainer = Trainer::new(config, &data.train, &Device::Cpu)?;
//! trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
//! assert!(trainer.history()[0].train_loss < 3.0);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

pub mod checkpoint;
mod config;
mod evaluate;
mod fit;
mod meter;
pub mod model_file;
pub mod optimizer;
mod progress;

pub use checkpoint::{Checkpoint, CheckpointDir};
pub use config::{TrainConfig, load_data};
pub use evaluate::{Evaluation, Prediction, check_classes, check_fits, evaluate, predict};
pub use fit::{FitOutcome, Trainer};
pub use meter::Totals;
pub use model_file::ModelFile;
pub use neocog_models::schedule;
pub use neocog_models::{Decay, OptimizerConfig, OptimizerKind, Recipe, Schedule};
pub use optimizer::Optimizer;
pub use progress::{BatchReport, EpochReport, NoProgress, Position, Progress};
