//! Cache of compiled programs on disk.
//!
//! Each program has a file named by a hash of its text, options, device and driver. The file begins with that hash and a
//! hash of its contents; a damaged file counts as missing. Files are written under a temporary name and renamed, so readers
//! never see partial files. On any failure the program is compiled again.

use std::io::Write;
use std::path::PathBuf;
use std::{env, fs};

use neocog_base::file::read_regular;
use sha2::{Digest, Sha256};

/// Environment variable that names the cache directory; empty for no cache.
const FOLDER_VARIABLE: &str = "NEOCOG_CACHE_DIR";

const MAGIC: &[u8] = b"neocog OpenCL program 1\n";

/// Larger files are not entries.
const MAX_BYTES: u64 = 1 << 30;

pub(super) struct Key([u8; 32]);

impl Key {
    /// Hashes all `parts`.
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.finalize().into())
    }
}

/// The directory of the programs, if there is one.
pub(super) struct Cache(Option<PathBuf>);

impl Cache {
    /// Returns the cache in the user's cache directory.
    pub(super) fn of_user() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = match env::var_os(FOLDER_VARIABLE) {
            Some(folder) => (!folder.is_empty()).then(|| PathBuf::from(folder)),
            None => set("XDG_CACHE_HOME")
                .or_else(|| set("LOCALAPPDATA"))
                .or_else(|| Some(set("HOME")?.join(".cache")))
                .map(|folder| folder.join("neocog")),
        };
        Cache(base.map(|folder| folder.join("opencl")))
    }

    /// Returns a cache in `folder`.
    #[cfg(test)]
    pub(super) fn in_folder(folder: &std::path::Path) -> Self {
        Cache(Some(folder.to_path_buf()))
    }

    /// Returns a cache without a directory, which stores nothing.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Cache(None)
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        let name: String = key.0[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.0.as_ref()?.join(name + ".bin"))
    }

    /// Reads an entry; `None` if it is missing or damaged.
    pub(super) fn read(&self, key: &Key) -> Option<Vec<u8>> {
        let bytes = read_regular(&self.path(key)?, MAX_BYTES).ok()?;
        parse(&bytes, key).map(<[u8]>::to_vec)
    }

    /// Writes the entry returned by `make`; `None` on any failure, or without a directory.
    pub(super) fn write(&self, key: &Key, make: impl FnOnce() -> Option<Vec<u8>>) -> Option<()> {
        let path = self.path(key)?;
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        let program = make()?;
        let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
        file.write_all(&entry(key, &program)).ok()?;
        file.persist(&path).ok()?;
        Some(())
    }
}

/// Returns the content of an entry; `None` if it is damaged or has another key.
pub(super) fn parse<'a>(bytes: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&key.0)?;
    let (hash, program) = rest.split_at_checked(32)?;
    (Sha256::digest(program)[..] == *hash).then_some(program)
}

/// Returns the bytes of an entry.
pub(super) fn entry(key: &Key, program: &[u8]) -> Vec<u8> {
    [MAGIC, &key.0, &Sha256::digest(program)[..], program].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_entries_count_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(&folder.path().join("new").join("folder"));
        let (key, other) = (Key::of(&["a", "b"]), Key::of(&["ab", ""]));
        assert_eq!(cache.read(&key), None);
        let program: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        cache.write(&key, || Some(program.clone())).unwrap();
        assert_eq!(cache.read(&key), Some(program.clone()));
        assert_eq!(cache.read(&other), None);

        let path = cache.path(&key).unwrap();
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..40], &[], &[whole.as_slice(), b"more"].concat()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.read(&key), None);
        }
        for at in [0, MAGIC.len(), MAGIC.len() + 32, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert_eq!(cache.read(&key), None, "byte {at}");
        }
        // A valid entry under another key's name is not read.
        fs::copy(&path, cache.path(&other).unwrap()).unwrap();
        assert_eq!(cache.read(&other), None);
        cache.write(&key, || Some(program.clone())).unwrap();
        assert_eq!(cache.read(&key), Some(program));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn without_a_directory_nothing_is_stored() {
        assert_eq!(Cache::nowhere().write(&Key::of(&["a"]), || panic!("there is no directory")), None);
    }
}
