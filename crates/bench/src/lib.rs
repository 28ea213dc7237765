#![doc = include_str!("../README.md")]

mod batch;
pub mod compare;
pub mod convolutions;
pub mod loader;
pub mod networks;
pub mod ops;
pub mod python;
mod record;
pub mod timing;

pub use batch::default_batch;
pub use record::Record;
