//! The types of the algorithms for OpenCL devices.

use crate::opencl::{Buffer, Call, CpuTiles, TileConfig};
use crate::ops::conv2d::algorithm::{Algorithm, Backend};
use neocog_base::Result;

/// OpenCL devices.
pub struct OpenCl;

impl Backend for OpenCl {
    type Device = Limits;
    type Context<'a> = &'a Call<'a>;
    type Input<'a> = &'a Buffer;
    type Output<'a> = &'a Buffer;
    type Buffer = Buffer;
    type Outcome<T> = Result<T>;
}

/// What cost and parameters of an algorithm depend on besides the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The register tiles of a processor; `None` for other devices.
    pub tiles: Option<RegisterTiles>,
    /// Local memory of a work-group in bytes.
    pub local_memory: usize,
    pub compute_units: usize,
}

/// The register tiles of matrix products on a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterTiles {
    /// Width of a vector in floats.
    pub width: usize,
    pub rows: usize,
}

impl Limits {
    /// Returns the limits of the device of a call. Auto-tuning may change the tiles.
    pub fn of(call: &Call<'_>) -> Self {
        let tiles = match call.tile_config() {
            TileConfig::Cpu(CpuTiles { width, tile_rows, .. }) => {
                Some(RegisterTiles { width, rows: tile_rows })
            }
            TileConfig::Gpu(_) => None,
        };
        let info = call.device();
        Limits { tiles, local_memory: info.local_memory, compute_units: info.compute_units }
    }
}

/// A weight in the layout of the algorithm that packed it.
pub struct Packed {
    pub algorithm: Algorithm<OpenCl>,
    pub weight: Option<Buffer>,
    /// The limits that it was packed for.
    pub limits: Limits,
}
