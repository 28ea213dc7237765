//! [`Dataset`]: 8-bit images in memory with their labels. [`load`] reads one of the catalog as training and test set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neocog_base::text;
use neocog_base::{Error, ErrorKind, Result};

use crate::catalog::{DatasetInfo, DatasetSource};
use crate::identity;
use crate::idx::{self, IdxImages, IdxPair};

/// A data set, split into training and test set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Split {
    /// Training set.
    pub train: Arc<Dataset>,
    /// Test set.
    pub test: Arc<Dataset>,
    /// What a user should know about the files, such as that they are those of another data set.
    pub warnings: Vec<String>,
}

impl Split {
    /// Creates a split of a training and a test set.
    pub fn new(train: impl Into<Arc<Dataset>>, test: impl Into<Arc<Dataset>>) -> Self {
        Split { train: train.into(), test: test.into(), warnings: Vec::new() }
    }
}

/// 8-bit images `[n, c, h, w]` of one size, each with a label.
///
/// Invariants: there is at least one image, each image has one label, each label is below the number of classes, and
/// no value exceeds [`max_value`](Self::max_value).
#[derive(Clone, Debug)]
pub struct Dataset {
    parts: DatasetParts,
}

/// The unchecked content of a [`Dataset`], the argument of [`Dataset::new`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DatasetParts {
    /// Name, used in error messages.
    pub name: String,
    /// Shape of one image, `[c, h, w]`.
    pub shape: [usize; 3],
    /// Pixels `[n, c, h, w]`, row-major, from 0 (black) to `max_value` (white).
    pub pixels: Vec<u8>,
    /// Class of each image, `[n]`.
    pub labels: Vec<u8>,
    /// Class names, indexed by label.
    pub class_names: Vec<String>,
    /// Pixel value of white.
    pub max_value: u8,
}

impl DatasetParts {
    /// Describes images of shape `[c, h, w]` with pixels from 0 to 255.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<u8>,
        class_names: Vec<String>,
    ) -> Self {
        DatasetParts { name: name.into(), shape, pixels, labels, class_names, max_value: 255 }
    }

    /// Sets the pixel value of white.
    #[must_use]
    pub fn max_value(mut self, max_value: u8) -> Self {
        self.max_value = max_value;
        self
    }
}

/// Loads the data set `name` of the catalog, from the directory `root/name` unless it is embedded.
///
/// The files in the directory may be gzip-compressed, as downloaded, or uncompressed without the extension `.gz`. The
/// usual `root` is [`DEFAULT_ROOT`](crate::catalog::DEFAULT_ROOT).
///
/// # Errors
/// `NotFound` for a name that is not in the catalog; `Io`, with the command that downloads the data set, if a file is
/// missing; `Format` if a file is damaged. Files with other content than the data set's are no error, but a
/// [warning](Split::warnings).
pub fn load(name: &str, root: &Path) -> Result<Split> {
    DatasetInfo::find(name)?.load(root)
}

impl DatasetInfo {
    /// Loads this data set; see [`load`].
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, root: &Path) -> Result<Split> {
        let ((train, test), folder) = match &self.source {
            DatasetSource::Embedded { images, labels, train } => {
                let images = idx::parse_images(self.name, images)?;
                let labels = idx::parse_labels(self.name, labels)?;
                if *train > images.count || images.count != labels.len() {
                    return Err(Error::format(format!(
                        "{}: {}, {}, {}",
                        self.name,
                        text::count(images.count, "image"),
                        text::count(labels.len(), "label"),
                        text::count(*train, "training image")
                    )));
                }
                (split_at(images, labels, *train), None)
            }
            DatasetSource::Files(manifest) => {
                let [train_images, train_labels, test_images, test_labels] = manifest.files else {
                    return Err(Error::invalid_argument(format!(
                        "data set {}: expected 4 files (images and labels for training and test), found {}",
                        self.name,
                        manifest.files.len()
                    )));
                };
                let folder = self.folder(root);
                let read = |images: &str, labels: &str| -> Result<_> {
                    let advice = format!("download it again: {}", self.fetch_command(root));
                    let images = self.existing_file(&folder, images, root)?;
                    let labels = self.existing_file(&folder, labels, root)?;
                    Ok((idx::read_images_or(&images, &advice)?, idx::read_labels_or(&labels, &advice)?))
                };
                let train = read(train_images.name, train_labels.name)?;
                ((train, read(test_images.name, test_labels.name)?), Some(folder))
            }
        };
        let warnings = match &folder {
            Some(folder) => identity::check(self, folder, &train, &test).into_iter().collect(),
            None => Vec::new(),
        };
        let build = |name, data| match (self.build(name, data), &folder) {
            (Err(e), Some(folder)) => Err(e.context(folder.display().to_string())),
            (dataset, _) => dataset,
        };
        Ok(Split { warnings, ..Split::new(build("train", train)?, build("test", test)?) })
    }

    /// Returns the path of `file` in `folder`, compressed or not.
    fn existing_file(&self, folder: &Path, file: &str, root: &Path) -> Result<PathBuf> {
        let compressed = folder.join(file);
        if compressed.exists() {
            return Ok(compressed);
        }
        let plain = folder.join(file.trim_end_matches(".gz"));
        if plain.exists() {
            return Ok(plain);
        }
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "the data set {} is not downloaded: {} is missing; download it: {}",
                self.name,
                compressed.display(),
                self.fetch_command(root)
            ),
        ))
    }

    fn build(&self, part: &str, (images, labels): IdxPair) -> Result<Dataset> {
        Dataset::new(DatasetParts {
            name: format!("{} ({part})", self.name),
            shape: [1, images.height, images.width],
            pixels: images.pixels,
            labels,
            class_names: self.class_names.iter().map(ToString::to_string).collect(),
            max_value: self.max_value,
        })
    }
}

