#![doc = include_str!("../README.md")]

mod arguments;
mod array;
mod byte_size;
mod command;
mod commands;
mod conv_algorithm;
mod csv;
mod help;
mod image_file;
mod input_size;
mod interrupt;
mod normalization;
pub mod output;
mod outputs;
mod program;
mod threads;

#[doc(hidden)]
pub use inventory;

pub use clap;
pub use command::{CommandEntry, IntoExitCode, commands};
pub use help::examples;
pub use program::{Program, main};
