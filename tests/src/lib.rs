//! Tests of the whole system, and the runner of golden files that the tests and the command line share.
//!
//! A golden file holds results that PyTorch computed; [`golden`] runs the same computations on any device and compares them.

pub mod fuzz;
pub mod golden;
pub mod training;

// A crate that is not referenced is not linked, and registers nothing.
use neocog_models as _;
use neocog_tensor::Device;

/// All devices that compute: f64 and f32 on the CPU, and the OpenCL device that `NEOCOG_OPENCL_DEVICE` names, or the first.
///
/// # Panics
/// Without an OpenCL device, unless the list of tests that did not run is kept ([`neocog_base::testing::require`]).
pub fn devices() -> Vec<Device> {
    let opencl = neocog_base::testing::require("opencl", "opencl".parse::<Device>());
    [Device::Reference, Device::Cpu].into_iter().chain(opencl).collect()
}
