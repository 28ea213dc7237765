//! OpenCL devices: graphics cards, and processors through a driver such as PoCL.
//!
//! [`Op::opencl`](crate::Op::opencl) gets a [`Call`] and launches kernels with it. The types that operations use are always
//! compiled and need no OpenCL library, so operations have no conditional code. `runtime/` holds everything that uses the
//! crate `ocl`; it is compiled with the feature `opencl`. Without the feature, opening a device is an error.
//!
//! ```
//! use neocog_tensor::opencl::devices;
//!
//! match devices() {
//!     Ok(all) => all.iter().for_each(|device| println!("{}: {}", device.id, device.name)),
//!     Err(e) => println!("{e}"),
//! }
//! ```

mod device;
pub(crate) mod formula;
mod info;
mod launch;
mod profile;
#[cfg_attr(not(feature = "opencl"), path = "absent.rs")]
mod runtime;
mod tile_config;

pub use device::{DEVICE_VARIABLE, devices};
pub use info::{DeviceId, DeviceInfo, Kind};
pub use launch::{Arg, Grid, Source};
pub use profile::{KernelTime, OpWork, Profile};
pub use runtime::Buffer;
#[doc(hidden)]
pub use runtime::fuzz;

pub(crate) use launch::int;
pub(crate) use runtime::{Runtime, open};
pub(crate) use tile_config::{CpuTiles, TileConfig, WORK_GROUP_SIDE};

// What needs more than this directory, but belongs to its public interface.
pub use crate::autotune::Trial;
pub use crate::core::call::{Call, View};
