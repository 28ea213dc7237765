//! The loader alone: images per second that are read, decoded, augmented and put into batches, beside torchvision's.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use neocog_data::transform::Preset;
use neocog_data::{Augment, Dataset, Loader, LoaderOptions};
use neocog_tensor::{Error, Result};
use serde::Serialize;

use crate::python::Python;
use crate::timing::median;

/// Options of [`bench_loader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Number of worker threads, and of worker processes of PyTorch. Default: 2.
    pub workers: usize,
    /// Batch size. Default: 32.
    pub batch: usize,
    /// Height and width of the random crops. Default: 224.
    pub size: usize,
    /// Number of interleaved rounds of one epoch each. Default: 5.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { workers: 2, batch: 32, size: 224, rounds: 5 }
    }
}

impl Options {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of workers.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets the batch size.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the height and width of the random crops.
    #[must_use]
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sets the number of rounds.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// Images per second of the loader, medians of the rounds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoaderTiming {
    /// Number of images of an epoch.
    pub images: usize,
    /// Number of workers.
    pub workers: usize,
    /// Images per second.
    #[serde(rename = "ours")]
    pub images_per_s: f64,
    /// Images per second of torchvision.
    #[serde(rename = "theirs")]
    pub baseline_images_per_s: Option<f64>,
    /// Median, smallest and largest ratio of a round.
    pub ratio: Option<[f64; 3]>,
}

/// Measures the loader with the transforms of ImageNet's training: a random crop that is resized, a flip, normalization. With `python`,
/// interleaved with torchvision's `ImageFolder` on `folder`, the folder of `dataset`. An epoch before the measurement warms up.
///
/// # Errors
/// If an image cannot be read, or Python or torchvision is missing or fails.
pub fn bench_loader(
    dataset: &Arc<dyn Dataset>,
    folder: &Path,
    options: &Options,
    python: Option<&Python>,
) -> Result<LoaderTiming> {
    let Options { workers, batch, size, rounds } = *options;
    let pipeline = Preset::ImageNet.pipeline(3, (size, size));
    let loading = LoaderOptions::new()
        .batch_size(batch)
        .image_size((size, size))
        .channels(Some(3))
        .shuffle(Some(0))
        .augment(Some(Augment::new(0, Arc::new(pipeline))))
        .workers(workers);
    let loader = Loader::new(Arc::clone(dataset), loading)?;
    let mut number = 0;
    let mut epoch = || -> Result<f64> {
        let (start, mut images) = (Instant::now(), 0);
        for batch in loader.epoch(number)? {
            images += batch?.labels.len();
        }
        number += 1;
        if images != dataset.len() {
            return Err(Error::format("not all images could be read"));
        }
        Ok(start.elapsed().as_secs_f64())
    };
    epoch()?;
    let (mut times, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        times.push(epoch()?);
        if let Some(python) = python {
            baseline.push(python.loader(folder, workers, [batch, size])?);
        }
    }
    let images = dataset.len();
    let per_s = |times: &[f64]| images as f64 / median(times.iter().copied());
    let mut ratios: Vec<f64> = times.iter().zip(&baseline).map(|(time, baseline)| baseline / time).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio =
        (!ratios.is_empty()).then(|| [median(ratios.iter().copied()), ratios[0], ratios[ratios.len() - 1]]);
    Ok(LoaderTiming {
        images,
        workers,
        images_per_s: per_s(&times),
        baseline_images_per_s: (!baseline.is_empty()).then(|| per_s(&baseline)),
        ratio,
    })
}
