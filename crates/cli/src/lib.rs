//! The commands of neocog as a library.
//!
//! [`main`] is a whole program: a crate with layers, networks or commands of its own has a program that knows them by
//! calling it. Commands register themselves with [`register_command!`].

mod command;
mod commands;
mod help;
mod input_size;
pub mod output;
mod pictures;
mod program;

#[doc(hidden)]
pub use {clap, inventory};

pub use command::{CommandEntry, IntoExitCode, commands};
pub use help::examples;
pub use program::{Program, main};
