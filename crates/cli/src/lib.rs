//! The commands of neocog, as a library.
//!
//! [`main`] is a complete program. A crate with its own layers, networks or commands calls it to get a program that includes
//! them; [`register_command!`] adds a command.

mod arguments;
mod command;
mod commands;
mod conv_algorithm;
mod help;
mod image_file;
mod input_size;
pub mod output;
mod program;

#[doc(hidden)]
pub use inventory;

pub use clap;
pub use command::{CommandEntry, IntoExitCode, commands};
pub use help::examples;
pub use program::{Program, main};
