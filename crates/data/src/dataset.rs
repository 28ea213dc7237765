//! [`Dataset`]: labeled 8-bit images, in memory, as files in folders or as records on disk, behind one trait.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use neocog_base::{Error, Result};

use crate::image::ByteImage;

/// Labeled 8-bit images: what a [`Loader`](crate::Loader) reads, one sample at a time and from several threads.
///
/// Invariants: there is at least one sample and fewer than 2^32, and each label is below the number of classes.
///
/// ```
/// use neocog_data::{ByteImage, Dataset};
/// use neocog_base::Result;
///
/// /// `n` images of one color.
/// #[derive(Debug)]
/// struct Plain {
///     labels: Vec<u32>,
///     class_names: Vec<String>,
/// }
///
/// impl Dataset for Plain {
///     fn name(&self) -> &str {
///         "plain"
///     }
///     fn channels(&self) -> usize {
///         3
///     }
///     fn size(&self) -> Option<(usize, usize)> {
///         Some((8, 8))
///     }
///     fn labels(&self) -> &[u32] {
///         &self.labels
///     }
///     fn class_names(&self) -> &[String] {
///         &self.class_names
///     }
///     fn read(&self, i: usize, image: &mut ByteImage) -> Result<()> {
///         image.reset(8, 8, 3).fill(self.labels[i] as u8);
///         Ok(())
///     }
/// }
/// ```
#[expect(clippy::len_without_is_empty, reason = "it is never empty")]
pub trait Dataset: Any + fmt::Debug + Send + Sync {
    /// Returns the name, used in messages.
    fn name(&self) -> &str;

    /// Returns the number of channels of every image: 1 (grayscale), 3 (RGB), or another number for data in memory.
    fn channels(&self) -> usize;

    /// Returns the size `(h, w)` of every image, or `None` if it varies.
    fn size(&self) -> Option<(usize, usize)>;

    /// Returns the class of each sample, `[n]`.
    fn labels(&self) -> &[u32];

    /// Returns the class names, indexed by label.
    fn class_names(&self) -> &[String];

    /// Reads image `i` into `image`, with [`channels`](Self::channels) channels and values from 0 (black) to 255 (white).
    ///
    /// # Errors
    /// `Io` or `Format` if the image cannot be read; the message names the file.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    fn read(&self, i: usize, image: &mut ByteImage) -> Result<()>;

    /// As [`read`](Self::read), for an image that is resized to `size`, `(h, w)`: where that is faster, a smaller one of at least
    /// that size. By default, [reads](Self::read) the image as it is.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// As [`read`](Self::read).
    fn read_at_least(&self, i: usize, size: (usize, usize), image: &mut ByteImage) -> Result<()> {
        let _ = size;
        self.read(i, image)
    }

    /// Returns the number of samples, at least 1.
    fn len(&self) -> usize {
        self.labels().len()
    }

    /// Returns the number of classes.
    fn classes(&self) -> usize {
        self.class_names().len()
    }

    /// Returns what tells sample `i` from others, for [`fingerprint`]: its bytes in memory, or the name and size of its file.
    fn identity(&self, i: usize) -> Cow<'_, [u8]> {
        Cow::Owned((i as u64).to_le_bytes().to_vec())
    }

    /// Returns the path and the size in bytes of the file of image `i`, if it has one of its own.
    ///
    /// # Panics
    /// May panic if `i` is not below [`len`](Self::len).
    fn file(&self, i: usize) -> Option<(&Path, u64)> {
        let _ = i;
        None
    }

    /// Returns the content of the file of image `i`, if it has one of its own. The result is `Io` if it cannot be read.
    ///
    /// # Panics
    /// May panic if `i` is not below [`len`](Self::len).
    fn file_bytes(&self, i: usize) -> Option<Result<Cow<'_, [u8]>>> {
        let _ = i;
        None
    }

    /// Returns the stored value of white. Values are scaled to 0 to 255 by [`read`](Self::read); statistics are of the
    /// stored ones.
    fn max_value(&self) -> u8 {
        255
    }

    /// Adds the number of pixels of each stored value of image `i` to `counts`, `[c][256]`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn count_values(&self, i: usize, counts: &mut [[u64; 256]]) -> Result<()> {
        let mut image = ByteImage::default();
        self.read(i, &mut image)?;
        let channels = counts.len().max(1);
        for pixel in image.pixels().chunks_exact(channels) {
            pixel.iter().zip(&mut *counts).for_each(|(&value, counts)| counts[usize::from(value)] += 1);
        }
        Ok(())
    }

    /// Whether samples are read from disk. A [`Loader`](crate::Loader) caches them, and leaves out those that cannot be
    /// read: other programs may change or remove files at any time.
    fn is_on_disk(&self) -> bool {
        false
    }
}

