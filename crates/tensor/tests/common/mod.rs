//! What several of these tests use.

use neocog_tensor::Device;

/// The devices that compute in single precision: the processor, and with the feature `opencl` the first OpenCL device,
/// which must be there.
pub fn devices() -> Vec<Device> {
    let names: &[&str] = if cfg!(feature = "opencl") { &["cpu", "opencl"] } else { &["cpu"] };
    names.iter().map(|name| name.parse().unwrap()).collect()
}
