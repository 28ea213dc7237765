//! Data sets in the format of MNIST: four IDX files, or two that are compiled in.

use std::path::{Path, PathBuf};

use neocog_base::{Error, Result};

use super::identity;
use crate::catalog::{DatasetInfo, Manifest, RemoteFile};
use crate::idx::{self, IdxImages, IdxPair};
use crate::memory::{DatasetParts, MemoryDataset};
use crate::register_dataset;
use crate::split::Split;

pub(super) const DIGIT_NAMES: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

register_dataset!(
    DatasetInfo::new("digits", DIGIT_NAMES, load_digits)
        .with_about("1,797 handwritten digits, 8x8, compiled in (Alpaydin & Kaynak, CC BY 4.0)")
        .bright_on_dark()
);

register_dataset!(
    DatasetInfo::new(
        "fashion-mnist",
        &[
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
        load_files,
    )
    .with_about("70,000 articles of clothing, 28x28 (Zalando, MIT)")
    .bright_on_dark()
    .fetched_by_default()
    .with_manifest(Manifest::new(
        "fashion-mnist",
        &[
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        &[
            RemoteFile::new(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            RemoteFile::new(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            RemoteFile::new(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            RemoteFile::new(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ],
    ))
);

register_dataset!(
    DatasetInfo::new("kmnist", &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"], load_files)
        .with_about("70,000 handwritten classical Japanese characters, 28x28 (Clanuwat et al., CC BY-SA 4.0)")
        .bright_on_dark()
        .with_manifest(Manifest::new(
            "kmnist",
            &[
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                "https://codh.rois.ac.jp/kmnist/dataset/kmnist/"
            ],
            &[
                RemoteFile::new(
                    "train-images-idx3-ubyte.gz",
                    18_165_135,
                    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                ),
                RemoteFile::new(
                    "train-labels-idx1-ubyte.gz",
                    29_497,
                    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                ),
                RemoteFile::new(
                    "t10k-images-idx3-ubyte.gz",
                    3_041_136,
                    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                ),
                RemoteFile::new(
                    "t10k-labels-idx1-ubyte.gz",
                    5_120,
                    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                ),
            ],
        ))
);

register_dataset!(
    DatasetInfo::new("mnist", DIGIT_NAMES, load_files)
        .with_about("70,000 handwritten digits, 28x28 (LeCun & Cortes, CC BY-SA 3.0)")
        .bright_on_dark()
        .fetched_by_default()
        .with_manifest(Manifest::new(
            "mnist",
            &[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ],
            &[
                RemoteFile::new(
                    "train-images-idx3-ubyte.gz",
                    9_912_422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                RemoteFile::new(
                    "train-labels-idx1-ubyte.gz",
                    28_881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                RemoteFile::new(
                    "t10k-images-idx3-ubyte.gz",
                    1_648_877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                RemoteFile::new(
                    "t10k-labels-idx1-ubyte.gz",
                    4_542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ],
        ))
);

/// Number of training images of the digits; the others are the test images.
const DIGITS_TRAIN: usize = 1437;
/// Pixel value of white of the digits.
const DIGITS_MAX: u8 = 16;

fn load_digits(info: &DatasetInfo, _root: &Path) -> Result<Split> {
    let images = include_bytes!("../../assets/digits8x8-images-idx3-ubyte.gz");
    let labels = include_bytes!("../../assets/digits8x8-labels-idx1-ubyte.gz");
    let images = idx::parse_images(info.name, images)?;
    let labels = idx::parse_labels(info.name, labels)?;
    if DIGITS_TRAIN > images.count || images.count != labels.len() {
        return Err(Error::format(format!(
            "{}: {} images, {} labels, {DIGITS_TRAIN} training images",
            info.name,
            images.count,
            labels.len()
        )));
    }
    let (train, test) = split_at(images, labels, DIGITS_TRAIN);
    Ok(Split::new(build(info, "train", train, DIGITS_MAX)?, build(info, "test", test, DIGITS_MAX)?))
}

/// Loads the four files of the manifest, in the order training images, training labels, test images, test labels.
fn load_files(info: &DatasetInfo, root: &Path) -> Result<Split> {
    let Some(Manifest { files: &[train_images, train_labels, test_images, test_labels], .. }) = info.manifest
    else {
        return Err(Error::invalid_argument(format!(
            "data set {}: expected 4 files (images and labels for training and test)",
            info.name
        )));
    };
    let folder = info.folder(root);
    let read = |images: RemoteFile<'_>, labels: RemoteFile<'_>| -> Result<_> {
        let advice = format!("download it again: {}", info.fetch_command(root));
        let images = existing_file(info, images.name, root)?;
        let labels = existing_file(info, labels.name, root)?;
        Ok((idx::read_images_or(&images, &advice)?, idx::read_labels_or(&labels, &advice)?))
    };
    let train = read(train_images, train_labels)?;
    let test = read(test_images, test_labels)?;
    let warnings = identity::check(info, &folder, &train, &test).into_iter().collect();
    let build =
        |part, data| build(info, part, data, 255).map_err(|e| e.context(folder.display().to_string()));
    Ok(Split { warnings, ..Split::new(build("train", train)?, build("test", test)?) })
}

/// Returns the path of a file of a data set, compressed or not.
pub(super) fn existing_file(info: &DatasetInfo, file: &str, root: &Path) -> Result<PathBuf> {
    let compressed = info.folder(root).join(file);
    if compressed.exists() {
        return Ok(compressed);
    }
    let plain = info.folder(root).join(file.trim_end_matches(".gz"));
    if plain.exists() {
        return Ok(plain);
    }
    Err(info.not_downloaded(&compressed, root))
}

pub(super) fn build(
    info: &DatasetInfo,
    part: &str,
    (images, labels): IdxPair,
    max_value: u8,
) -> Result<MemoryDataset> {
    let parts = DatasetParts::new(
        format!("{} ({part})", info.name),
        [1, images.height, images.width],
        images.pixels,
        labels.into_iter().map(u32::from).collect(),
        info.class_names(),
    );
    MemoryDataset::new(parts.max_value(max_value))
}

/// Splits images and labels into the first `train` and the rest.
fn split_at(mut images: IdxImages, mut labels: Vec<u8>, train: usize) -> (IdxPair, IdxPair) {
    let pixels = images.pixels.split_off(train * images.height * images.width);
    let test = IdxImages { count: images.count - train, pixels, ..images };
    images.count = train;
    let test_labels = labels.split_off(train);
    ((images, labels), (test, test_labels))
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::fs;

    use neocog_base::ErrorKind;

    use super::*;
    use crate::catalog::load;
    use crate::dataset::{Dataset, mean_and_std};
    use crate::idx::Idx;

    fn in_memory(dataset: &dyn Dataset) -> &MemoryDataset {
        (dataset as &dyn Any).downcast_ref().unwrap()
    }

    #[test]
    fn mean_and_std_of_the_digits() {
        // Computed with numpy.
        let (mean, std) = mean_and_std(&*load("digits", Path::new("data")).unwrap().train).unwrap();
        assert!((mean[0] - 0.305_386_112_560_890_77).abs() < 1e-12, "{mean:?}");
        assert!((std[0] - 0.375_507_108_830_509_1).abs() < 1e-12, "{std:?}");
    }

    #[test]
    fn digits_are_complete() {
        let split = load("digits", Path::new("nowhere")).unwrap();
        let (train, test) = (in_memory(&*split.train), in_memory(&**split.test().unwrap()));
        assert_eq!((train.len(), test.len()), (1437, 360));
        assert_eq!((train.shape(), train.max_value(), train.classes()), ([1, 8, 8], 16, 10));
        let mut classes = [0; 10];
        for &label in train.labels().iter().chain(test.labels()) {
            classes[label as usize] += 1;
        }
        assert_eq!(classes, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(train.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    }

    /// The accuracy of a nearest-centroid classifier: it depends on pixels, labels, order and split.
    #[test]
    fn nearest_centroid_accuracy_on_digits() {
        let split = load("digits", Path::new("data")).unwrap();
        let (train, test) = (in_memory(&*split.train), in_memory(&**split.test().unwrap()));
        let mut means = vec![[0f64; 64]; 10];
        for (i, &label) in train.labels().iter().enumerate() {
            let count = train.labels().iter().filter(|&&l| l == label).count() as f64;
            for (m, &p) in means[label as usize].iter_mut().zip(train.image(i)) {
                *m += f64::from(p) / count;
            }
        }
        let distance = |mean: &[f64; 64], image: &[u8]| -> f64 {
            mean.iter().zip(image).map(|(m, &p)| (m - f64::from(p)).powi(2)).sum()
        };
        let correct = (0..test.len())
            .filter(|&i| {
                let to_class = |c: &usize| distance(&means[*c], test.image(i));
                let nearest = (0..10).min_by(|a, b| to_class(a).total_cmp(&to_class(b))).unwrap();
                nearest == test.labels()[i] as usize
            })
            .count();
        assert_eq!(correct, 306); // 85.00 % of 360
    }

    fn write(root: &Path, file: &str, sizes: &[usize], data: Vec<u8>) {
        let folder = root.join("mnist");
        fs::create_dir_all(&folder).unwrap();
        let bytes = Idx { sizes: sizes.to_vec(), data }.encode().unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    }

    #[test]
    fn uncompressed_files_are_loaded() {
        let root = tempfile::tempdir().unwrap();
        let e = load("mnist", root.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        let command = format!("neocog fetch-data mnist --dir {}", root.path().display());
        assert!(e.to_string().contains("train-images-idx3-ubyte.gz is missing"), "{e}");
        assert!(e.to_string().ends_with(&command), "{e}");

        write(root.path(), "train-images-idx3-ubyte", &[3, 2, 2], (0..12).collect());
        write(root.path(), "train-labels-idx1-ubyte", &[3], vec![9, 0, 3]);
        write(root.path(), "t10k-images-idx3-ubyte", &[1, 2, 2], vec![9; 4]);
        write(root.path(), "t10k-labels-idx1-ubyte", &[1], vec![7]);
        let split = load("mnist", root.path()).unwrap();
        let (train, test) = (in_memory(&*split.train), in_memory(&**split.test().unwrap()));
        assert_eq!((train.len(), test.len()), (3, 1));
        assert_eq!((train.image(1), train.labels()), (&[4, 5, 6, 7][..], &[9, 0, 3][..]));

        write(root.path(), "train-labels-idx1-ubyte", &[2], vec![9, 0]);
        let e = load("mnist", root.path()).unwrap_err().to_string();
        assert!(e.contains("mnist (train): 3 images but 2 labels"), "{e}");
        assert!(e.starts_with(&root.path().join("mnist").display().to_string()), "{e}");

        fs::write(root.path().join("mnist/train-labels-idx1-ubyte"), b"<html>").unwrap();
        let e = load("mnist", root.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().ends_with(&format!("download it again: {command}")), "{e}");
    }
}
