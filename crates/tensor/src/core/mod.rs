//! Shapes, devices, tensors, and the contract and execution of operations.

pub mod batch;
pub(crate) mod call;
pub(crate) mod check;
pub mod device;
pub mod fusion;
pub mod op;
pub mod profile;
pub mod program;
#[doc(hidden)]
pub mod registration;
pub(crate) mod run;
pub mod shape;
pub mod tensor;
pub mod view;
