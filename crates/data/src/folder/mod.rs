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

mod files;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neocog_base::{Error, Result};

use crate::split::Split;

pub use files::FolderDataset;

/// Names of the folder with the validation part.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Opens the image folder at `path` with its parts; see the [module](self).
///
/// With `skip_broken`, files that cannot be read are left out, with a [warning](Split::warnings) for each.
///
/// # Errors
/// `Io` if a folder cannot be read; `Format` if it has no classes, a class has no images, a part has classes that the training
/// part has not, or, without `skip_broken`, files cannot be read: the message lists them.
pub fn open(path: &Path, skip_broken: bool) -> Result<Split> {
    open_parts(path, skip_broken).map_err(|e| e.context(path.display().to_string()))
}

fn open_parts(path: &Path, skip_broken: bool) -> Result<Split> {
    let names = scan::classes(path)?;
    let base = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let Some(parts) = Parts::find(path, &names)? else {
        let (dataset, warnings) = FolderDataset::open(path, base, None, skip_broken)?;
        return Ok(Split { warnings, ..Split::of(Arc::new(dataset) as Arc<dyn crate::Dataset>) });
    };
    let (train, mut warnings) =
        FolderDataset::open(&parts.train, format!("{base} (train)"), None, skip_broken)?;
    let class_names = crate::Dataset::class_names(&train).to_vec();
    let channels = crate::Dataset::channels(&train);
    let mut other = |folder: Option<PathBuf>, part: &str| -> Result<Option<Arc<dyn crate::Dataset>>> {
        let Some(folder) = folder else { return Ok(None) };
        let name = format!("{base} ({part})");
        let (dataset, more) = FolderDataset::open(&folder, name, Some(&class_names), skip_broken)?;
        warnings.extend(more);
        Ok(Some(Arc::new(dataset.with_channels(channels))))
    };
    let validation = other(parts.validation, "validation")?;
    let test = other(parts.test, "test")?;
    Ok(Split { validation, test, warnings, ..Split::of(Arc::new(train) as Arc<dyn crate::Dataset>) })
}

/// Returns the class names of the image folder at `path`, in the order of their labels.
///
/// # Errors
/// As [`open`], but no images are read.
pub fn class_names(path: &Path) -> Result<Vec<String>> {
    let names = scan::classes(path)?;
    let train = Parts::find(path, &names).map_err(|e| e.context(path.display().to_string()))?;
    train.map_or(Ok(names), |parts| scan::classes(&parts.train))
}

/// Returns the image files in the folder at `path` and in all folders in it, by their extensions: folders in byte order of
/// their paths, and in each the files in byte order of their names.
///
/// # Errors
/// `Io` if a folder cannot be read.
pub fn image_files(path: &Path) -> Result<Vec<PathBuf>> {
    scan::image_files(path)
}

/// The folders of the parts.
struct Parts {
    train: PathBuf,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl Parts {
    /// Finds the folders of the parts among `names`; `None` if they are classes.
    fn find(path: &Path, names: &[String]) -> Result<Option<Parts>> {
        let has = |name: &str| names.iter().any(|other| other == name);
        if !has("train") {
            return Ok(None);
        }
        let validation: Vec<&str> = VALIDATION.into_iter().filter(|name| has(name)).collect();
        let is_part = |name: &str| name == "train" || name == "test" || VALIDATION.contains(&name);
        let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_part(name)).collect();
        if !others.is_empty() || validation.len() > 1 {
            let what = if others.is_empty() { validation.join(", ") } else { others.join(", ") };
            return Err(Error::format(format!(
                "there is a folder `train`, and also {what}: expected either folders of classes alone, or `train`, `val` and \
                 `test` alone"
            )));
        }
        let test = has("test").then(|| path.join("test"));
        Ok(Some(Parts {
            train: path.join("train"),
            validation: validation.first().map(|n| path.join(n)),
            test,
        }))
    }
}
