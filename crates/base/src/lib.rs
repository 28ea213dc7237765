#![doc = include_str!("../README.md")]

mod error;
pub mod fault;
pub mod file;
pub mod lock;
pub mod memory;
pub mod program;
pub mod random;
pub mod registry;
pub mod testing;
pub mod text;

pub use error::{Context, Error, ErrorKind, Result};
