//! Devices: where tensors are stored and operations run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::opencl::DeviceId;
use neocog_base::{Error, Result};

/// A device that stores tensors and runs operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Device {
    /// Plain loops in double precision: slow, and the definition of every operation.
    Reference,
    /// The processor, in single precision: SIMD kernels, selected at run time, on all threads.
    #[default]
    Cpu,
    /// An OpenCL device, in single precision. Requires the cargo feature `opencl`.
    OpenCl(DeviceId),
    /// Shapes without data, as PyTorch's `meta` device: running a network on it only infers shapes.
    Meta,
}

impl Device {
    /// Names of the devices that store data. `opencl` is the default OpenCL device; `opencl:PLATFORM:DEVICE` and
    /// `opencl:NAME`, with a part of a name, select another.
    pub const NAMES: [&'static str; 3] = ["cpu", "opencl", "reference"];
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Reference => f.write_str("reference"),
            Device::Cpu => f.write_str("cpu"),
            Device::OpenCl(id) => id.fmt(f),
            Device::Meta => f.write_str("meta"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// # Errors
    /// If the name is unknown, or there is no such OpenCL device: the message lists the available ones, or says what to
    /// install.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "reference" => Ok(Device::Reference),
            "cpu" => Ok(Device::Cpu),
            "opencl" => Ok(Device::OpenCl(DeviceId::find(None)?)),
            _ if name.starts_with("opencl:") => {
                Ok(Device::OpenCl(DeviceId::find(Some(&name["opencl:".len()..]))?))
            }
            _ => Err(Error::not_found("device", name, Device::NAMES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_displayed() {
        for device in [Device::Cpu, Device::Reference] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        let error = "opnecl".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("did you mean `opencl`"), "{error}");
        assert_eq!(Device::OpenCl(DeviceId { platform: 1, device: 2 }).to_string(), "opencl:1:2");
    }
}
