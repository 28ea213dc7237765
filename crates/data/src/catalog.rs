//! The catalog of data sets: all that are linked in, by name.

use std::fmt;
use std::path::{Path, PathBuf};

use neocog_base::registry::{self, Registered};
use neocog_base::{Error, ErrorKind, Result};

use crate::split::Split;

/// Default root directory of the data sets.
pub const DEFAULT_ROOT: &str = "data";

/// Name of the default data set, which is embedded.
pub const DEFAULT_DATASET: &str = "digits";

/// Loads a data set from the root directory of the data sets.
pub type LoadDataset = fn(info: &DatasetInfo, root: &Path) -> Result<Split>;

/// A data set: its description and how it is loaded. Registered with
/// [`register_dataset!`](crate::register_dataset).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct DatasetInfo {
    /// Name, as used on the command line.
    pub name: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// One-line description with authors and license.
    pub about: &'static str,
    /// Class names, indexed by label.
    pub class_names: &'static [&'static str],
    /// Reads the parts.
    pub load: LoadDataset,
    /// The files to download; `None` for a data set that is compiled in.
    pub manifest: Option<Manifest<'static>>,
    /// Whether the images show bright objects on a dark background, so that photographs of dark objects on a bright one
    /// are to be inverted for a network that was trained on them.
    pub is_bright_on_dark: bool,
    /// Whether `fetch-data all` fetches it.
    pub is_fetched_by_default: bool,
}

inventory::collect!(DatasetInfo);

impl DatasetInfo {
    /// Creates a data set that `load` reads, with nothing to download.
    pub const fn new(name: &'static str, class_names: &'static [&'static str], load: LoadDataset) -> Self {
        DatasetInfo {
            name,
            crate_name: "",
            about: "",
            class_names,
            load,
            manifest: None,
            is_bright_on_dark: false,
            is_fetched_by_default: false,
        }
    }

    /// Sets the name of the crate that registers it; [`register_dataset!`](crate::register_dataset) calls it.
    #[must_use]
    pub const fn with_crate_name(mut self, crate_name: &'static str) -> Self {
        self.crate_name = crate_name;
        self
    }

    /// Sets the one-line description.
    #[must_use]
    pub const fn with_about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Sets the files to download.
    #[must_use]
    pub const fn with_manifest(mut self, manifest: Manifest<'static>) -> Self {
        self.manifest = Some(manifest);
        self
    }

    /// States that the images show bright objects on a dark background.
    #[must_use]
    pub const fn bright_on_dark(mut self) -> Self {
        self.is_bright_on_dark = true;
        self
    }

    /// Makes `fetch-data all` fetch it.
    #[must_use]
    pub const fn fetched_by_default(mut self) -> Self {
        self.is_fetched_by_default = true;
        self
    }

    /// Returns the data set `name`.
    ///
    /// # Errors
    /// `NotFound`, with the available names.
    pub fn find(name: &str) -> Result<&'static DatasetInfo> {
        let all = datasets()?;
        let found = all.iter().find(|info| info.name == name).copied();
        found.ok_or_else(|| Error::not_found("data set", name, all.iter().map(|info| info.name)))
    }

    /// Returns the data sets that must be downloaded before they can be loaded, sorted by name.
    ///
    /// # Errors
    /// As [`datasets`].
    pub fn fetchable() -> Result<Vec<&'static DatasetInfo>> {
        Ok(datasets()?.into_iter().filter(|info| info.manifest.is_some()).collect())
    }

    /// Loads this data set; see [`load`].
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, root: &Path) -> Result<Split> {
        (self.load)(self, root)
    }

    /// Returns the folder of this data set below `root`, whether or not it exists.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(self.manifest.map_or(self.name, |manifest| manifest.name))
    }

    /// Returns the command line that downloads this data set into `root`.
    pub fn fetch_command(&self, root: &Path) -> String {
        let mut command = neocog_base::program::command(format_args!("fetch-data {}", self.name));
        if root != Path::new(DEFAULT_ROOT) {
            command += &format!(" --dir {}", neocog_base::program::quoted_path(root));
        }
        command
    }

    /// Returns the error for a file below `root` that is not there.
    pub(crate) fn not_downloaded(&self, path: &Path, root: &Path) -> Error {
        Error::new(
            ErrorKind::Io,
            format!(
                "the data set {} is not downloaded: {} is missing; download it: {}",
                self.name,
                path.display(),
                self.fetch_command(root)
            ),
        )
    }

    /// Adds the archive at `path` and the advice to download it again to an error.
    pub(crate) fn damaged_archive(&self, e: Error, path: &Path, root: &Path) -> Error {
        e.context(format!("{} (download it again: {})", path.display(), self.fetch_command(root)))
    }

    /// Returns the class names, owned.
    pub fn class_names(&self) -> Vec<String> {
        self.class_names.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Debug for DatasetInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasetInfo")
            .field("name", &self.name)
            .field("crate_name", &self.crate_name)
            .finish_non_exhaustive()
    }
}

