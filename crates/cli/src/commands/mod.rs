//! The commands, a file for each: thin, over the crates.

pub mod bench;
pub mod data;
pub mod devices;
pub mod eval;
pub mod export;
pub mod fetch_data;
pub mod import;
pub mod layers;
pub mod lesson;
mod network;
pub mod predict;
pub mod spec;
pub mod summary;
pub mod train;
pub mod tune;
