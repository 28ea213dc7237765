//! Files that are read: regular ones where anything else could wait or never end, and none that an output of the command replaces.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Error, Result as NeocogResult};

/// The existing files that [`declare_output`] named.
static OUTPUTS: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

/// Checks that none of the files that a command is going to read was named to [`declare_output`].
///
/// # Errors
/// `InvalidArgument` with the first that was.
pub fn check_inputs<'a>(paths: impl IntoIterator<Item = &'a Path>) -> NeocogResult<()> {
    if outputs().is_empty() {
        return Ok(());
    }
    paths.into_iter().try_for_each(|path| match fs::metadata(path) {
        Ok(metadata) => check_no_output(path, &metadata)
            .map_err(|e| Error::invalid_argument(e.to_string()).context(path.display().to_string())),
        // Who reads it says so.
        Err(_) => Ok(()),
    })
}

/// Opens a file that is read: a regular one, which no output of the command replaces.
///
/// # Errors
/// `InvalidInput` if it is another kind of file, such as a FIFO, whose opening could wait forever, or if it was named to
/// [`declare_output`]; those of the file system.
pub fn open_input(path: &Path) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    check_no_output(path, &metadata)?;
    File::open(path)
}

/// Notes that a command will replace the file at `path`, if there is one: [`open_input`] and the other functions of this module that
/// read refuse it from then on, so nothing that a command reads is lost.
pub fn declare_output(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.is_file()
    {
        outputs().push(file_id_of(path, &metadata));
    }
}

/// Forgets what was named to [`declare_output`], when another command starts.
pub fn forget_outputs() {
    outputs().clear();
}

/// Notes that a file is gone: another one may get its number.
pub(super) fn forget_output(path: &Path, metadata: &Metadata) {
    let old = file_id_of(path, metadata);
    outputs().retain(|id| *id != old);
}

fn outputs() -> MutexGuard<'static, Vec<FileId>> {
    OUTPUTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_no_output(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let outputs = outputs();
    if !outputs.is_empty() && outputs.contains(&file_id_of(path, metadata)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an output of this command would replace it; choose another output file",
        ));
    }
    Ok(())
}

#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(not(unix))]
type FileId = std::path::PathBuf;

#[cfg(unix)]
fn file_id_of(_path: &Path, metadata: &Metadata) -> FileId {
    file_id(metadata)
}

#[cfg(not(unix))]
fn file_id_of(path: &Path, _metadata: &Metadata) -> FileId {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Reads a regular file of at most `max_bytes` bytes.
///
/// # Errors
/// `InvalidInput` if it is another kind of file, such as a FIFO, whose opening could wait forever, or longer; `OutOfMemory`; those
/// of the file system.
pub fn read_regular(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > max_bytes {
        let what = format!("expected a regular file of at most {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    check_no_output(path, &metadata)?;
    // One more: the end is seen without a larger buffer.
    read_up_to(File::open(path)?, max_bytes, metadata.len() as usize + 1)
}

/// Reads a file of at most `max_bytes` bytes, which may be a FIFO or a device.
///
/// # Errors
/// `InvalidInput` if there is more to read; those of the file system.
pub fn read_at_most(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_no_output(path, &fs::metadata(path)?)?;
    read_up_to(File::open(path)?, max_bytes, 0)
}

fn read_up_to(file: File, max_bytes: u64, capacity: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(capacity)?;
    if file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)? as u64 > max_bytes {
        let what = format!("it has more than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(bytes)
}

/// Converts the content of a text file.
///
/// # Errors
/// `InvalidData` if it is not UTF-8.
pub fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Returns what identifies a file: its device and its number there.
#[cfg(unix)]
pub(super) fn file_id(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Whether this process may make files in a directory, as far as its permissions tell.
#[cfg(unix)]
pub(super) fn may_write(folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else { return true };
    // SAFETY: the path is a string that ends with 0.
    unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) == 0 }
}

#[cfg(not(unix))]
pub(super) fn may_write(_folder: &Path) -> bool {
    true
}
