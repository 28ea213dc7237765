//! Foundations of the neocog crates: errors with a path ([`Error`]), atomic file replacement ([`file`]), counter-based random numbers
//! ([`random`]), the name of the running program ([`program`]), and tests with requirements ([`testing`]).
//!
//! This crate does not depend on tensors or networks.

mod error;
pub mod file;
pub mod program;
pub mod random;
pub mod testing;

pub use error::{Context, Error, ErrorKind, Result};
