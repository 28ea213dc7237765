//! A copy of `tests/plugin` outside the workspace, so that it is a crate like those of others.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};

/// Copies the plugin to a temporary directory, with dependencies that lead back to the workspace in `root`. The directory has the
/// same name each time, so that what cargo built for it is used again.
pub fn copy_outside(root: &Path) -> Result<PathBuf> {
    let from = root.join("tests/plugin");
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let to = std::env::temp_dir().join(format!("neocog-plugin-example-{:016x}", hasher.finish()));
    let cannot = |e| Error::io(format!("cannot copy {} to {}", from.display(), to.display()), e);
    if to.exists() {
        fs::remove_dir_all(&to).map_err(cannot)?;
    }
    copy_folder(&from, &to).map_err(cannot)?;
    let manifest = to.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(cannot)?;
    let root_path = root.display().to_string().replace('\\', "/");
    fs::write(&manifest, text.replace("path = \"../../", &format!("path = \"{root_path}/")))
        .map_err(cannot)?;
    // The versions of the workspace, so that nothing else is downloaded.
    fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock")).map_err(cannot)?;
    Ok(to)
}

/// Copies a directory, without what git ignores.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == "Cargo.lock" || name == "runs" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.join(name))?;
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