/// Registers a data set: `register_dataset!(DatasetInfo::new("two-dots", &["left", "right"], load));`.
#[macro_export]
macro_rules! register_dataset {
    ($info:expr) => {
        $crate::inventory::submit! { $crate::DatasetInfo::with_crate_name($info, env!("CARGO_PKG_NAME")) }
    };
}

impl Registered for &'static DatasetInfo {
    const NOUN: &'static str = "data set";
    fn name(&self) -> &'static str {
        self.name
    }
    fn crate_name(&self) -> &'static str {
        self.crate_name
    }
}

/// Returns all registered data sets, sorted by name.
///
/// # Errors
/// When two data sets have the same name; the message names both crates.
pub fn datasets() -> Result<Vec<&'static DatasetInfo>> {
    Ok(registry::by_name(inventory::iter::<DatasetInfo>)?.into_values().collect())
}

/// Loads the data set `name` of the catalog, from the folder `root/name` unless it is compiled in.
///
/// The files in the folder may be gzip-compressed, as downloaded, or uncompressed without the extension `.gz`. The
/// usual `root` is [`DEFAULT_ROOT`].
///
/// # Errors
/// `NotFound` for a name that is not in the catalog; `Io`, with the command that downloads the data set, if a file is
/// missing; `Format` if a file is damaged. Files with other content than the data set's are no error, but a
/// [warning](Split::warnings).
pub fn load(name: &str, root: &Path) -> Result<Split> {
    DatasetInfo::find(name)?.load(root)
}

/// The files of a data set and the servers that provide them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Manifest<'a> {
    /// Name of the data set and of its directory.
    pub name: &'a str,
    /// Base URLs with a trailing slash, in the order in which they are tried.
    pub sources: &'a [&'a str],
    /// The files, each at base URL + file name.
    pub files: &'a [RemoteFile<'a>],
}

/// A file to download, with its expected size and checksum.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RemoteFile<'a> {
    /// File name without directory.
    pub name: &'a str,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: &'a str,
}

impl<'a> Manifest<'a> {
    /// Creates a manifest of the data set `name`: `files` are downloaded from the base URLs `sources`.
    pub const fn new(name: &'a str, sources: &'a [&'a str], files: &'a [RemoteFile<'a>]) -> Self {
        Manifest { name, sources, files }
    }
}

impl<'a> RemoteFile<'a> {
    /// Creates the description of a file of `size` bytes whose SHA-256 is `sha256` (64 hexadecimal digits).
    pub const fn new(name: &'a str, size: u64, sha256: &'a str) -> Self {
        RemoteFile { name, size, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neocog_base::ErrorKind;

    #[test]
    fn the_catalog_is_sorted_and_complete() {
        let all = datasets().unwrap();
        assert!(all.is_sorted_by_key(|info| info.name));
        for info in &all {
            assert_eq!(DatasetInfo::find(info.name).unwrap().name, info.name);
            assert!(info.class_names.len() >= 10 && info.about.len() > 20, "{info:?}");
            if let Some(manifest) = &info.manifest {
                assert!(!manifest.sources.is_empty() && manifest.sources.iter().all(|s| s.ends_with('/')));
                assert!(manifest.files.iter().all(|f| f.sha256.len() == 64));
            }
        }
        assert!(DatasetInfo::find(DEFAULT_DATASET).unwrap().manifest.is_none());
        let by_default = all.iter().filter(|info| info.is_fetched_by_default).map(|info| info.name);
        assert!(by_default.eq(["fashion-mnist", "mnist"]));
    }

    #[test]
    fn an_unknown_name_suggests_similar_names() {
        let e = DatasetInfo::find("fashion_mnist").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(e.to_string().contains("there is no data set named `fashion_mnist`"), "{e}");
        assert!(e.to_string().contains("did you mean `fashion-mnist`"), "{e}");
    }

    #[test]
    fn the_default_root_needs_no_option() {
        let mnist = DatasetInfo::find("mnist").unwrap();
        assert_eq!(mnist.fetch_command(Path::new("data")), "neocog fetch-data mnist");
    }
}
