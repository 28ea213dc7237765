//! Cases of operations, and conformance checks that run them on every device.

pub mod cases;
pub mod conformance;
pub mod split;
