//! Image files as bytes.

use std::io::ErrorKind;
use std::path::Path;

use neocog_base::file::read_regular;
use neocog_base::{Error, Result};

use super::info::MAX_BYTES;

/// Reads an image file whole.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_regular(path, MAX_BYTES).map_err(|e| match e.kind() {
        ErrorKind::InvalidInput => Error::format(e.to_string()).context(path.display().to_string()),
        ErrorKind::OutOfMemory => {
            Error::out_of_memory(format!("cannot allocate the image file {}", path.display())).with_source(e)
        }
        _ => Error::io(format!("cannot read the image {}", path.display()), e),
    })
}
