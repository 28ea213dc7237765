//! Tuned tile sizes of a device, stored in the cache of compiled programs.

use super::cache::{Cache, Key};
use crate::opencl::info::DeviceInfo;
use crate::opencl::tile_config::TileConfig;
use neocog_base::{Error, Result};

/// The key depends on names and versions: a new driver version must be tuned again.
fn key(info: &DeviceInfo) -> Key {
    let kind = info.kind.to_string();
    Key::of(&["blocks 1", &kind, &info.platform, &info.name, &info.version, &info.driver])
}

/// Reads the sizes stored for this device, if they are valid for it.
pub(super) fn read(cache: &Cache, info: &DeviceInfo) -> Option<TileConfig> {
    let kept = cache.read(&key(info))?;
    parse(&kept).filter(|tiles| tiles.is_valid(info))
}

pub(super) fn parse(bytes: &[u8]) -> Option<TileConfig> {
    serde_json::from_slice(bytes).ok()
}

/// Stores sizes for later runs of the program.
///
/// # Errors
/// If there is no writable cache directory.
pub(super) fn write(cache: &Cache, info: &DeviceInfo, tiles: TileConfig) -> Result<()> {
    let kept = cache.write(&key(info), || serde_json::to_vec(&tiles).ok());
    kept.ok_or_else(|| {
        Error::device(
            "cannot store the tuned sizes: there is no writable cache directory; set one with NEOCOG_CACHE_DIR",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opencl::Kind;

    fn info(kind: Kind, driver: &str) -> DeviceInfo {
        DeviceInfo { driver: driver.into(), ..DeviceInfo::for_tests(kind) }
    }

    #[test]
    fn tuned_sizes_are_found_for_the_same_driver() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path());
        let ours = info(Kind::Cpu, "1");
        assert_eq!(read(&cache, &ours), None);
        let untuned = TileConfig::untuned(&ours);
        let tuned = untuned.variants(1, &ours).into_iter().find(|b| *b != untuned).unwrap();
        write(&cache, &ours, tuned).unwrap();
        assert_eq!(read(&Cache::in_folder(folder.path()), &ours), Some(tuned));
        // Not for another driver or another kind of device.
        assert_eq!(read(&cache, &info(Kind::Cpu, "2")), None);
        assert_eq!(read(&cache, &info(Kind::Gpu, "1")), None);
        // Sizes that are invalid for this device are ignored.
        let gpu = TileConfig::untuned(&info(Kind::Gpu, "1"));
        write(&cache, &ours, gpu).unwrap();
        assert_eq!(read(&cache, &ours), None);
        cache.write(&key(&ours), || Some(b"{}".to_vec())).unwrap();
        assert_eq!(read(&cache, &ours), None);
    }

    #[test]
    fn without_a_directory_there_is_an_error() {
        let ours = info(Kind::Cpu, "1");
        let error = write(&Cache::nowhere(), &ours, TileConfig::untuned(&ours)).unwrap_err().to_string();
        assert!(error.contains("NEOCOG_CACHE_DIR"), "{error}");
    }
}
