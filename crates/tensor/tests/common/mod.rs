//! Shared by several of these tests.

use neocog_base::testing::require;
use neocog_tensor::Device;

/// The devices that compute in single precision: the CPU, and with the feature `opencl` the first OpenCL device.
pub fn devices() -> Vec<Device> {
    let opencl = || require("opencl", "opencl".parse::<Device>());
    [Some(Device::Cpu), cfg!(feature = "opencl").then(opencl).flatten()].into_iter().flatten().collect()
}
