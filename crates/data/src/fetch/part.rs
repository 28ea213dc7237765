//! A file that is not whole yet.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use neocog_base::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// `NAME.part`, locked, with the checksum of what it holds.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hash: Sha256,
}

impl Part {
    /// Opens or creates the file at `path`; what it holds is kept unless it is longer than `size`.
    pub(super) fn open(path: PathBuf, size: u64) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot write {}", path.display()), e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot)?;
        // Where locks are not supported, two calls at once can only spoil a download, which the checksum finds.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !path.exists() {
            return Err(Error::new(
                ErrorKind::Io,
                format!("{} is in use: another download is at work on it, wait for its end", path.display()),
            ));
        }
        let len = file.metadata().map_err(cannot)?.len();
        let mut part = Part { path, file, len, hash: Sha256::new() };
        if len > size {
            part.restart()?;
        } else {
            part.len =
                io::copy(&mut (&part.file).take(len), &mut part.hash).map_err(|e| part.cannot("read", e))?;
        }
        Ok(part)
    }

    /// The number of bytes that it holds.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The SHA-256 of what it holds, in hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        super::hex(self.hash.clone())
    }

    /// Empties it.
    pub(super) fn restart(&mut self) -> Result<()> {
        if self.len > 0 {
            self.file.set_len(0).map_err(|e| self.cannot("empty", e))?;
            self.file.seek(SeekFrom::Start(0)).map_err(|e| self.cannot("empty", e))?;
        }
        self.len = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Appends `bytes`.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.cannot("write", e))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Brings it to the disk and gives it the name `path`.
    pub(super) fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| self.cannot("write", e))?;
        fs::rename(&self.path, path).map_err(|e| {
            Error::io(format!("cannot rename {} to {}", self.path.display(), path.display()), e)
        })?;
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            let sync = File::open(folder).and_then(|folder| folder.sync_all());
            sync.map_err(|e| Error::io(format!("cannot write the folder {}", folder.display()), e))?;
        }
        Ok(())
    }

    /// SavedTensors it for another time and says where it is, or removes it if it is empty.
    pub(super) fn leave(self) -> Result<Option<PathBuf>> {
        if self.len == 0 {
            fs::remove_file(&self.path).map_err(|e| self.cannot("remove", e))?;
            return Ok(None);
        }
        self.file.sync_all().map_err(|e| self.cannot("write", e))?;
        Ok(Some(self.path))
    }

    fn cannot(&self, what: &str, e: io::Error) -> Error {
        Error::io(format!("cannot {what} {} after {} bytes", self.path.display(), self.len), e)
    }
}
