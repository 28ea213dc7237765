//! The commands, a file for each: thin, over the crates.

pub mod bench;
pub mod data;
pub mod eval;
pub mod fetch_data;
pub mod golden;
pub mod layers;
pub mod lesson;
pub mod predict;
pub mod summary;
pub mod test;
pub mod train;