impl Dataset {
    /// Creates a data set from `parts` after checking the invariants of the type.
    ///
    /// # Errors
    /// `Format` if the parts are inconsistent; the message names the data set and what was expected.
    pub fn new(parts: DatasetParts) -> Result<Self> {
        let invalid = |what: String| Err(Error::format(what).context(&parts.name));
        let image = parts.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        if image == 0 {
            return invalid(format!("images of shape {:?} (channels, height, width) are empty", parts.shape));
        }
        if parts.max_value == 0 {
            return invalid("the maximum pixel value is 0, expected 1 to 255".into());
        }
        if !parts.pixels.len().is_multiple_of(image) {
            return invalid(format!(
                "{} pixels are not a whole number of images of shape {:?}",
                parts.pixels.len(),
                parts.shape
            ));
        }
        let count = parts.pixels.len() / image;
        if count != parts.labels.len() {
            return invalid(format!(
                "{} but {}, expected one label per image; are they from the same data set?",
                text::count(count, "image"),
                text::count(parts.labels.len(), "label")
            ));
        }
        if count == 0 {
            return invalid("the data set has no images".into());
        }
        if u32::try_from(count).is_err() {
            return invalid(format!("{count} images, expected fewer than 2^32"));
        }
        let classes = parts.class_names.len();
        if let Some(i) = parts.labels.iter().position(|&label| usize::from(label) >= classes) {
            return invalid(format!(
                "the label of image {i} is {}, but the data set has {}: expected 0 to {}",
                parts.labels[i],
                text::count(classes, "class"),
                classes.saturating_sub(1)
            ));
        }
        if parts.max_value < 255
            && let Some(i) = parts.pixels.iter().position(|&p| p > parts.max_value)
        {
            return invalid(format!(
                "image {} has a pixel value of {}, expected 0 to {}",
                i / image,
                parts.pixels[i],
                parts.max_value
            ));
        }
        Ok(Dataset { parts })
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Returns the number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.parts.labels.len()
    }

    /// Returns the shape of one image, `[c, h, w]`.
    pub fn shape(&self) -> [usize; 3] {
        self.parts.shape
    }

