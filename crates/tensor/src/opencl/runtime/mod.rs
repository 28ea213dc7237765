//! Everything that uses the OpenCL library: a context, an in-order queue and a memory pool for each device, open until the
//! program ends.
//!
//! Commands are queued asynchronously; only reads wait. The queue preserves their order, so memory can be returned to the
//! pool and reused while commands that use it are still queued.

mod buffer;
mod cache;
mod context;
mod error;
pub mod fuzz;
mod launcher;
mod platform;
mod profile;
mod program;
mod tuned;

use neocog_opencl_loader as _;

pub use buffer::Buffer;
pub(crate) use launcher::{Runtime, open};
pub(crate) use platform::list;
