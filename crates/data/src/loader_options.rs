//! The options of a [`Loader`](crate::Loader).

use std::fmt;
use std::sync::Arc;

use crate::sample::Transform;
use crate::share::Share;

/// Options of a [`Loader`](crate::Loader).
///
/// ```
/// use neocog_data::LoaderOptions;
///
/// let options = LoaderOptions::new().batch_size(64).image_size((32, 32)).shuffle(Some(1)).workers(2);
/// assert_eq!(options.batch_size, 64);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoaderOptions {
    /// Number of samples per batch. The last batch of an epoch may be smaller. Default: 256.
    pub batch_size: usize,
    /// Size `(h, w)` to which images are resized. Default: `(28, 28)`.
    pub image_size: (usize, usize),
    /// Number of channels to which images are converted, or `None` for those of the data set. Default: `None`.
    pub channels: Option<usize>,
    /// Seed of the sample order, or `None` for the order of the data set. Default: `None`.
    pub shuffle: Option<u64>,
    /// Weight of each class for drawing samples with replacement, with the seed of `shuffle`; `None` to use each sample
    /// once. Default: `None`.
    pub class_weights: Option<Arc<[f64]>>,
    /// Maximum memory for images that were read and resized, in bytes, for data sets on disk. Default: 0.
    pub cache_bytes: u64,
    /// Whether images that are only resized may be read at a smaller size, where that is faster; see
    /// [`Dataset::read_at_least`](crate::Dataset::read_at_least). Default: false.
    pub fast_decode: bool,
    /// Transform applied to each sample. Default: `None`.
    pub augment: Option<Augment>,
    /// Number of worker threads, which does not affect the batches. Default: 1.
    pub workers: usize,
    /// What is loaded of an epoch. Default: all.
    pub share: Share,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions {
            batch_size: 256,
            image_size: (28, 28),
            channels: None,
            shuffle: None,
            class_weights: None,
            cache_bytes: 0,
            fast_decode: false,
            augment: None,
            workers: 1,
            share: Share::All,
        }
    }
}

impl LoaderOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of samples per batch.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets the size `(h, w)` to which images are resized.
    #[must_use]
    pub fn image_size(mut self, image_size: (usize, usize)) -> Self {
        self.image_size = image_size;
        self
    }

    /// Sets the seed of the sample order; `None` keeps the order of the data set.
    #[must_use]
    pub fn shuffle(mut self, seed: Option<u64>) -> Self {
        self.shuffle = seed;
        self
    }

    /// Sets the number of channels to which images are converted; `None` keeps those of the data set.
    #[must_use]
    pub fn channels(mut self, channels: Option<usize>) -> Self {
        self.channels = channels;
        self
    }

    /// Sets the weight of each class for drawing samples with replacement; `None` uses each sample once.
    #[must_use]
    pub fn class_weights(mut self, class_weights: Option<Arc<[f64]>>) -> Self {
        self.class_weights = class_weights;
        self
    }

    /// Sets the maximum memory for images that were read and resized, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, cache_bytes: u64) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Sets whether images that are only resized may be read at a smaller size.
    #[must_use]
    pub fn fast_decode(mut self, fast_decode: bool) -> Self {
        self.fast_decode = fast_decode;
        self
    }

    /// Sets the transform that is applied to each sample.
    #[must_use]
    pub fn augment(mut self, augment: Option<Augment>) -> Self {
        self.augment = augment;
        self
    }

    /// Sets the number of worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets what is loaded of an epoch.
    #[must_use]
    pub fn share(mut self, share: Share) -> Self {
        self.share = share;
        self
    }
}

/// A [`Transform`] and its seed.
#[derive(Clone)]
pub struct Augment {
    /// Seed, passed to the transform in [`SampleId::seed`](crate::SampleId::seed).
    pub seed: u64,
    /// Transform applied to each sample.
    pub transform: Arc<dyn Transform>,
}

impl Augment {
    /// Creates an augmentation that applies `transform` with `seed`.
    pub fn new(seed: u64, transform: Arc<dyn Transform>) -> Self {
        Augment { seed, transform }
    }
}

impl fmt::Debug for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Augment").field("seed", &self.seed).finish_non_exhaustive()
    }
}
