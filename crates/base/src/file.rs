//! Atomic file replacement.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Replaces the file at `path` atomically by the one that `fill` writes.
///
/// The new file is written under a temporary name in the same directory, synchronized to disk, and then renamed. A file at `path` is
/// thus always complete: the old one or the new one.
///
/// # Errors
/// Those of `fill` and of the file system; the old file is then unchanged.
pub fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let part = folder.join(format!(".{}.part", name.display()));
    let written = (|| {
        let mut file = File::create(&part)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        // Report the first error; the partial file is not needed.
        let _ = fs::remove_file(&part);
        return written;
    }
    sync_folder(folder)
}

/// Synchronizes a directory, which makes the new name durable. Not supported on all systems.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_disk_preserves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.ckpt");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let full = |file: &mut File| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        assert_eq!(replace(&path, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the unfinished file is gone");
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