    /// Returns image `i`, `[c, h, w]` row-major, with values from 0 to [`max_value`](Self::max_value).
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.parts.shape.iter().product::<usize>();
        &self.parts.pixels[i * size..][..size]
    }

    /// Returns all pixels, `[n, c, h, w]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.parts.pixels
    }

    /// Returns the class of each image, `[n]`; all are below [`classes`](Self::classes).
    pub fn labels(&self) -> &[u8] {
        &self.parts.labels
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.parts.class_names.len()
    }

    /// Returns the class names, indexed by label.
    pub fn class_names(&self) -> &[String] {
        &self.parts.class_names
    }

    /// Returns the pixel value of white.
    pub fn max_value(&self) -> u8 {
        self.parts.max_value
    }

    /// Computes mean and standard deviation of each channel, `[c]`, of pixels scaled to 0 to 1: the arguments of
    /// [`Normalize`](crate::transform::Normalize). A constant channel has standard deviation 0.
    pub fn mean_and_std(&self) -> (Vec<f64>, Vec<f64>) {
        let [channels, h, w] = self.shape();
        let mut counts = vec![[0u64; 256]; channels];
        for (i, plane) in self.parts.pixels.chunks_exact(h * w).enumerate() {
            plane.iter().for_each(|&p| counts[i % channels][usize::from(p)] += 1);
        }
        let white = f64::from(self.parts.max_value);
        let pixels = (self.len() * h * w) as f64;
        let mean_of = |counts: &[u64; 256], value: &dyn Fn(f64) -> f64| {
            let sum: f64 = counts.iter().enumerate().map(|(v, &n)| n as f64 * value(v as f64 / white)).sum();
            sum / pixels
        };
        counts
            .iter()
            .map(|counts| {
                let mean = mean_of(counts, &|v| v);
                (mean, mean_of(counts, &|v| (v - mean).powi(2)).sqrt())
            })
            .unzip()
    }

    /// Returns the lookup table from pixel values to 0 to 255: `v * 255 / max_value`, halves rounded up, and 255 for
    /// values above [`max_value`](Self::max_value).
    pub fn levels(&self) -> [u8; 256] {
        let max = u32::from(self.parts.max_value);
        let mut levels = [255; 256];
        for (v, level) in levels.iter_mut().enumerate().take(max as usize + 1) {
            *level = ((v as u32 * 255 + max / 2) / max) as u8;
        }
        levels
    }
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
    use super::*;
    use crate::idx::Idx;
    use std::fs;

    fn parts() -> DatasetParts {
        DatasetParts {
            name: "tiny".into(),
            shape: [1, 2, 2],
            pixels: vec![0, 1, 2, 3, 4, 5, 6, 7],
            labels: vec![1, 0],
            class_names: vec!["cat".into(), "dog".into()],
            max_value: 255,
        }
    }

    fn error_message(parts: DatasetParts) -> String {
        let e = Dataset::new(parts).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().starts_with("tiny: "), "{e}");
        e.to_string()
    }

    #[test]
    fn inconsistent_parts_are_rejected() {
        assert!(Dataset::new(parts()).is_ok());
        let text = error_message(DatasetParts { labels: vec![1, 0, 1], ..parts() });
        assert!(text.contains("2 images but 3 labels"), "{text}");
        let text = error_message(DatasetParts { labels: vec![1, 2], ..parts() });
        assert!(
            text.contains("the label of image 1 is 2, but the data set has 2 classes: expected 0 to 1"),
            "{text}"
        );
        let text = error_message(DatasetParts { max_value: 6, ..parts() });
        assert!(text.contains("image 1 has a pixel value of 7, expected 0 to 6"), "{text}");
        let text = error_message(DatasetParts { pixels: vec![0; 7], ..parts() });
        assert!(text.contains("7 pixels are not a whole number of images"), "{text}");
        let text = error_message(DatasetParts { pixels: vec![], labels: vec![], ..parts() });
        assert!(text.contains("has no images"), "{text}");
        error_message(DatasetParts { max_value: 0, ..parts() });
        error_message(DatasetParts { shape: [1, 0, 2], ..parts() });
        error_message(DatasetParts { shape: [1, usize::MAX, 3], ..parts() });
        error_message(DatasetParts { class_names: vec![], ..parts() });
    }

    #[test]
    fn mean_and_std_of_each_channel() {
        let pixels = vec![0, 200, 100, 100, 0, 200, 100, 100];
        let data = Dataset::new(DatasetParts { shape: [2, 1, 2], pixels, max_value: 200, ..parts() });
        let (mean, std) = data.unwrap().mean_and_std();
        assert_eq!((mean, std), (vec![0.5, 0.5], vec![0.5, 0.0]));
        // Computed with numpy.
        let (mean, std) = load("digits", Path::new("data")).unwrap().train.mean_and_std();
        assert!((mean[0] - 0.305_386_112_560_890_77).abs() < 1e-12, "{mean:?}");
        assert!((std[0] - 0.375_507_108_830_509_1).abs() < 1e-12, "{std:?}");
    }

    #[test]
    fn levels_round_halves_up() {
        assert!(
            Dataset::new(parts()).unwrap().levels().iter().enumerate().all(|(v, &l)| v == usize::from(l))
        );
        let digits = load("digits", Path::new("data")).unwrap().train;
        let expected = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255];
        assert_eq!(digits.levels()[..17], expected);
    }

    #[test]
    fn digits_are_complete() {
        let Split { train, test, .. } = load("digits", Path::new("nowhere")).unwrap();
        assert_eq!((train.len(), test.len()), (1437, 360));
        assert_eq!((train.shape(), train.max_value(), train.classes()), ([1, 8, 8], 16, 10));
        let mut classes = [0; 10];
        for &label in train.labels().iter().chain(test.labels()) {
            classes[usize::from(label)] += 1;
        }
        assert_eq!(classes, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(train.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    }

    /// The accuracy of a nearest-centroid classifier: it depends on pixels, labels, order and split.
    #[test]
    fn nearest_centroid_accuracy_on_digits() {
        let Split { train, test, .. } = load("digits", Path::new("data")).unwrap();
        let mut means = vec![[0f64; 64]; 10];
        for (i, &label) in train.labels().iter().enumerate() {
            let count = train.labels().iter().filter(|&&l| l == label).count() as f64;
            for (m, &p) in means[usize::from(label)].iter_mut().zip(train.image(i)) {
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
                nearest == usize::from(test.labels()[i])
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
        let Split { train, test, .. } = load("mnist", root.path()).unwrap();
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

    #[test]
    fn the_default_root_needs_no_option() {
        assert_eq!(
            DatasetInfo::find("mnist").unwrap().fetch_command(Path::new("data")),
            "neocog fetch-data mnist"
        );
    }
}
