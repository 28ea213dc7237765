//! [`FolderDataset`]: image files in folders, one for each class, as torchvision's `ImageFolder` reads them.
//!
//! Either one folder of classes, or the folders `train`, `val` and `test` with the same classes:
//!
//! ```text
//! flowers/daisy/1.jpg          flowers/train/daisy/1.jpg
//! flowers/rose/more/2.png      flowers/val/rose/2.png
//! ```
//!
//! The headers of all files are read when the folder is opened, so that broken files are known before a long run; pixels are
//! decoded when a sample is read. GIF files are images here, besides the formats of `ImageFolder`.
//!
//! [`pack`] writes all images to one file, which is opened wherever a folder is.

mod files;
pub(crate) mod packed;
mod parts;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neocog_base::file::replace;
use neocog_base::{Error, Result};

use self::parts::FolderParts;
use crate::dataset::Dataset;
use crate::split::Split;

pub use files::FolderDataset;

/// Opens the image folder or packed file at `path` with its parts; see the [module](self).
///
/// With `skip_broken`, files that cannot be read are left out, with a [warning](Split::warnings) for each.
///
/// # Errors
/// `Io` if a folder cannot be read; `Format` if it has no classes, a class has no images, a part has classes that the training
/// part has not, or, without `skip_broken`, files cannot be read: the message lists them; if a packed file is damaged.
pub fn open(path: &Path, skip_broken: bool) -> Result<Split> {
    let FolderParts { train, validation, test, warnings } = FolderParts::open(path, skip_broken)?;
    let dataset = |part: FolderDataset| Arc::new(part) as Arc<dyn Dataset>;
    let (validation, test) = (validation.map(dataset), test.map(dataset));
    Ok(Split { validation, test, warnings, ..Split::of(dataset(train)) })
}

/// Writes the images of the folder at `path` to the packed file `to`, as they are, and returns the parts. All are decoded first, to
/// find those that cannot be. `progress` is called with
/// the number of images that are written, and that of all. While a packed file is in use, it may be replaced, but not changed.
///
/// # Errors
/// As [`open`]; `Io` if `to` cannot be written: it is then unchanged.
pub fn pack(
    path: &Path,
    to: &Path,
    skip_broken: bool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Split> {
    let mut parts = FolderParts::open(path, skip_broken)?;
    parts.check_images(skip_broken)?;
    let total = parts.each().map(|(_, dataset)| dataset.len()).sum();
    replace(to, |file| parts.write(file, |written| progress(written, total)))
        .map_err(|e| Error::io(format!("cannot write {}", to.display()), e))?;
    let mut split = open(to, false)?;
    split.warnings.extend(parts.warnings);
    Ok(split)
}

/// Returns the class names of the image folder at `path`, in the order of their labels.
///
/// # Errors
/// As [`open`], but no images are read.
pub fn class_names(path: &Path) -> Result<Vec<String>> {
    parts::class_names(path).map_err(|e| e.context(path.display().to_string()))
}

/// Returns the image files in the folder at `path` and in all folders in it, by their extensions: folders in byte order of
/// their paths, and in each the files in byte order of their names.
///
/// # Errors
/// `Io` if a folder cannot be read.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>> {
    scan::image_files(path)
}
