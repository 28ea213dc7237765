//! Where tensors live and operations run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::opencl::DeviceId;
use neocog_base::{Error, Result};

/// A place for tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Device {
    /// Double precision and plain loops: slow, obviously right, the definition of every operation.
    Reference,
    /// The processor, in single precision: vector kernels, chosen for the machine at run time, on all threads.
    #[default]
    Cpu,
    /// A graphics card or another device that OpenCL reaches, in single precision. Needs the feature `opencl`.
    OpenCl(DeviceId),
    /// Shapes without data: a network run on it costs nothing and tells every shape (as PyTorch's `meta` device).
    Meta,
}

impl Device {
    /// The devices that hold data, by name. `opencl` is the best device of OpenCL; `opencl:PLATFORM:DEVICE` or
    /// `opencl:NAME`, with a part of a name, is a certain one.
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
    /// For a name that is not in [`Device::NAMES`], and for an OpenCL device that is not there: the message says which
    /// ones are, or what to install.
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
    fn names_are_read_and_written() {
        for device in [Device::Cpu, Device::Reference] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        let error = "opnecl".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("did you mean `opencl`"), "{error}");
        assert_eq!(Device::OpenCl(DeviceId { platform: 1, device: 2 }).to_string(), "opencl:1:2");
    }
}