/// Checks the invariants of [`Dataset`] that a type cannot: there is a sample, and labels are below the number of classes.
///
/// # Errors
/// `Format`; the message names the data set.
pub fn check(dataset: &dyn Dataset) -> Result<()> {
    let invalid = |what: String| Err(Error::format(what).context(dataset.name()));
    let (labels, classes) = (dataset.labels(), dataset.classes());
    if labels.is_empty() {
        return invalid("the data set has no images".into());
    }
    if u32::try_from(labels.len()).is_err() {
        return invalid(format!("{} images, expected fewer than 2^32", labels.len()));
    }
    if let Some(i) = labels.iter().position(|&label| label as usize >= classes) {
        return invalid(format!(
            "the label of image {i} is {}, but there are {classes} classes: expected 0 to {}",
            labels[i],
            classes.saturating_sub(1)
        ));
    }
    Ok(())
}

/// Passes what the content of `dataset` is to `update`, in an order that never changes: shape (0 where sizes vary), number
/// of images and value of white as 64-bit little-endian numbers, the [identities](Dataset::identity) of all samples, and
/// their labels, of a byte each for up to 256 classes and four bytes otherwise.
pub fn fingerprint(dataset: &dyn Dataset, mut update: impl FnMut(&[u8])) {
    let (h, w) = dataset.size().unwrap_or((0, 0));
    for size in [dataset.channels(), h, w, dataset.len(), usize::from(dataset.max_value())] {
        update(&(size as u64).to_le_bytes());
    }
    for i in 0..dataset.len() {
        update(&dataset.identity(i));
    }
    if dataset.classes() <= 256 {
        let labels: Vec<u8> = dataset.labels().iter().map(|&label| label as u8).collect();
        update(&labels);
    } else {
        dataset.labels().iter().for_each(|label| update(&label.to_le_bytes()));
    }
}

/// Computes mean and standard deviation of each channel, `[c]`, of pixels scaled to 0 to 1: the arguments of
/// [`Normalize`](crate::transform::Normalize). A constant channel has standard deviation 0. Files that cannot be read are
/// left out if the data set [is on disk](Dataset::is_on_disk).
///
/// # Errors
/// As [`Dataset::read`], or if no image can be read.
pub fn mean_and_std(dataset: &dyn Dataset) -> Result<(Vec<f64>, Vec<f64>)> {
    let counts = count_all(dataset)?;
    let white = f64::from(dataset.max_value());
    let pixels = counts.first().map_or(0, |counts| counts.iter().sum::<u64>()) as f64;
    if pixels == 0.0 {
        return Err(Error::format("no image could be read").context(dataset.name()));
    }
    let mean_of = |counts: &[u64; 256], value: &dyn Fn(f64) -> f64| {
        let sum: f64 = counts.iter().enumerate().map(|(v, &n)| n as f64 * value(v as f64 / white)).sum();
        sum / pixels
    };
    Ok(counts
        .iter()
        .map(|counts| {
            let mean = mean_of(counts, &|v| v);
            // One value only: what is left of the sum is rounding.
            let is_constant = counts.iter().filter(|n| **n > 0).count() == 1;
            (mean, if is_constant { 0.0 } else { mean_of(counts, &|v| (v - mean).powi(2)).sqrt() })
        })
        .unzip())
}

