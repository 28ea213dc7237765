//! What the tuner found best for a device, kept beside the compiled programs.

use super::cache::{Cache, Key};
use crate::opencl::DeviceInfo;
use crate::opencl::product::TileConfig;
use neocog_base::{Error, Result};

/// A device is known by its names and versions: another driver is tuned anew.
fn key(info: &DeviceInfo) -> Key {
    let kind = info.kind.to_string();
    Key::of(&["blocks 1", &kind, &info.platform, &info.name, &info.version, &info.driver])
}

/// The sizes that were kept for this device, if they can be its.
pub(super) fn read(cache: &Cache, info: &DeviceInfo) -> Option<TileConfig> {
    let kept = cache.read(&key(info))?;
    serde_json::from_slice::<TileConfig>(&kept).ok().filter(|blocks| blocks.is_sound(info))
}

/// SavedTensors sizes for the next programs.
///
/// # Errors
/// When there is nowhere to keep them.
pub(super) fn write(cache: &Cache, info: &DeviceInfo, blocks: TileConfig) -> Result<()> {
    let kept = cache.write(&key(info), || serde_json::to_vec(&blocks).ok());
    kept.ok_or_else(|| {
        Error::device(
            "the tuned sizes cannot be kept: there is no folder for them that can be written to; NEOCOG_CACHE_DIR names one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opencl::{DeviceId, Kind};

    fn info(kind: Kind, driver: &str) -> DeviceInfo {
        DeviceInfo {
            id: DeviceId { platform: 0, device: 0 },
            name: "a device".into(),
            vendor: "a maker".into(),
            platform: "a platform".into(),
            version: "OpenCL 1.2".into(),
            driver: driver.into(),
            kind,
            compute_units: 2,
            max_group: 256,
            local_memory: 1 << 15,
            has_local_memory: false,
            global_memory: 1 << 32,
            max_allocation: 1 << 30,
            vector_width: 8,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn what_was_tuned_is_found_by_the_next_program_of_the_same_driver() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path());
        let ours = info(Kind::Cpu, "1");
        assert_eq!(read(&cache, &ours), None);
        let untuned = TileConfig::untuned(&ours);
        let tuned = untuned.variants(1, &ours).into_iter().find(|b| *b != untuned).unwrap();
        write(&cache, &ours, tuned).unwrap();
        assert_eq!(read(&Cache::in_folder(folder.path()), &ours), Some(tuned));
        // Another driver, and another kind of device, are tuned for themselves.
        assert_eq!(read(&cache, &info(Kind::Cpu, "2")), None);
        assert_eq!(read(&cache, &info(Kind::Gpu, "1")), None);
        // What another program wrote there, and cannot be this device's, is not taken.
        let gpu = TileConfig::untuned(&info(Kind::Gpu, "1"));
        write(&cache, &ours, gpu).unwrap();
        assert_eq!(read(&cache, &ours), None);
        cache.write(&key(&ours), || Some(b"{}".to_vec())).unwrap();
        assert_eq!(read(&cache, &ours), None);
    }

    #[test]
    fn without_a_folder_the_user_is_told() {
        let ours = info(Kind::Cpu, "1");
        let error = write(&Cache::nowhere(), &ours, TileConfig::untuned(&ours)).unwrap_err().to_string();
        assert!(error.contains("NEOCOG_CACHE_DIR"), "{error}");
    }
}
