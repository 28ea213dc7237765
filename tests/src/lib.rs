//! Tests of the whole system, and the runner of golden files that they and the command line share.
//!
//! A golden file holds numbers that PyTorch computed; [`golden`] runs the same computations here, on any device, and
//! compares. The tests themselves are in `tests/`.

pub mod golden;
pub mod training;

// A crate that nothing names is not linked, and then registers nothing.
use neocog_models as _;
