//! Identity and properties of OpenCL devices.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An OpenCL device: its platform's index and its own index within the platform, in the driver's order.
///
/// Displayed as `opencl:PLATFORM:DEVICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId {
    /// Index of the platform.
    pub platform: u16,
    /// Index of the device within its platform.
    pub device: u16,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opencl:{}:{}", self.platform, self.device)
    }
}

/// The kind of a device, which selects kernels and work distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A processor: few threads with wide vectors and caches. Work-items of a group run one after the other.
    Cpu,
    /// A graphics card: thousands of threads; neighboring work-items should read neighboring memory.
    Gpu,
    /// Any other device; treated as a graphics card.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cpu => "CPU",
            Kind::Gpu => "GPU",
            Kind::Other => "other",
        })
    }
}

/// Properties of a device, as reported by its driver.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Identity of the device.
    pub id: DeviceId,
    /// Name of the device.
    pub name: String,
    /// Name of the vendor.
    pub vendor: String,
    /// Name of the platform (the driver).
    pub platform: String,
    /// Supported OpenCL version.
    pub version: String,
    /// Version of the driver.
    pub driver: String,
    /// Kind of the device.
    pub kind: Kind,
    /// Number of compute units: the cores of a processor.
    pub compute_units: usize,
    /// Largest number of work-items in a work-group.
    pub max_group: usize,
    /// Local memory of a work-group in bytes.
    pub local_memory: usize,
    /// Whether local memory is dedicated fast memory; on processors it is part of global memory.
    pub has_local_memory: bool,
    /// Global memory in bytes.
    pub global_memory: u64,
    /// Largest size of a buffer in bytes.
    pub max_allocation: u64,
    /// Native vector width in floats; 1 for devices whose work-items compute with scalars.
    pub vector_width: usize,
    /// Names of the supported extensions.
    pub extensions: Vec<String>,
}

#[cfg(test)]
impl DeviceInfo {
    /// Properties of an imaginary device.
    pub(crate) fn for_tests(kind: Kind) -> Self {
        DeviceInfo {
            id: DeviceId { platform: 0, device: 0 },
            name: "a device".into(),
            vendor: "a vendor".into(),
            platform: "a platform".into(),
            version: "OpenCL 1.2".into(),
            driver: "1".into(),
            kind,
            compute_units: 2,
            max_group: 256,
            local_memory: 1 << 15,
            has_local_memory: false,
            global_memory: 1 << 32,
            max_allocation: 1 << 30,
            vector_width: 8,
            extensions: Vec::new(),
        }
    }
}
