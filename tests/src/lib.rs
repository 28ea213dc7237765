//! Tests of the whole system, and the runner of golden files that the tests and the command line share.
//!
//! A golden file holds results that PyTorch computed; [`golden`] runs the same computations on any device and compares them.

pub mod golden;
pub mod training;

// A crate that is not referenced is not linked, and registers nothing.
use neocog_models as _;
use neocog_tensor::{Device, Result};

/// Returns all devices that store data: the reference device, the CPU, and the OpenCL device that `NEOCOG_OPENCL_DEVICE` selects.
///
/// # Errors
/// When there is no OpenCL device, so that its tests are not skipped silently. The message says what to install.
pub fn devices() -> Result<[Device; 3]> {
    Ok([Device::Reference, Device::Cpu, "opencl".parse()?])
}
