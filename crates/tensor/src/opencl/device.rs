//! The available devices, and operations on a device as a whole.

use std::collections::BTreeMap;

use super::info::{DeviceId, DeviceInfo, Kind};
use super::profile::Profile;
use super::runtime::{self, open};
use crate::memory::MemoryReport;
use neocog_base::{Context as _, Error, ErrorKind, Result};

/// Environment variable that selects the device `opencl`: `PLATFORM:DEVICE` or a part of a name.
pub const DEVICE_VARIABLE: &str = "NEOCOG_OPENCL_DEVICE";

/// Lists the OpenCL devices of this machine.
///
/// # Errors
/// If there is none, or the program was built without OpenCL; the message says what to install.
pub fn devices() -> Result<Vec<&'static DeviceInfo>> {
    Ok(runtime::list()?.iter().collect())
}

impl DeviceId {
    /// Finds a device by `PLATFORM:DEVICE`, or by a part of the device's or the platform's name (case-insensitive).
    ///
    /// `None` selects the device named by [`DEVICE_VARIABLE`], else the first GPU, else the first device.
    ///
    /// # Errors
    /// If there is no such device; the message lists the available ones.
    pub fn find(text: Option<&str>) -> Result<Self> {
        let all = runtime::list()?;
        if let Some(text) = text {
            return find_in(text, all);
        }
        let wanted = std::env::var(DEVICE_VARIABLE).unwrap_or_default();
        if !wanted.is_empty() {
            return find_in(&wanted, all).context(|| DEVICE_VARIABLE);
        }
        let rank = |info: &&DeviceInfo| match info.kind {
            Kind::Gpu => 0,
            Kind::Other => 1,
            Kind::Cpu => 2,
        };
        let best = all.iter().min_by_key(rank);
        best.map(|info| info.id).ok_or_else(|| Error::device("there is no OpenCL device"))
    }

    /// Returns the properties of the device.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn info(self) -> Result<&'static DeviceInfo> {
        Ok(open(self)?.info())
    }

    /// Waits until the device has executed all queued commands.
    ///
    /// # Errors
    /// If there is no such device, or it failed.
    pub fn finish(self) -> Result<()> {
        open(self)?.finish()
    }

    /// Returns the state of the device's memory pool.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn memory_report(self) -> Result<MemoryReport> {
        Ok(open(self)?.memory_report())
    }

    /// Returns all free memory of the device's pool to the driver.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn release_cached_memory(self) -> Result<()> {
        open(self)?.release_cached_memory();
        Ok(())
    }

    /// Returns the number of launches of each kernel on the device since the program started.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn launches(self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(open(self)?.launches())
    }

    /// Starts to time every kernel, which has a small cost of its own.
    ///
    /// # Errors
    /// If there is no such device, or it failed.
    pub fn start_profile(self) -> Result<()> {
        open(self)?.start_profile()
    }

    /// Stops the profile begun by [`start_profile`](Self::start_profile) and returns it; empty if there is none.
    ///
    /// # Errors
    /// If there is no such device, or it failed.
    pub fn take_profile(self) -> Result<Profile> {
        open(self)?.take_profile()
    }
}

fn find_in(text: &str, all: &[DeviceInfo]) -> Result<DeviceId> {
    let position = text.split_once(':').and_then(|(p, d)| Some((p.parse().ok()?, d.parse().ok()?)));
    let lower = text.to_lowercase();
    let found = all.iter().find(|info| match position {
        Some((platform, device)) => info.id == DeviceId { platform, device },
        None => info.name.to_lowercase().contains(&lower) || info.platform.to_lowercase().contains(&lower),
    });
    found.map(|info| info.id).ok_or_else(|| {
        let names: Vec<String> =
            all.iter().map(|info| format!("{} ({}, {})", info.id, info.name, info.platform)).collect();
        Error::new(
            ErrorKind::NotFound,
            format!("there is no OpenCL device `{text}`; available devices: {}", names.join("; ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(platform: u16, device: u16, name: &str) -> DeviceInfo {
        DeviceInfo {
            id: DeviceId { platform, device },
            name: name.into(),
            platform: "A Platform".into(),
            ..DeviceInfo::for_tests(Kind::Gpu)
        }
    }

    #[test]
    fn devices_are_found_by_position_and_by_name() {
        let all = [info(0, 0, "pthread-cpu"), info(1, 0, "Big Card"), info(1, 1, "Small Card")];
        let find = |text: &str| find_in(text, &all);
        assert_eq!(find("1:1").unwrap(), all[2].id);
        assert_eq!(find("big").unwrap(), all[1].id);
        assert_eq!(find("a platform").unwrap(), all[0].id);
        let error = find("2:0").unwrap_err().to_string();
        assert!(error.contains("`2:0`") && error.contains("opencl:1:1 (Small Card, A Platform)"), "{error}");
        assert!(find("medium").is_err());
    }
}
