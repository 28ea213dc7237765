//! Which OpenCL devices there are, and which one a name means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::runtime;
use neocog_base::{Context as _, Error, Result};

/// The environment variable that says which device `opencl` means: `PLATFORM:DEVICE` or a part of a name.
pub const DEVICE_VARIABLE: &str = "NEOCOG_OPENCL_DEVICE";

/// An OpenCL device: the positions of its platform and of itself there, in the driver's order.
///
/// Written `opencl:PLATFORM:DEVICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId {
    /// The platform's position among all platforms.
    pub platform: u16,
    /// The device's position among those of its platform.
    pub device: u16,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opencl:{}:{}", self.platform, self.device)
    }
}

/// What kind of processor a device is; kernels choose their way of working by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A processor: few threads with wide vectors and caches. Work-items of a group run one after the other.
    Cpu,
    /// A graphics card: thousands of threads; neighbouring work-items should read neighbouring memory.
    Gpu,
    /// Anything else; treated as a graphics card.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cpu => "CPU",
            Kind::Gpu => "GPU",
            Kind::Other => "other",
        })
    }
}

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Which device it is.
    pub id: DeviceId,
    /// The device's name.
    pub name: String,
    /// Its maker.
    pub vendor: String,
    /// The name of its platform: the driver's.
    pub platform: String,
    /// The OpenCL version that it speaks.
    pub version: String,
    /// The driver's version.
    pub driver: String,
    /// Its kind.
    pub kind: Kind,
    /// How many compute units it has: the cores of a processor.
    pub compute_units: usize,
    /// The most work-items of a work-group.
    pub max_group: usize,
    /// The bytes of local memory of a work-group.
    pub local_memory: usize,
    /// Whether local memory is fast memory of its own; on processors it is a part of global memory.
    pub has_local_memory: bool,
    /// The bytes of its memory.
    pub global_memory: u64,
    /// The most bytes of one buffer.
    pub max_allocation: u64,
    /// How many floats its vectors hold; 1 where every work-item computes with single numbers.
    pub vector_width: usize,
    /// The names of its extensions.
    pub extensions: Vec<String>,
}

/// All OpenCL devices of this machine.
///
/// # Errors
/// When there is none, or the program was built without OpenCL; the message says what to install.
pub fn devices() -> Result<Vec<&'static DeviceInfo>> {
    Ok(runtime::list()?.iter().collect())
}

impl DeviceId {
    /// The device that `text` means: `PLATFORM:DEVICE`, or a part of the device's or the platform's name in any case.
    /// Without a text it is the one that [`DEVICE_VARIABLE`] names, else the first graphics card, else the first device.
    ///
    /// # Errors
    /// When there is no such device; the message lists those that there are.
    pub fn find(text: Option<&str>) -> Result<Self> {
        let all = runtime::list()?;
        if let Some(text) = text {
            return named(text, all);
        }
        let wish = std::env::var(DEVICE_VARIABLE).unwrap_or_default();
        if !wish.is_empty() {
            return named(&wish, all).context(|| DEVICE_VARIABLE);
        }
        let rank = |info: &&DeviceInfo| match info.kind {
            Kind::Gpu => 0,
            Kind::Other => 1,
            Kind::Cpu => 2,
        };
        let best = all.iter().min_by_key(rank);
        best.map(|info| info.id).ok_or_else(|| Error::device("there is no OpenCL device"))
    }
}

fn named(text: &str, all: &[DeviceInfo]) -> Result<DeviceId> {
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
            crate::ErrorKind::NotFound,
            format!("there is no OpenCL device `{text}`; there are: {}", names.join("; ")),
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
            vendor: String::new(),
            platform: "A Platform".into(),
            version: String::new(),
            driver: String::new(),
            kind: Kind::Gpu,
            compute_units: 1,
            max_group: 1,
            local_memory: 0,
            has_local_memory: false,
            global_memory: 0,
            max_allocation: 0,
            vector_width: 1,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn devices_are_found_by_position_and_by_name() {
        let all = [info(0, 0, "pthread-cpu"), info(1, 0, "Big Card"), info(1, 1, "Small Card")];
        let find = |text: &str| named(text, &all);
        assert_eq!(find("1:1").unwrap(), all[2].id);
        assert_eq!(find("big").unwrap(), all[1].id);
        assert_eq!(find("a platform").unwrap(), all[0].id);
        let error = find("2:0").unwrap_err().to_string();
        assert!(error.contains("`2:0`") && error.contains("opencl:1:1 (Small Card, A Platform)"), "{error}");
        assert!(find("medium").is_err());
    }
}
