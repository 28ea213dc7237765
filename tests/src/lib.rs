//! Tests of the whole system, and the runner of golden files that they and the command line share.
//!
//! A golden file holds numbers that PyTorch computed; [`golden`] runs the same computations here, on any device, and
//! compares. The tests themselves are in `tests/`.

pub mod golden;
pub mod training;

// A crate that nothing names is not linked, and then registers nothing.
use neocog_models as _;
use neocog_tensor::{Device, Result};

/// All devices that hold numbers: double and single precision on the processor, and OpenCL's, which
/// `NEOCOG_OPENCL_DEVICE` names.
///
/// # Errors
/// When there is no OpenCL device: tests on it must not be left out unseen. The message says what to install.
pub fn devices() -> Result<[Device; 3]> {
    Ok([Device::Reference, Device::Cpu, "opencl".parse()?])
}
