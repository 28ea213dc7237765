//! The unit of buffers.

use bytemuck::{Pod, Zeroable};

/// Sixteen floats: a cache line, and the widest vector of supported CPUs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Line(pub [f32; LINE]);

/// Number of floats of a line.
pub const LINE: usize = 16;
