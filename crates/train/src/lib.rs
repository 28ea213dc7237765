//! Training: the loop, optimizers, learning-rate schedules, metrics and checkpoints.
//!
//! A [`Plan`] says what is trained and how; a [`Training`] is a run of it, and [`Training::fit`] the loop. A
//! [`Checkpoint`] holds all that a run needs to go on as if it had never stopped, bit for bit, and all that a
//! network needs to [`evaluate`] or [`predict`].
//!
//! A network in a file of JSON is a [`ModelFile`].
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use neocog_tensor::Device;
//! use neocog_train::{Plan, Silent, Training};
//!
//! let mut plan = Plan::for_network("lenet", "digits")?;
//! plan.epochs = 1;
//! plan.limit = Some(64);
//! let data = plan.load_data("data".as_ref())?;
//! let mut training = Training::new(plan, &data.train, &Device::Cpu)?;
//! training.fit(&data, None, &mut Silent, &AtomicBool::new(false))?;
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

pub use checkpoint::{Checkpoint, Folder};
pub use evaluate::{Evaluation, Prediction, check_classes, check_fits, evaluate, predict};
pub use fit::{BatchReport, End, EpochReport, Progress, Silent, Training};
pub use model_file::ModelFile;
pub use optimizer::{Optimizer, OptimizerConfig, Rule};
pub use plan::{Plan, load_data};
pub use schedule::{Decay, Schedule};