/// Counts the values of all images, with all processors where images must be decoded. The sums are of integers: their
/// order does not matter.
fn count_all(dataset: &dyn Dataset) -> Result<Vec<[u64; 256]>> {
    let channels = dataset.channels();
    let threads = if dataset.is_on_disk() {
        std::thread::available_parallelism().map_or(1, usize::from).min(dataset.len())
    } else {
        1
    };
    let next = AtomicUsize::new(0);
    let count = || -> Result<Vec<[u64; 256]>> {
        let mut counts = vec![[0; 256]; channels];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= dataset.len() {
                return Ok(counts);
            }
            match dataset.count_values(i, &mut counts) {
                Err(e) if !dataset.is_on_disk() => return Err(e),
                _ => {}
            }
        }
    };
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(count)).collect();
        let mut parts = vec![count()];
        for worker in workers {
            let part = worker.join();
            parts.push(part.unwrap_or_else(|_| Err(Error::format("a thread that counts values panicked"))));
        }
        parts
    });
    let mut sums = vec![[0; 256]; channels];
    for part in parts {
        for (sum, counts) in sums.iter_mut().zip(part?) {
            sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
    }
    Ok(sums)
}

/// Some samples of a data set, in an order of their own.
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Vec<u32>,
    labels: Vec<u32>,
    name: String,
}

impl Subset {
    /// Creates the subset of the samples `indices` of `dataset`, called `name`.
    ///
    /// # Errors
    /// `InvalidArgument` if there are none, or one does not exist.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<u32>, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let label = |&i: &u32| dataset.labels().get(i as usize).copied();
        let Some(labels) = indices.iter().map(label).collect::<Option<Vec<u32>>>() else {
            return Err(Error::invalid_argument(format!(
                "{name}: an index exceeds the {} images of {}",
                dataset.len(),
                dataset.name()
            )));
        };
        if labels.is_empty() {
            return Err(Error::invalid_argument(format!("{name}: no images are left")));
        }
        Ok(Subset { dataset, indices, labels, name })
    }

    /// Returns the first `count` samples of `dataset`, or all if it has fewer; of a data set [on disk](Dataset::is_on_disk), whose images
    /// are in the order of their classes, one of each `len / count` samples.
    ///
    /// # Errors
    /// `InvalidArgument` for a count of 0.
    pub fn first(dataset: &Arc<dyn Dataset>, count: usize) -> Result<Arc<dyn Dataset>> {
        if count >= dataset.len() {
            return Ok(Arc::clone(dataset));
        }
        let (all, wanted) = (dataset.len() as u64, count as u64);
        let indices = match dataset.is_on_disk() {
            true => (0..wanted).map(|i| (i * all / wanted) as u32).collect(),
            false => (0..count as u32).collect(),
        };
        Ok(Arc::new(Subset::new(Arc::clone(dataset), indices, dataset.name())?))
    }

    /// Returns the data set that this is a part of.
    pub fn whole(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// Returns the index of each sample in the [whole](Self::whole) data set.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subset")
            .field("name", &self.name)
            .field("len", &self.indices.len())
            .field("dataset", &self.dataset)
            .finish_non_exhaustive()
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        &self.name
    }
    fn channels(&self) -> usize {
        self.dataset.channels()
    }
    fn size(&self) -> Option<(usize, usize)> {
        self.dataset.size()
    }
    fn labels(&self) -> &[u32] {
        &self.labels
    }
    fn class_names(&self) -> &[String] {
        self.dataset.class_names()
    }
    fn read(&self, i: usize, image: &mut ByteImage) -> Result<()> {
        self.dataset.read(self.indices[i] as usize, image)
    }
    fn read_at_least(&self, i: usize, size: (usize, usize), image: &mut ByteImage) -> Result<()> {
        self.dataset.read_at_least(self.indices[i] as usize, size, image)
    }
    fn identity(&self, i: usize) -> Cow<'_, [u8]> {
        self.dataset.identity(self.indices[i] as usize)
    }
    fn file(&self, i: usize) -> Option<(&Path, u64)> {
        self.dataset.file(self.indices[i] as usize)
    }
    fn file_bytes(&self, i: usize) -> Option<Result<Cow<'_, [u8]>>> {
        self.dataset.file_bytes(self.indices[i] as usize)
    }
    fn max_value(&self) -> u8 {
        self.dataset.max_value()
    }
    fn count_values(&self, i: usize, counts: &mut [[u64; 256]]) -> Result<()> {
        self.dataset.count_values(self.indices[i] as usize, counts)
    }
    fn is_on_disk(&self) -> bool {
        self.dataset.is_on_disk()
    }
}
