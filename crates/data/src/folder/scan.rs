//! The images of a folder, by the rules of torchvision's `ImageFolder`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};

use crate::image::EXTENSIONS;

/// The classes of a folder: the names of the folders in it, in byte order.
///
/// # Errors
/// `Io` if the folder cannot be read; `Format` if a name is not UTF-8.
pub(super) fn classes(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            let name = name.to_str().ok_or_else(|| {
                Error::format(format!(
                    "{}: the name of this class folder is not UTF-8; rename it",
                    path.display()
                ))
            })?;
            names.push(name.to_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The image files of a folder and of all folders in it: folders in byte order of their paths, and in each the files in byte
/// order of their names. Links are followed.
///
/// # Errors
/// `Io` if a folder cannot be read.
pub(super) fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    collect(folder, &mut BTreeSet::new(), &mut folders)?;
    folders.sort_by(|(a, _), (b, _)| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(folders
        .into_iter()
        .flat_map(|(_, mut files)| {
            files.sort_by(|a, b| bytes(a).cmp(bytes(b)));
            files
        })
        .collect())
}

/// Whether the name ends with the extension of an image, in any case.
pub(super) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

fn bytes(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
}

/// Adds `folder` and the folders in it with their image files. `above` are the folders that lead here, which a link may lead
/// back to.
fn collect(
    folder: &Path,
    above: &mut BTreeSet<PathBuf>,
    found: &mut Vec<(PathBuf, Vec<PathBuf>)>,
) -> Result<()> {
    let real = fs::canonicalize(folder).map_err(|e| cannot_read(folder, e))?;
    if !above.insert(real.clone()) {
        return Ok(());
    }
    let mut files = Vec::new();
    for path in entries(folder)? {
        // A broken link is neither: it is kept, to be reported, if its name is that of an image.
        if path.is_dir() {
            collect(&path, above, found)?;
        } else if is_image(&path) {
            files.push(path);
        }
    }
    found.push((folder.to_path_buf(), files));
    above.remove(&real);
    Ok(())
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    read().map_err(|e| cannot_read(folder, e))
}

fn cannot_read(folder: &Path, e: std::io::Error) -> Error {
    Error::io(format!("cannot read the folder {}", folder.display()), e)
}
