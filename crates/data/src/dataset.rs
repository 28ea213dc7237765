//! [`Dataset`]: 8-bit images in memory with their labels; [`load`]: one of the known ones, in two parts.

use std::path::Path;
use std::sync::Arc;

use neocog_base::{Error, ErrorKind, Result};

use crate::idx::{self, IdxImages};
use crate::known::{Known, Origin};

/// The two parts of a data set.
#[derive(Clone, Debug)]
pub struct Split {
    /// To learn from.
    pub train: Arc<Dataset>,
    /// To judge what was learnt.
    pub test: Arc<Dataset>,
}

/// Images `[n, c, h, w]` of one size, a byte a value, and a label for each.
///
/// What it holds is consistent: there is at least one image, each has a label, each label a class, and no
/// value is above the maximum.
#[derive(Clone, Debug)]
pub struct Dataset {
    parts: DatasetParts,
}

/// What a [`Dataset`] is made of; [`Dataset::new`] checks it.
#[derive(Clone, Debug)]
pub struct DatasetParts {
    /// What it is called in errors.
    pub name: String,
    /// The shape of one image, `[c, h, w]`.
    pub shape: [usize; 3],
    /// `[n, c, h, w]`, row-major; 0 is black and `max_value` is white.
    pub pixels: Vec<u8>,
    /// `[n]`, the class of each image.
    pub labels: Vec<u8>,
    /// What the classes are called, by label.
    pub class_names: Vec<String>,
    /// The value that means white, usually 255.
    pub max_value: u8,
}

/// Loads the known data set `name`, where it is not compiled in from the folder `root/name`.
///
/// The files there may be compressed, as they were fetched, or plain and without `.gz` in their names.
/// [`DEFAULT_ROOT`](crate::known::DEFAULT_ROOT) is the usual `root`.
///
/// # Errors
/// `Unknown` for a name that is not in the table, `Io` with the command to type where a file is missing, `Format`
/// where one is damaged.
pub fn load(name: &str, root: &Path) -> Result<Split> {
    Known::find(name)?.load(root)
}

