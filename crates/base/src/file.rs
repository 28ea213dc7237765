//! Files that are whole or not there.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Puts a new file in the place of `path`, if `fill` succeeds and all of it is on the disk.
///
/// It grows under another name in the same folder, is brought to the disk, and only then takes its name: a file of
/// that name is always whole, the old one or the new one.
///
/// # Errors
/// Those of `fill` and of the file system; then what was there is as it was.
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
        // The first error is the one to tell; what is left of the file is of no use to anyone.
        let _ = fs::remove_file(&part);
        return written;
    }
    sync_folder(folder)
}

/// The new name is on the disk only when the folder is. Not every system can do that with a folder.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_disk_that_fills_up_leaves_the_old_file_alone() {
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
