//! Where tensors live and operations run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A place for tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Device {
    /// Double precision and plain loops: slow, obviously right, the definition of every operation.
    Reference,
    /// The processor, in single precision: vector kernels, chosen for the machine at run time, on all threads.
    #[default]
    Cpu,
    /// Shapes without data: a network run on it costs nothing and tells every shape (as PyTorch's `meta` device).
    Meta,
}

impl Device {
    /// The devices that hold data, by name.
    pub const NAMES: [&'static str; 2] = ["cpu", "reference"];
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Reference => "reference",
            Device::Cpu => "cpu",
            Device::Meta => "meta",
        })
    }
}

impl FromStr for Device {
    type Err = Error;

    /// # Errors
    /// For a name that is not in [`Device::NAMES`].
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "reference" => Ok(Device::Reference),
            "cpu" => Ok(Device::Cpu),
            _ => Err(Error::unknown("device", name, Device::NAMES)),
        }
    }
}