impl Known {
    /// As [`load`].
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, root: &Path) -> Result<Split> {
        let ((train, test), place) = match &self.origin {
            Origin::Embedded { images, labels, train } => {
                let images = idx::parse_images(self.name, images)?;
                let labels = idx::parse_labels(self.name, labels)?;
                if *train > images.count || images.count != labels.len() {
                    return Err(Error::format(format!(
                        "{}: {} images, {} labels, the first {train} to train",
                        self.name,
                        images.count,
                        labels.len()
                    )));
                }
                (cut(images, labels, *train), None)
            }
            Origin::Folder(manifest) => {
                let [train_images, train_labels, test_images, test_labels] = manifest.files else {
                    return Err(Error::invalid_argument(format!(
                        "data set {}: expected images and labels to train and to test, 4 files, not {}",
                        self.name,
                        manifest.files.len()
                    )));
                };
                let folder = self.folder(root);
                let read = |images: &str, labels: &str| -> Result<_> {
                    let advice = format!("fetch it again: {}", self.command(root));
                    let images = self.present(&folder, images, root)?;
                    let labels = self.present(&folder, labels, root)?;
                    Ok((idx::read_images_or(&images, &advice)?, idx::read_labels_or(&labels, &advice)?))
                };
                let train = read(train_images.name, train_labels.name)?;
                ((train, read(test_images.name, test_labels.name)?), Some(folder))
            }
        };
        let part = |name, data| match (self.part(name, data), &place) {
            (Err(e), Some(folder)) => Err(e.context(folder.display().to_string())),
            (part, _) => part.map(Arc::new),
        };
        Ok(Split { train: part("train", train)?, test: part("test", test)? })
    }

    /// The path of `file` in `folder`, compressed or plain.
    fn present(&self, folder: &Path, file: &str, root: &Path) -> Result<std::path::PathBuf> {
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
                "the data set {} is not there: {} is missing; fetch it: {}",
                self.name,
                compressed.display(),
                self.command(root)
            ),
        ))
    }

    fn part(&self, part: &str, (images, labels): (IdxImages, Vec<u8>)) -> Result<Dataset> {
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
    /// Checks `parts` and makes a data set of them.
    ///
    /// # Errors
    /// `Format` where the parts contradict each other; the message names the data set and what was expected.
    pub fn new(parts: DatasetParts) -> Result<Self> {
        let bad = |what: String| Err(Error::format(what).context(&parts.name));
        let image = parts.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        if image == 0 {
            return bad(format!("images of shape {:?} (channels, height, width) hold nothing", parts.shape));
        }
        if parts.max_value == 0 {
            return bad("the largest pixel value is 0, expected 1 to 255".into());
        }
        if !parts.pixels.len().is_multiple_of(image) {
            return bad(format!(
                "{} pixels are no whole number of images of shape {:?}",
                parts.pixels.len(),
                parts.shape
            ));
        }
        let count = parts.pixels.len() / image;
        if count != parts.labels.len() {
            return bad(format!(
                "{count} images but {} labels, expected one for each; images and labels are not of the same set",
                parts.labels.len()
            ));
        }
        if count == 0 {
            return bad("it has no images".into());
        }
        if u32::try_from(count).is_err() {
            return bad(format!("{count} images are too many, expected fewer than 2^32"));
        }
        let classes = parts.class_names.len();
        if let Some(i) = parts.labels.iter().position(|&label| usize::from(label) >= classes) {
            return bad(format!(
                "the label of image {i} is {}, but there are {classes} classes: 0 to {} are expected",
                parts.labels[i],
                classes.saturating_sub(1)
            ));
        }
        if parts.max_value < 255
            && let Some(i) = parts.pixels.iter().position(|&p| p > parts.max_value)
        {
            return bad(format!(
                "image {} has a pixel of {}, expected 0 to {}",
                i / image,
                parts.pixels[i],
                parts.max_value
            ));
        }
        Ok(Dataset { parts })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.parts.labels.len()
    }

    /// The shape of one image, `[c, h, w]`.
    pub fn shape(&self) -> [usize; 3] {
        self.parts.shape
    }

    /// Image `i`, `[c, h, w]` row-major, 0 to [`max_value`](Self::max_value).
    ///
    /// # Panics
    /// Where there is no image `i`.
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.parts.shape.iter().product::<usize>();
        &self.parts.pixels[i * size..][..size]
    }

    /// All pixels, `[n, c, h, w]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.parts.pixels
    }

    /// The class of each image, `[n]`; all are below the number of classes.
    pub fn labels(&self) -> &[u8] {
        &self.parts.labels
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.parts.class_names.len()
    }

    /// What the classes are called, by label.
    pub fn class_names(&self) -> &[String] {
        &self.parts.class_names
    }

    /// The value that means white.
    pub fn max_value(&self) -> u8 {
        self.parts.max_value
    }

    /// The mean and the standard deviation of the values of each channel, where white is 1: what
    /// [`Normalize`](crate::transform::Normalize) takes away and divides by. An even channel has deviation 0.
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

    /// For each value up to [`max_value`](Self::max_value) its value when white is 255:
    /// `v * 255 / max_value`, halves rounded up.
    pub fn levels(&self) -> [u8; 256] {
        let max = u32::from(self.parts.max_value);
        let mut levels = [255; 256];
        for (v, level) in levels.iter_mut().enumerate().take(max as usize + 1) {
            *level = ((v as u32 * 255 + max / 2) / max) as u8;
        }
        levels
    }
}

