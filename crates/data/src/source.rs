//! [`DataSource`]: a data set by its name in the catalog, or by the path of a folder of images or a packed file.

use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::catalog::{DatasetInfo, datasets};
use crate::duplicates;
use crate::folder;
use crate::split::{Split, SplitOptions};

/// Where a data set comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DataSource {
    /// A data set of the catalog.
    Registered(&'static DatasetInfo),
    /// A folder of images, or a packed file; see [`folder`].
    Folder(PathBuf),
}

/// How a data set is read and divided into parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataOptions {
    /// The parts that are split off the training images. A folder without a validation part is validated on
    /// [`SplitOptions::DEFAULT_VAL`] of its images if this says nothing about validation.
    #[serde(skip_serializing_if = "SplitOptions::is_empty")]
    pub split: SplitOptions,
    /// Whether image files that cannot be read are left out instead of being an error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_broken: bool,
    /// Only the first images of each part; `None` for all.
    #[serde(skip)]
    pub limit: Option<usize>,
}

impl DataOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        DataOptions::default()
    }

    /// Sets the parts that are split off.
    #[must_use]
    pub fn split(mut self, split: SplitOptions) -> Self {
        self.split = split;
        self
    }

    /// Sets whether files that cannot be read are left out.
    #[must_use]
    pub fn skip_broken(mut self, skip_broken: bool) -> Self {
        self.skip_broken = skip_broken;
        self
    }

    /// Sets the number of first images of each part to use.
    #[must_use]
    pub fn limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    /// Whether all are the defaults.
    pub fn is_default(&self) -> bool {
        *self == DataOptions::default()
    }
}

impl DataSource {
    /// Finds the data set called `data`: one of the catalog, or else a folder or a packed file.
    ///
    /// # Errors
    /// `NotFound` if it is neither, with the names of the catalog.
    pub fn find(data: &str) -> Result<Self> {
        let all = datasets()?;
        if let Some(info) = all.iter().find(|info| info.name == data) {
            return Ok(DataSource::Registered(info));
        }
        let path = Path::new(data);
        if path.is_dir() || path.is_file() && folder::packed::is_packed(path) {
            return Ok(DataSource::Folder(path.to_path_buf()));
        }
        if path.exists() {
            return Err(Error::invalid_argument(format!(
                "{data} is not a packed file: expected the name of a data set, a folder of images, or a file that `data --pack` wrote"
            )));
        }
        if path.components().count() > 1 {
            return Err(Error::new(
                neocog_base::ErrorKind::NotFound,
                format!("there is no folder {data}: expected the name of a data set, or a folder of images"),
            ));
        }
        Err(Error::not_found("data set or image folder", data, all.iter().map(|info| info.name)))
    }

    /// Returns a name for files and reports: that of the data set or of the folder.
    pub fn short_name(&self) -> String {
        match self {
            DataSource::Registered(info) => info.name.to_string(),
            DataSource::Folder(path) => short_name(path),
        }
    }

    /// Returns the class names, without reading images.
    ///
    /// # Errors
    /// As [`folder::open`].
    pub fn class_names(&self) -> Result<Vec<String>> {
        match self {
            DataSource::Registered(info) => Ok(info.class_names()),
            DataSource::Folder(path) => folder::class_names(path),
        }
    }

    /// Whether its images show bright objects on a dark background; see [`DatasetInfo::is_bright_on_dark`].
    pub fn is_bright_on_dark(&self) -> bool {
        matches!(self, DataSource::Registered(info) if info.is_bright_on_dark)
    }

    /// Reads the data set as [`open`](Self::open) does, but does not divide it, and ignores the limit.
    ///
    /// # Errors
    /// As [`DatasetInfo::load`] and [`folder::open`].
    pub fn read(&self, root: &Path, options: &DataOptions) -> Result<Split> {
        match self {
            DataSource::Registered(info) => info.load(root),
            DataSource::Folder(path) => folder::open(path, options.skip_broken),
        }
    }

    /// Reads the data set, from below `root` if it is one of the catalog, and divides it: the same seed gives the same
    /// parts.
    ///
    /// # Errors
    /// As [`DatasetInfo::load`], [`folder::open`] and [`Split::divide`].
    pub fn open(&self, root: &Path, options: &DataOptions, seed: u64) -> Result<Split> {
        let mut division = options.split;
        let mut split = self.read(root, options)?;
        let divides = division.val.is_some() || division.fold.is_some() || split.validation.is_some();
        if matches!(self, DataSource::Folder(_)) && !divides {
            division.val = Some(SplitOptions::DEFAULT_VAL);
        }
        split.divide(&division, seed)?;
        let duplicates = duplicates::warnings(&split);
        split.warnings.extend(duplicates);
        if let Some(limit) = options.limit {
            split.limit(limit)?;
        }
        Ok(split)
    }
}

/// The last part of a path that has a name; of a packed file without its extension.
fn short_name(path: &Path) -> String {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = if real.is_file() { real.file_stem() } else { real.file_name() };
    name.map_or_else(|| "data".to_string(), |name| name.to_string_lossy().into_owned())
}
