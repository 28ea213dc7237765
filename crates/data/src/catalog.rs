//! The catalog of data sets: the table that loading, downloading and listings share.

use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};

/// Default root directory of the data sets.
pub const DEFAULT_ROOT: &str = "data";

/// Name of the default data set, which is embedded.
pub const DEFAULT_DATASET: &str = "digits";

/// All data sets, sorted by name.
pub static DATASETS: [DatasetInfo; 3] = [
    DatasetInfo {
        name: "digits",
        about: "1,797 handwritten digits, 8x8, compiled in (Alpaydin & Kaynak, CC BY 4.0)",
        class_names: &DIGIT_NAMES,
        max_value: 16,
        source: DatasetSource::Embedded {
            images: include_bytes!("../assets/digits8x8-images-idx3-ubyte.gz"),
            labels: include_bytes!("../assets/digits8x8-labels-idx1-ubyte.gz"),
            train: 1437,
        },
    },
    DatasetInfo {
        name: "fashion-mnist",
        about: "70,000 articles of clothing, 28x28 (Zalando, MIT)",
        class_names: &[
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        max_value: 255,
        source: DatasetSource::Files(Manifest {
            name: "fashion-mnist",
            sources: &[
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ],
            files: &[
                RemoteFile {
                    name: "train-images-idx3-ubyte.gz",
                    size: 26_421_880,
                    sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                },
                RemoteFile {
                    name: "train-labels-idx1-ubyte.gz",
                    size: 29_515,
                    sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                },
                RemoteFile {
                    name: "t10k-images-idx3-ubyte.gz",
                    size: 4_422_102,
                    sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                },
                RemoteFile {
                    name: "t10k-labels-idx1-ubyte.gz",
                    size: 5_148,
                    sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                },
            ],
        }),
    },
    DatasetInfo {
        name: "mnist",
        about: "70,000 handwritten digits, 28x28 (LeCun & Cortes, CC BY-SA 3.0)",
        class_names: &DIGIT_NAMES,
        max_value: 255,
        source: DatasetSource::Files(Manifest {
            name: "mnist",
            sources: &[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ],
            files: &[
                RemoteFile {
                    name: "train-images-idx3-ubyte.gz",
                    size: 9_912_422,
                    sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                },
                RemoteFile {
                    name: "train-labels-idx1-ubyte.gz",
                    size: 28_881,
                    sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                },
                RemoteFile {
                    name: "t10k-images-idx3-ubyte.gz",
                    size: 1_648_877,
                    sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                },
                RemoteFile {
                    name: "t10k-labels-idx1-ubyte.gz",
                    size: 4_542,
                    sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                },
            ],
        }),
    },
];

const DIGIT_NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Entry of the catalog: name, description, classes and source of a data set.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DatasetInfo {
    /// Name, as used on the command line.
    pub name: &'static str,
    /// One-line description with authors and license.
    pub about: &'static str,
    /// Class names, indexed by label.
    pub class_names: &'static [&'static str],
    /// Pixel value of white: 255, or 16 for the digits.
    pub max_value: u8,
    /// Where the data are stored.
    pub source: DatasetSource,
}

/// Where the data of a data set are stored.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum DatasetSource {
    /// Compiled into the program.
    Embedded {
        /// IDX file with the images of the training set, followed by those of the test set.
        images: &'static [u8],
        /// IDX file with the labels of these images.
        labels: &'static [u8],
        /// Number of training images.
        train: usize,
    },
    /// Four IDX files in a directory, in the order training images, training labels, test images, test labels.
    Files(Manifest<'static>),
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

impl DatasetInfo {
    /// Returns the data set `name`.
    ///
    /// # Errors
    /// `NotFound`, with the available names.
    pub fn find(name: &str) -> Result<&'static DatasetInfo> {
        DATASETS
            .iter()
            .find(|info| info.name == name)
            .ok_or_else(|| Error::not_found("data set", name, DATASETS.iter().map(|info| info.name)))
    }

    /// Returns the data sets that must be downloaded before they can be loaded.
    pub fn fetchable() -> impl Iterator<Item = &'static DatasetInfo> {
        DATASETS.iter().filter(|info| info.manifest().is_some())
    }

    /// Returns the files to download, or `None` if the data set is embedded.
    pub fn manifest(&self) -> Option<&Manifest<'static>> {
        match &self.source {
            DatasetSource::Embedded { .. } => None,
            DatasetSource::Files(manifest) => Some(manifest),
        }
    }

    /// Returns the directory of this data set below `root`, whether or not it exists.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(self.name)
    }

    /// Returns the command line that downloads this data set into `root`.
    pub fn fetch_command(&self, root: &Path) -> String {
        let mut command = neocog_base::program::command(format_args!("fetch-data {}", self.name));
        if root != Path::new(DEFAULT_ROOT) {
            command += &format!(" --dir {}", neocog_base::program::quoted_path(root));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neocog_base::ErrorKind;

    #[test]
    fn the_catalog_is_sorted_and_complete() {
        assert!(DATASETS.is_sorted_by_key(|info| info.name));
        for info in &DATASETS {
            assert_eq!(DatasetInfo::find(info.name).unwrap().name, info.name);
            assert_eq!(info.class_names.len(), 10);
            if let Some(manifest) = info.manifest() {
                assert_eq!(manifest.name, info.name);
                assert_eq!(manifest.files.len(), 4);
                assert!(manifest.sources.len() > 1 && manifest.sources.iter().all(|s| s.ends_with('/')));
                assert!(manifest.files.iter().all(|f| f.sha256.len() == 64));
            }
        }
        assert!(DatasetInfo::find(DEFAULT_DATASET).unwrap().manifest().is_none());
        assert_eq!(DatasetInfo::fetchable().count(), 2);
    }

    #[test]
    fn an_unknown_name_suggests_similar_names() {
        let e = DatasetInfo::find("fashion_mnist").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(e.to_string().contains("there is no data set named `fashion_mnist`"), "{e}");
        assert!(e.to_string().contains("did you mean `fashion-mnist`"), "{e}");
    }
}