/// The first `train` and the rest.
fn cut(
    mut images: IdxImages,
    mut labels: Vec<u8>,
    train: usize,
) -> ((IdxImages, Vec<u8>), (IdxImages, Vec<u8>)) {
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

    fn complaint(parts: DatasetParts) -> String {
        let e = Dataset::new(parts).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().starts_with("tiny: "), "{e}");
        e.to_string()
    }

    #[test]
    fn parts_that_contradict_each_other() {
        assert!(Dataset::new(parts()).is_ok());
        let text = complaint(DatasetParts { labels: vec![1, 0, 1], ..parts() });
        assert!(text.contains("2 images but 3 labels"), "{text}");
        let text = complaint(DatasetParts { labels: vec![1, 2], ..parts() });
        assert!(text.contains("the label of image 1 is 2, but there are 2 classes: 0 to 1"), "{text}");
        let text = complaint(DatasetParts { max_value: 6, ..parts() });
        assert!(text.contains("image 1 has a pixel of 7, expected 0 to 6"), "{text}");
        let text = complaint(DatasetParts { pixels: vec![0; 7], ..parts() });
        assert!(text.contains("7 pixels are no whole number of images"), "{text}");
        let text = complaint(DatasetParts { pixels: vec![], labels: vec![], ..parts() });
        assert!(text.contains("no images"), "{text}");
        complaint(DatasetParts { max_value: 0, ..parts() });
        complaint(DatasetParts { shape: [1, 0, 2], ..parts() });
        complaint(DatasetParts { shape: [1, usize::MAX, 3], ..parts() });
        complaint(DatasetParts { class_names: vec![], ..parts() });
    }

    #[test]
    fn mean_and_deviation_of_each_channel() {
        let pixels = vec![0, 200, 100, 100, 0, 200, 100, 100];
        let data = Dataset::new(DatasetParts { shape: [2, 1, 2], pixels, max_value: 200, ..parts() });
        let (mean, std) = data.unwrap().mean_and_std();
        assert_eq!((mean, std), (vec![0.5, 0.5], vec![0.5, 0.0]));
        // As numpy finds them.
        let (mean, std) = load("digits", Path::new("data")).unwrap().train.mean_and_std();
        assert!((mean[0] - 0.305_386_112_560_890_77).abs() < 1e-12, "{mean:?}");
        assert!((std[0] - 0.375_507_108_830_509_1).abs() < 1e-12, "{std:?}");
    }

    #[test]
    fn levels_are_rounded_halves_up() {
        assert!(
            Dataset::new(parts()).unwrap().levels().iter().enumerate().all(|(v, &l)| v == usize::from(l))
        );
        let digits = load("digits", Path::new("data")).unwrap().train;
        let expected = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255];
        assert_eq!(digits.levels()[..17], expected);
    }

    #[test]
    fn the_digits_are_all_there() {
        let Split { train, test } = load("digits", Path::new("nowhere")).unwrap();
        assert_eq!((train.len(), test.len()), (1437, 360));
        assert_eq!((train.shape(), train.max_value(), train.classes()), ([1, 8, 8], 16, 10));
        let mut classes = [0; 10];
        for &label in train.labels().iter().chain(test.labels()) {
            classes[usize::from(label)] += 1;
        }
        assert_eq!(classes, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(train.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    }

    /// The share of the test images whose nearest class mean is that of their class is a known number: it is
    /// right only if pixels, labels, order and split all are.
    #[test]
    fn nearest_class_mean_of_the_digits() {
        let Split { train, test } = load("digits", Path::new("data")).unwrap();
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
        let right = (0..test.len())
            .filter(|&i| {
                let near = |c: &usize| distance(&means[*c], test.image(i));
                let best = (0..10).min_by(|a, b| near(a).total_cmp(&near(b))).unwrap();
                best == usize::from(test.labels()[i])
            })
            .count();
        assert_eq!(right, 306); // 85.00 % of 360
    }

    fn write(root: &Path, file: &str, sizes: &[usize], data: Vec<u8>) {
        let folder = root.join("mnist");
        fs::create_dir_all(&folder).unwrap();
        let bytes = Idx { sizes: sizes.to_vec(), data }.encode().unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    }

    #[test]
    fn a_folder_of_plain_files() {
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
        let Split { train, test } = load("mnist", root.path()).unwrap();
        assert_eq!((train.len(), test.len()), (3, 1));
        assert_eq!((train.image(1), train.labels()), (&[4, 5, 6, 7][..], &[9, 0, 3][..]));

        write(root.path(), "train-labels-idx1-ubyte", &[2], vec![9, 0]);
        let e = load("mnist", root.path()).unwrap_err().to_string();
        assert!(e.contains("mnist (train): 3 images but 2 labels"), "{e}");
        assert!(e.starts_with(&root.path().join("mnist").display().to_string()), "{e}");

        fs::write(root.path().join("mnist/train-labels-idx1-ubyte"), b"<html>").unwrap();
        let e = load("mnist", root.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().ends_with(&format!("fetch it again: {command}")), "{e}");
    }

    #[test]
    fn the_default_folder_needs_no_option() {
        assert_eq!(Known::find("mnist").unwrap().command(Path::new("data")), "neocog fetch-data mnist");
    }
}
