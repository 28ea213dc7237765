//! Shapes, devices, tensors, and the contract and execution of operations.

pub(crate) mod call;
pub mod device;
pub mod op;
pub mod profile;
pub(crate) mod run;
pub mod shape;
pub mod tensor;
pub mod view;
