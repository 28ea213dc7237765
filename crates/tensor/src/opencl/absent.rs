//! Replacement of the runtime in builds without OpenCL: there is no device, so there are no values of these types.

use std::collections::BTreeMap;

use super::info::{DeviceId, DeviceInfo};
use super::launch::{Arg, Grid, Source};
use super::profile::Profile;
use super::tile_config::TileConfig;
use crate::memory::MemoryReport;
use neocog_base::{Error, Result};

/// Memory on an OpenCL device.
#[derive(Debug)]
pub enum Buffer {}

/// An open device.
#[derive(Debug)]
pub(crate) enum Runtime {}

#[cold]
fn without<T>() -> Result<T> {
    Err(Error::device(
        "this program was built without OpenCL; build it with the cargo feature `opencl`, or choose another device",
    ))
}

pub(crate) fn list() -> Result<&'static [DeviceInfo]> {
    without()
}

pub(crate) fn open(_id: DeviceId) -> Result<&'static Runtime> {
    without()
}

impl Runtime {
    pub(crate) fn info(&self) -> &'static DeviceInfo {
        match *self {}
    }
    pub(crate) fn tile_config(&self) -> TileConfig {
        match *self {}
    }
    pub(crate) fn set_tile_config(&self, _tiles: TileConfig) {
        match *self {}
    }
    pub(crate) fn save_tile_config(&self) -> Result<()> {
        match *self {}
    }
    pub(crate) fn allocate(&'static self, _len: usize) -> Result<Buffer> {
        match *self {}
    }
    pub(crate) unsafe fn launch(
        &self,
        _op: &'static str,
        _source: &Source,
        _kernel: &'static str,
        _args: &[Arg<'_>],
        _grid: &Grid,
    ) -> Result<()> {
        match *self {}
    }
    pub(crate) fn note_run(&self, _op: &'static str, _multiply_adds: impl FnOnce() -> u64) {
        match *self {}
    }
    pub(crate) fn finish(&self) -> Result<()> {
        match *self {}
    }
    pub(crate) fn memory_report(&self) -> MemoryReport {
        match *self {}
    }
    pub(crate) fn release_cached_memory(&self) {
        match *self {}
    }
    pub(crate) fn launches(&self) -> BTreeMap<&'static str, u64> {
        match *self {}
    }
    pub(crate) fn start_profile(&self) -> Result<()> {
        match *self {}
    }
    pub(crate) fn take_profile(&self) -> Result<Profile> {
        match *self {}
    }
}

impl Buffer {
    /// Returns the number of floats.
    pub fn len(&self) -> usize {
        match *self {}
    }
    /// Whether the buffer has no floats.
    pub fn is_empty(&self) -> bool {
        match *self {}
    }
    pub(crate) fn device(&self) -> DeviceId {
        match *self {}
    }
    pub(crate) fn fill(&self, _value: f32) -> Result<()> {
        match *self {}
    }
    pub(crate) fn write(&self, _values: Vec<f32>) -> Result<()> {
        match *self {}
    }
    pub(crate) fn read(&self, _range: std::ops::Range<usize>) -> Result<Vec<f32>> {
        match *self {}
    }
    pub(crate) fn copy_to(&self, _to: &Buffer) -> Result<()> {
        match *self {}
    }
    pub(crate) fn part(&self, _range: std::ops::Range<usize>) -> Result<Buffer> {
        match *self {}
    }
    pub(crate) fn copy(&self, _range: std::ops::Range<usize>) -> Result<Buffer> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_opencl_devices_are_errors() {
        for error in ["opencl".parse::<crate::Device>().unwrap_err(), crate::opencl::devices().unwrap_err()] {
            assert!(error.to_string().contains("built without OpenCL"), "{error}");
        }
    }
}

/// What the project's fuzz targets need of the cache, which there is none of.
pub mod fuzz {
    /// Parses nothing.
    pub fn cached_program(_bytes: &[u8]) -> Option<usize> {
        None
    }

    /// Returns nothing.
    pub fn cache_entry(_program: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    /// Parses nothing.
    pub fn tuned_sizes(_bytes: &[u8]) -> Option<String> {
        None
    }
}
