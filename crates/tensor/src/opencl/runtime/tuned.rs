//! What the tuner found best for a device, kept beside the compiled programs.

use super::cache::{Cache, Key};
use crate::error::{Error, Result};
use crate::opencl::DeviceInfo;
use crate::opencl::product::Blocks;

/// A device is known by its names and versions: another driver is tuned anew.
fn key(info: &DeviceInfo) -> Key {
    let kind = info.kind.to_string();
    Key::of(&["blocks 1", &kind, &info.platform, &info.name, &info.version, &info.driver])
}

pub(super) fn read(info: &DeviceInfo) -> Option<Blocks> {
    let kept = Cache::of_user().read(&key(info))?;
    serde_json::from_slice::<Blocks>(&kept).ok().filter(|blocks| blocks.is_sound(info))
}

pub(super) fn write(info: &DeviceInfo, blocks: Blocks) -> Result<()> {
    let kept = Cache::of_user().write(&key(info), || serde_json::to_vec(&blocks).ok());
    kept.ok_or_else(|| {
        Error::device(
            "the tuned sizes cannot be kept: there is no folder for them that can be written to; NEOCOG_CACHE_DIR names one",
        )
    })
}
