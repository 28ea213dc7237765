#![doc = include_str!("../README.md")]

mod capture;
pub mod compare;
pub mod explain;
pub mod features;
mod matrix_image;
pub mod report;
mod run;
mod tensorboard;

pub use run::Run;
pub use tensorboard::{LogOptions, TensorBoardLog};
