//! A partially downloaded file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use neocog_base::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use super::checksum;

/// The file `NAME.part`, locked, with the running checksum of its content.
pub(crate) struct PartialFile {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
}

impl PartialFile {
    /// Opens or creates the file at `path`. Existing content is kept unless it is longer than `size`.
    pub(crate) fn open(path: PathBuf, size: u64) -> Result<Self> {
        let write_error = |e| Error::io(format!("cannot write {}", path.display()), e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(write_error)?;
        // Without lock support, two concurrent calls can corrupt a download, which the checksum detects.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists() {
            return Err(Error::new(
                ErrorKind::Io,
                format!("{} is in use by another download; wait until it has finished", path.display()),
            ));
        }
        let len = file.metadata().map_err(write_error)?.len();
        let mut part = PartialFile { path, file, len, hash: Sha256::new() };
        if len > size {
            part.clear()?;
        } else {
            part.len =
                io::copy(&mut (&part.file).take(len), &mut part.hash).map_err(|e| part.error("read", e))?;
        }
        Ok(part)
    }

    /// Returns the number of bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the SHA-256 of the content as hexadecimal digits.
    pub(crate) fn sha256(&self) -> String {
        checksum::to_hex(self.hash.clone())
    }

    /// Truncates the file to length 0.
    pub(crate) fn clear(&mut self) -> Result<()> {
        if self.len > 0 {
            self.file.set_len(0).map_err(|e| self.error("truncate", e))?;
            self.file.seek(SeekFrom::Start(0)).map_err(|e| self.error("truncate", e))?;
        }
        self.len = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.error("write", e))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Flushes the file to disk and renames it to `path`.
    pub(crate) fn rename_to(self, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| self.error("write", e))?;
        fs::rename(&self.path, path).map_err(|e| {
            Error::io(format!("cannot rename {} to {}", self.path.display(), path.display()), e)
        })?;
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            let sync = File::open(folder).and_then(|folder| folder.sync_all());
            sync.map_err(|e| Error::io(format!("cannot write the directory {}", folder.display()), e))?;
        }
        Ok(())
    }

    /// Keeps the file for a later resume and returns its path, or removes it if it is empty.
    pub(crate) fn keep_or_remove(self) -> Result<Option<PathBuf>> {
        if self.len == 0 {
            fs::remove_file(&self.path).map_err(|e| self.error("remove", e))?;
            return Ok(None);
        }
        self.file.sync_all().map_err(|e| self.error("write", e))?;
        Ok(Some(self.path))
    }

    fn error(&self, action: &str, e: io::Error) -> Error {
        Error::io(format!("cannot {action} {} after {} bytes", self.path.display(), self.len), e)
    }
}
