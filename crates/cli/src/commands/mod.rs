//! The commands, a file each.

pub mod bench;
mod completions;
mod data;
mod devices;
mod eval;
mod export;
mod fetch_data;
mod import;
mod layers;
mod lesson;
mod man;
mod network;
mod predict;
mod run;
mod spec;
mod summary;
pub mod train;
mod tune;
