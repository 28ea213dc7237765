//! Tensors, devices, memory and operations.
pub mod error;
pub mod shape;

pub use error::{At, Error, ErrorKind, Result};
pub use shape::{Shape, Shapes};
