//! Arrays as .npy files of NumPy.

use std::io::{self, BufWriter};
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use ndarray_npy::{WritableElement, WriteNpyExt};
use neocog_base::file::replace;
use neocog_base::{Error, Result};

/// Writes an array of the extents `shape` to `path`, replacing an existing file.
///
/// # Errors
/// `Io` when the file cannot be written; an existing file is not changed then. `Shape` when there are more or fewer values.
pub fn write<T: WritableElement>(path: &Path, shape: &[usize], values: Vec<T>) -> Result<()> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values)
        .map_err(|e| Error::shape(format!("{shape:?} is not the shape of the output")).with_source(e))?;
    replace(path, |file| array.write_npy(BufWriter::new(file)).map_err(io::Error::other))
        .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}
