//! Locks between processes.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::SystemTime;

/// A lock that one process at a time holds. The operating system releases it when the process ends, however it ends.
///
/// It is a lock of a file that stays; the file holds the [`Holder`].
#[derive(Debug)]
pub struct FileLock {
    file: File,
    is_exclusive: bool,
}

/// The process that holds a lock, its host and the time since when it holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl FileLock {
    /// Locks the file at `path`, which is created if it does not exist; returns the holder if another process, or another
    /// value of this process, has locked it.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn acquire(path: &Path) -> io::Result<Result<Self, Holder>> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let is_exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(Err(Holder::read(&mut file))),
            // The file system has no locks.
            Err(TryLockError::Error(_)) => false,
        };
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", Holder::this_process())?;
        Ok(Ok(FileLock { file, is_exclusive }))
    }

    /// Whether the file system supports locks. Without, the lock keeps no other process out.
    pub fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file unlocks it as well. Removing it would let two others lock two files of one name.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

impl Holder {
    fn this_process() -> Self {
        let host = gethostname::gethostname();
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        Holder(format!("process {} on {} since {now}", std::process::id(), host.to_string_lossy()))
    }

    fn read(file: &mut File) -> Self {
        let mut bytes = Vec::new();
        // Elsewhere than on Unix, a locked file cannot be read.
        let _ = file.take(300).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let line: String = text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).collect();
        Holder(if line.is_empty() { "another process".into() } else { line })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let lock = FileLock::acquire(&path).unwrap().unwrap();
        assert!(lock.is_exclusive());
        let holder = FileLock::acquire(&path).unwrap().unwrap_err().to_string();
        if cfg!(unix) {
            let process = format!("process {} on ", std::process::id());
            assert!(holder.starts_with(&process) && holder.contains(" since 2"), "{holder}");
        }
        drop(lock);
        assert!(FileLock::acquire(&path).unwrap().is_ok());
    }
}
