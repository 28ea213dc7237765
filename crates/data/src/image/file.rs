//! Image files as bytes.

use std::path::Path;

use neocog_base::file::read_regular;
use neocog_base::{Error, Result};

use super::info::MAX_BYTES;

/// Reads an image file whole.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    read_regular(path, MAX_BYTES)
        .map_err(|e| Error::io(format!("cannot read the image {}", path.display()), e))
}
