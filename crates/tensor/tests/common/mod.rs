//! Helpers of several tests.

use neocog_tensor::Device;

/// Returns the devices that compute in single precision: the processor, and with the feature `opencl` the default OpenCL device, which
/// must exist.
pub fn devices() -> Vec<Device> {
    let names: &[&str] = if cfg!(feature = "opencl") { &["cpu", "opencl"] } else { &["cpu"] };
    names.iter().map(|name| name.parse().unwrap()).collect()
}
