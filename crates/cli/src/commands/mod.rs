//! The commands, a file each.

pub mod bench;
mod compare;
mod completions;
mod data;
mod devices;
mod embed;
mod eval;
mod explain;
mod export;
mod features;
mod fetch_data;
mod import;
mod import_onnx;
mod layers;
mod lesson;
mod lr_find;
mod man;
mod network;
mod part_selection;
mod predict;
mod report;
mod run;
mod run_onnx;
mod spec;
mod summary;
pub mod train;
mod tune;
