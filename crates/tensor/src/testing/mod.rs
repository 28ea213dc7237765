//! Cases of operations, and the checks that run them on every device.

pub mod cases;
pub mod conformance;
