//! What every neocog crate stands on: errors that carry the path to the fault ([`Error`]), atomic file replacement
//! ([`file`]), counter-based random numbers ([`random`]), and the name of the
//! program that runs ([`program`]).
//!
//! This crate knows nothing of tensors or networks.

mod error;
pub mod file;
pub mod program;
pub mod random;
pub mod testing;

pub use error::{Context, Error, ErrorKind, Result};
