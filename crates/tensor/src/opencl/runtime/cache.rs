//! Compiled programs on disk, so that the next start need not compile.
//!
//! A file for each program, named by a hash of all that decides about it: text, options, device, driver. It begins with
//! that hash and one of its contents; a file that is damaged counts as missing. Files are written aside and renamed, so
//! that none is ever seen half-written. What cannot be read or written is compiled again, which is only slower.

use std::io::Write;
use std::path::PathBuf;
use std::{env, fs};

use sha2::{Digest, Sha256};

/// The environment variable that names the folder of what is kept between runs; empty for none.
const FOLDER_VARIABLE: &str = "NEOCOG_CACHE_DIR";

const MAGIC: &[u8] = b"neocog OpenCL program 1\n";

pub(super) struct Key([u8; 32]);

impl Key {
    /// A key for all `parts` together.
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.finalize().into())
    }

    fn path(&self) -> Option<PathBuf> {
        let name: String = self.0[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(folder()?.join(name + ".bin"))
    }

    /// The program that was kept, if there is one and it is whole.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path()?).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&self.0)?;
        let (hash, program) = rest.split_at_checked(32)?;
        (Sha256::digest(program)[..] == *hash).then(|| program.to_vec())
    }

    /// Keeps the program.
    pub(super) fn write(&self, program: &[u8]) -> Option<()> {
        let path = self.path()?;
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
        for part in [MAGIC, &self.0, &Sha256::digest(program)[..], program] {
            file.write_all(part).ok()?;
        }
        file.persist(&path).ok()?;
        Some(())
    }
}

fn folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = match env::var_os(FOLDER_VARIABLE) {
        Some(folder) if folder.is_empty() => return None,
        Some(folder) => PathBuf::from(folder),
        None => set("XDG_CACHE_HOME")
            .or_else(|| set("LOCALAPPDATA"))
            .or_else(|| Some(set("HOME")?.join(".cache")))?
            .join("neocog"),
    };
    Some(base.join("opencl"))
}
