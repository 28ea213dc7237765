//! OpenCL devices: graphics cards, and processors through a driver such as PoCL.
//!
//! An operation's [`Op::opencl`] gets a [`Call`] and launches kernels with it. What is in this module's public part
//! knows no OpenCL library and is compiled always, so that operations need no conditional code; `runtime/` holds all
//! that talks to `ocl`, and is compiled with the feature `opencl`. Without the feature, asking for a device is an error.
//!
//! ```
//! use neocog_tensor::opencl::devices;
//!
//! match devices() {
//!     Ok(all) => all.iter().for_each(|device| println!("{}: {}", device.id, device.name)),
//!     Err(e) => println!("{e}"),
//! }
//! ```

mod call;
mod device;
pub(crate) mod formula;
pub(crate) mod product;
#[cfg_attr(not(feature = "opencl"), path = "absent.rs")]
mod runtime;
mod tune;

pub use call::{Arg, Call, Grid, Source, View};
pub use device::{DEVICE_VARIABLE, DeviceId, DeviceInfo, Kind, devices};
pub use runtime::Buffer;
pub use tune::Trial;

pub(crate) use call::{int, run_op};
pub(crate) use runtime::open;

use std::collections::BTreeMap;

use crate::memory::MemoryReport;
use neocog_base::Result;

/// What the kernels of a device took since [`DeviceId::start_profile`].
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Every kernel of every operation, sorted by the operation's and the kernel's name.
    pub kernels: Vec<KernelTime>,
    /// Every operation that ran, sorted by name.
    pub ops: Vec<OpWork>,
}

/// The launches of one kernel by one operation.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The operation's name.
    pub op: &'static str,
    /// The kernel's name.
    pub kernel: &'static str,
    /// How often it was launched.
    pub launches: u64,
    /// The time that it took on the device, by the device's clock, of all launches together.
    pub seconds: f64,
    /// The bytes of the buffers that it was given, each counted once a launch.
    pub bytes: u64,
}

/// The runs of one operation.
#[derive(Clone, Debug)]
pub struct OpWork {
    /// The operation's name.
    pub op: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// The multiply-adds of all runs together, as [`Op::multiply_adds`] counts them.
    pub multiply_adds: u64,
}

impl DeviceId {
    /// What the device is.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn info(self) -> Result<&'static DeviceInfo> {
        Ok(open(self)?.info())
    }

    /// Waits until the device has done all that it was given.
    ///
    /// # Errors
    /// When there is no such device, or it failed.
    pub fn finish(self) -> Result<()> {
        open(self)?.finish()
    }

    /// What the device's pool of memory holds.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn memory_report(self) -> Result<MemoryReport> {
        Ok(open(self)?.memory_report())
    }

    /// Gives all free memory of the device's pool back to the driver.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn release_cached_memory(self) -> Result<()> {
        open(self)?.release_cached_memory();
        Ok(())
    }

    /// How often each kernel was launched on the device, since the program started.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn launches(self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(open(self)?.launches())
    }

    /// Begins to time every kernel, which costs a little time itself.
    ///
    /// # Errors
    /// When there is no such device, or it failed.
    pub fn start_profile(self) -> Result<()> {
        open(self)?.start_profile()
    }

    /// Ends what [`start_profile`](Self::start_profile) began, and returns the times; empty if it was not called.
    ///
    /// # Errors
    /// When there is no such device, or it failed.
    pub fn take_profile(self) -> Result<Profile> {
        open(self)?.take_profile()
    }
}

#[cfg(doc)]
use crate::core::op::Op;
