//! The parts of a folder: found by the names of folders in it, or in the index of a packed file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neocog_base::{Error, Result};

use super::files::{FolderDataset, ImageFile, Storage};
use super::packed::{Index, PackedFile, PartIndex, START, Writer};
use super::scan;
use crate::dataset::Dataset;
use crate::split::Part;

/// Names of the folder with the validation part.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// Whether a folder has the name of a part, whatever its case.
fn is_like_part(name: &str) -> bool {
    ["train", "training", "test"].iter().chain(&VALIDATION).any(|part| part.eq_ignore_ascii_case(name))
}

/// The parts of a folder or a packed file.
pub(super) struct FolderParts {
    pub(super) train: FolderDataset,
    pub(super) validation: Option<FolderDataset>,
    pub(super) test: Option<FolderDataset>,
    pub(super) warnings: Vec<String>,
}

impl FolderParts {
    /// Opens the folder or packed file at `path`.
    ///
    /// # Errors
    /// As [`open`](super::open).
    pub(super) fn open(path: &Path, skip_broken: bool) -> Result<Self> {
        let parts = if path.is_file() { Self::of_packed(path) } else { Self::of_folder(path, skip_broken) };
        parts.map_err(|e| e.context(path.display().to_string()))
    }

    fn of_folder(path: &Path, skip_broken: bool) -> Result<Self> {
        let names = scan::classes(path)?;
        let base = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let Some(folders) = Parts::find(path, &names)? else {
            let (train, mut warnings) = FolderDataset::open(path, base, None, skip_broken)?;
            let like_parts: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| is_like_part(name)).collect();
            if !like_parts.is_empty() {
                warnings.push(format!(
                    "{} in {} are taken for classes: parts are folders train, and val and test beside it",
                    like_parts.join(", "),
                    path.display()
                ));
            }
            return Ok(FolderParts { train, validation: None, test: None, warnings });
        };
        let (train, mut warnings) =
            FolderDataset::open(&folders.train, format!("{base} (train)"), None, skip_broken)?;
        let mut other = |folder: Option<PathBuf>, part: &str| -> Result<Option<FolderDataset>> {
            let Some(folder) = folder else { return Ok(None) };
            let name = format!("{base} ({part})");
            let (dataset, more) = FolderDataset::open(&folder, name, Some(train.class_names()), skip_broken)?;
            warnings.extend(more);
            Ok(Some(dataset.with_channels(train.channels())))
        };
        let validation = other(folders.validation, "validation")?;
        let test = other(folders.test, "test")?;
        Ok(FolderParts { train, validation, test, warnings })
    }

    /// Returns the parts that there are.
    pub(super) fn each(&self) -> impl Iterator<Item = (Part, &FolderDataset)> {
        let others = [(Part::Validation, &self.validation), (Part::Test, &self.test)];
        let others = others.into_iter().filter_map(|(part, dataset)| Some((part, dataset.as_ref()?)));
        std::iter::once((Part::Train, &self.train)).chain(others)
    }

    fn of_packed(path: &Path) -> Result<Self> {
        let packed = Arc::new(PackedFile::open(path)?);
        let Index { class_names, parts } = packed.index()?;
        let mut found = [None, None, None];
        let mut offset = START;
        for (part, index) in parts {
            let (ranges, end) = index.ranges(offset)?;
            offset = end;
            let PartIndex { name, channels, paths, labels, lengths, sizes, is_color, .. } = index;
            if !matches!(channels, 1 | 3) {
                return Err(Error::format(format!("{channels} channels, expected 1 or 3")));
            }
            let file = |i: usize| ImageFile {
                path: path.join(&paths[i]),
                length: lengths[i],
                size: sizes[i],
                is_color: is_color[i],
            };
            let dataset = FolderDataset {
                name,
                root: path.to_path_buf(),
                files: (0..paths.len()).map(file).collect(),
                labels,
                class_names: class_names.clone(),
                channels,
                storage: Storage::Packed { file: Arc::clone(&packed), ranges },
            };
            crate::dataset::check(&dataset)?;
            found[part as usize] = Some(dataset);
        }
        let [train, validation, test] = found;
        let train = train.ok_or_else(|| Error::format("the packed file has no training images"))?;
        Ok(FolderParts { train, validation, test, warnings: Vec::new() })
    }

    /// Decodes all images. With `skip_broken`, those that cannot be decoded are left out, with a warning.
    ///
    /// # Errors
    /// `Format` with a list of those, without `skip_broken`, or if a class loses all its images.
    pub(super) fn check_images(&mut self, skip_broken: bool) -> Result<()> {
        let FolderParts { train, validation, test, warnings } = self;
        for part in [Some(train), validation.as_mut(), test.as_mut()].into_iter().flatten() {
            part.check_images(skip_broken, warnings)?;
        }
        Ok(())
    }

    /// Writes all image files to a packed file; `progress` is called with the number of images that are written.
    ///
    /// # Errors
    /// Those of reading and writing; `InvalidData` if an image file has changed since it was opened, or its path is not UTF-8.
    pub(super) fn write(&self, file: &mut File, mut progress: impl FnMut(usize)) -> io::Result<()> {
        let mut writer = Writer::new(file)?;
        let mut index = Index { class_names: self.train.class_names().to_vec(), parts: Vec::new() };
        let mut written = 0;
        for (part, dataset) in self.each() {
            let mut images = PartIndex {
                name: dataset.name().to_string(),
                channels: dataset.channels(),
                labels: dataset.labels().to_vec(),
                ..PartIndex::default()
            };
            for (i, image) in dataset.files.iter().enumerate() {
                let bytes = dataset.bytes(i).map_err(io::Error::other)?;
                if bytes.len() as u64 != image.length {
                    return Err(invalid(format!("{} has changed while it was packed", image.path.display())));
                }
                images.paths.push(relative_path(&image.path, &dataset.root)?);
                images.lengths.push(image.length);
                images.crcs.push(writer.add(&bytes)?);
                images.sizes.push(image.size);
                images.is_color.push(image.is_color);
                written += 1;
                progress(written);
            }
            index.parts.push((part, images));
        }
        writer.finish(&index)
    }
}

/// Returns the class names of the folder or packed file at `path`, in the order of their labels.
///
/// # Errors
/// As [`FolderParts::open`], but no images are read.
pub(super) fn class_names(path: &Path) -> Result<Vec<String>> {
    if path.is_file() {
        return Ok(PackedFile::open(path)?.index()?.class_names);
    }
    let names = scan::classes(path)?;
    Parts::find(path, &names)?.map_or(Ok(names), |parts| scan::classes(&parts.train))
}

fn relative_path(path: &Path, root: &Path) -> io::Result<String> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let names: Option<Vec<&str>> = relative.iter().map(|name| name.to_str()).collect();
    let not_utf8 = || invalid(format!("{}: the path is not UTF-8; rename the file", path.display()));
    Ok(names.ok_or_else(not_utf8)?.join("/"))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
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
