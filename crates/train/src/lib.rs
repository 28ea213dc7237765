//! Trainer: the loop, optimizers, learning-rate schedules, metrics and checkpoints.
//!
//! A [`TrainConfig`] says what is trained and how; a [`Trainer`] is a run of it, and [`Trainer::fit`] the loop. A
//! [`Checkpoint`] holds all that a run needs to go on as if it had never stopped, bit for bit, and all that a
//! network needs to [`evaluate`] or [`predict`].
//!
//! A network in a file of JSON is a [`ModelFile`].
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use neocog_tensor::Device;
//! use neocog_train::{TrainConfig, NoProgress, Trainer};
//!
//! let mut plan = TrainConfig::for_network("lenet", "digits")?;
//! plan.epochs = 1;
//! plan.limit = Some(64);
//! let data = plan.load_data("data".as_ref())?;
//! let mut training = Trainer::new(plan, &data.train, &Device::Cpu)?;
//! training.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
//! assert!(training.history()[0].train_loss < 3.0);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

pub mod checkpoint;
mod evaluate;
mod fit;
mod meter;
pub mod model_file;
pub mod optimizer;
mod plan;
pub mod schedule;

pub use checkpoint::{Checkpoint, CheckpointDir};
pub use evaluate::{Evaluation, Prediction, check_classes, check_fits, evaluate, predict};
pub use fit::{BatchReport, EpochReport, FitOutcome, NoProgress, Progress, Trainer};
pub use model_file::ModelFile;
pub use optimizer::{Optimizer, OptimizerConfig, OptimizerKind};
pub use plan::{TrainConfig, load_data};
pub use schedule::{Decay, Schedule};
