//! The data sets that have a name: one table, for loading, for fetching, and for the lists that users see.

use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};

/// The folder that holds a folder for each data set, unless another is given.
pub const DEFAULT_ROOT: &str = "data";

/// The data set that is used unless another is given; it is compiled in.
pub const DEFAULT: &str = "digits";

/// The data sets, sorted by name.
pub static KNOWN: [Known; 3] = [
    Known {
        name: "digits",
        about: "1,797 handwritten digits, 8x8, compiled in (Alpaydin & Kaynak, CC BY 4.0)",
        class_names: &DIGITS,
        max_value: 16,
        origin: Origin::Embedded {
            images: include_bytes!("../assets/digits8x8-images-idx3-ubyte.gz"),
            labels: include_bytes!("../assets/digits8x8-labels-idx1-ubyte.gz"),
            train: 1437,
        },
    },
    Known {
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
        origin: Origin::Folder(Manifest {
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
    Known {
        name: "mnist",
        about: "70,000 handwritten digits, 28x28 (LeCun & Cortes, CC BY-SA 3.0)",
        class_names: &DIGITS,
        max_value: 255,
        origin: Origin::Folder(Manifest {
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

const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// A data set that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name that users type.
    pub name: &'static str,
    /// One line: what it is, whose, and its licence.
    pub about: &'static str,
    /// What the classes are called, by label.
    pub class_names: &'static [&'static str],
    /// The pixel value that means white: 255, or 16 for the digits.
    pub max_value: u8,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a data set comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// It is compiled in.
    Embedded {
        /// The images of both parts, an IDX file.
        images: &'static [u8],
        /// Their labels, an IDX file.
        labels: &'static [u8],
        /// How many of the first are for training; the rest are for the test.
        train: usize,
    },
    /// Four files in a folder, in the order train images, train labels, test images, test labels.
    Folder(Manifest<'static>),
}

/// What to fetch and from where.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// The data set's name, also that of its folder.
    pub name: &'a str,
    /// Base URLs, tried in this order.
    pub sources: &'a [&'a str],
    /// The files; each is at base URL + name.
    pub files: &'a [RemoteFile<'a>],
}

/// A file to fetch and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile<'a> {
    /// Its name, without folder.
    pub name: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes: 64 hexadecimal digits.
    pub sha256: &'a str,
}

impl Known {
    /// The data set called `name`.
    ///
    /// # Errors
    /// `Unknown`, with the names that there are.
    pub fn find(name: &str) -> Result<&'static Known> {
        KNOWN
            .iter()
            .find(|known| known.name == name)
            .ok_or_else(|| Error::not_found("data set", name, KNOWN.iter().map(|known| known.name)))
    }

    /// The data sets that must be fetched before they can be loaded.
    pub fn fetchable() -> impl Iterator<Item = &'static Known> {
        KNOWN.iter().filter(|known| known.manifest().is_some())
    }

    /// What to fetch; `None` if the data set is compiled in.
    pub fn manifest(&self) -> Option<&Manifest<'static>> {
        match &self.origin {
            Origin::Embedded { .. } => None,
            Origin::Folder(manifest) => Some(manifest),
        }
    }

    /// The folder of this data set under `root`, whether it is there or not.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(self.name)
    }

    /// The command that fetches it into `root`.
    pub fn command(&self, root: &Path) -> String {
        let mut command = neocog_base::program::command(format_args!("fetch-data {}", self.name));
        if root != Path::new(DEFAULT_ROOT) {
            command += &format!(" --dir {}", root.display());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neocog_base::ErrorKind;

    #[test]
    fn the_table_is_sorted_and_each_is_found() {
        assert!(KNOWN.is_sorted_by_key(|known| known.name));
        for known in &KNOWN {
            assert_eq!(Known::find(known.name).unwrap().name, known.name);
            assert_eq!(known.class_names.len(), 10);
            if let Some(manifest) = known.manifest() {
                assert_eq!(manifest.name, known.name);
                assert_eq!(manifest.files.len(), 4);
                assert!(manifest.sources.len() > 1 && manifest.sources.iter().all(|s| s.ends_with('/')));
                assert!(manifest.files.iter().all(|f| f.sha256.len() == 64));
            }
        }
        assert!(Known::find(DEFAULT).unwrap().manifest().is_none());
        assert_eq!(Known::fetchable().count(), 2);
    }

    #[test]
    fn an_unknown_name_offers_near_ones() {
        let e = Known::find("fashion_mnist").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(e.to_string().contains("there is no data set named `fashion_mnist`"), "{e}");
        assert!(e.to_string().contains("did you mean `fashion-mnist`"), "{e}");
    }
}
