//! Image files as bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use neocog_base::memory::try_with_capacity;
use neocog_base::{Error, Result};

use super::info::MAX_BYTES;

/// Reads an image file whole.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let cannot_read = |e| Error::io(format!("cannot read the image {}", path.display()), e);
    // A pipe without a writer would wait for one when it is opened.
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let what = format!("expected a regular file of at most {MAX_BYTES} bytes");
        return Err(Error::format(what).context(path.display().to_string()));
    }
    let file = File::open(path).map_err(cannot_read)?;
    let what = format_args!("the image file {}", path.display());
    let mut bytes = try_with_capacity(metadata.len() as usize + 1, what)?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot_read)?;
    Ok(bytes)
}
