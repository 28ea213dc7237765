//! [`Loader`]: shuffled, resized and transformed batches of a [`Dataset`], prefetched by worker threads.
//!
//! ```text
//! worker:   order of the epoch -> per sample: bytes -> 0..255 -> resize -> /255 -> transform -> batch
//!                                                                                                 |
//! caller:   Epoch::next  <------------------- queue of one batch per worker <---------------------+
//!           Batch dropped: its buffers return to the pool
//! ```
//!
//! Each worker prefetches at most two batches: one in the queue and one being built. Batches are assigned round-robin: the
//! first of three workers builds batches 0, 3, 6, and the caller receives from the workers in the same order. The order
//! of the samples is [`permutation`]`(n, seed, epoch)`, and a transform depends on its sample only. Batches are therefore
//! bit-identical for any number of workers, and an epoch that is resumed in the middle continues with the same batches.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use neocog_base::memory::{no_memory, try_vec};
use neocog_base::text::count;
use neocog_base::{Error, ErrorKind, Result};

use crate::dataset::Dataset;
use crate::resize::{Resizer, unit};
use crate::shuffle::{SplitMix64, permutation};

/// Capacity of the queue between a worker and the caller, in batches.
const QUEUE_CAPACITY: usize = 1;
const MAX_WORKERS: usize = 256;

/// Options of a [`Loader`].
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
    /// Seed of the sample order, or `None` for the order of the data set. Default: `None`.
    pub shuffle: Option<u64>,
    /// Transform applied to each sample. Default: `None`.
    pub augment: Option<Augment>,
    /// Number of worker threads, which does not affect the batches. Default: 1.
    pub workers: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions { batch_size: 256, image_size: (28, 28), shuffle: None, augment: None, workers: 1 }
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
}

/// A [`Transform`] and its seed.
#[derive(Clone)]
pub struct Augment {
    /// Seed, passed to the transform in [`SampleId::seed`].
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

/// A transformation of one sample, run in the worker threads of a [`Loader`].
///
/// The result must depend on the arguments only, so that resumed runs are reproducible.
pub trait Transform: Send + Sync {
    /// Transforms `pixels` in place: `[c, h, w]` with the extents `shape`, values from 0 to 1.
    ///
    /// # Errors
    /// An error ends the epoch and is returned to the caller of [`Epoch::next`].
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()>;
}

/// Identifies one use of a sample: everything that the random choices of a transform may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SampleId {
    /// Seed of the [`Augment`].
    pub seed: u64,
    /// Epoch, counted from 0.
    pub epoch: u64,
    /// Index of the sample in the data set, independent of the order.
    pub index: usize,
}

impl SampleId {
    /// Returns the random number generator of this sample. Checkpoints depend on its numbers: they must never change.
    pub fn random(self) -> SplitMix64 {
        let mut of_epoch = SplitMix64::new(self.seed, self.epoch);
        SplitMix64::new(of_epoch.next_u64(), self.index as u64)
    }
}

/// Loads a data set in batches, one epoch at a time.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    resizer: Resizer,
    pool: Arc<BufferPool>,
}

impl Loader {
    /// Creates a loader of `dataset`.
    ///
    /// # Errors
    /// `InvalidArgument` for a batch size of 0, an invalid image size, and a number of workers other than 1 to 256.
    pub fn new(dataset: impl Into<Arc<Dataset>>, options: LoaderOptions) -> Result<Self> {
        let dataset = dataset.into();
        if options.batch_size == 0 {
            return Err(Error::invalid_argument("batch size 0: expected at least 1"));
        }
        if !(1..=MAX_WORKERS).contains(&options.workers) {
            return Err(Error::invalid_argument(format!(
                "{} loader workers: expected 1 to {MAX_WORKERS}",
                options.workers
            )));
        }
        let [channels, h, w] = dataset.shape();
        let resizer = Resizer::new((h, w), options.image_size)?;
        let count = options.batch_size.min(dataset.len());
        let shape = [count, channels, options.image_size.0, options.image_size.1];
        if shape.iter().try_fold(4usize, |n, &d| n.checked_mul(d)).is_none_or(|n| isize::try_from(n).is_err())
        {
            return Err(Error::invalid_argument(format!(
                "a batch of shape {shape:?} exceeds the address space"
            )));
        }
        let capacity = Self::batches_in_memory(options.workers);
        let pool = Arc::new(BufferPool { capacity, buffers: Mutex::default() });
        Ok(Loader { dataset, options, resizer, pool })
    }

    /// Returns the maximum number of batches that a loader with `workers` threads has in memory: per worker, the queue and the batch
    /// being built; and the batch of the caller.
    pub fn batches_in_memory(workers: usize) -> usize {
        (QUEUE_CAPACITY + 1) * workers + 1
    }

    /// Returns the data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// Returns the options.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// Returns the number of batches per epoch.
    pub fn batches(&self) -> usize {
        self.dataset.len().div_ceil(self.options.batch_size)
    }

    /// Returns the shape of a sample after resizing, `[c, h, w]`.
    pub fn sample_shape(&self) -> [usize; 3] {
        [self.dataset.shape()[0], self.options.image_size.0, self.options.image_size.1]
    }

    /// Starts loading the batches of `epoch`.
    ///
    /// # Errors
    /// `Io` if a worker thread cannot be started.
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        self.epoch_from(epoch, 0)
    }

    /// Starts loading the batches of `epoch` from batch `first` on, to resume an epoch.
    ///
    /// # Errors
    /// `InvalidArgument` if `first` exceeds the number of batches; `Io` if a worker thread cannot be started.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Result<Epoch> {
        if first > self.batches() {
            return Err(Error::invalid_argument(format!(
                "cannot start at batch {first}: an epoch of {} has {} of size {}",
                self.dataset.name(),
                count(self.batches(), "batch"),
                self.options.batch_size
            )));
        }
        let remaining = self.batches() - first;
        let stop = Arc::new(AtomicBool::new(false));
        let mut batches = Epoch { workers: Vec::new(), stop: Arc::clone(&stop), next_worker: 0, remaining };
        let workers = self.options.workers.min(remaining);
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(QUEUE_CAPACITY);
            let mut builder = BatchBuilder {
                dataset: Arc::clone(&self.dataset),
                options: self.options.clone(),
                resizer: self.resizer.clone(),
                pool: Arc::clone(&self.pool),
                levels: self.dataset.levels(),
                full_range: Vec::new(),
                resized: Vec::new(),
                stop: Arc::clone(&stop),
                epoch,
            };
            let thread = std::thread::Builder::new()
                .name(format!("neocog-loader-{worker}"))
                .spawn(move || builder.run(first + worker, workers, &sender))
                .map_err(|e| Error::io("cannot start a loader thread", e))?;
            batches.workers.push(Worker { receiver, thread });
        }
        Ok(batches)
    }
}

/// A batch of samples. Its buffers are reused after it is dropped.
pub struct Batch {
    /// Pixels `[n, c, h, w]`, row-major, from 0 to 1 unless a transform changes the range.
    pub pixels: Vec<f32>,
    /// Class of each sample, `[n]`.
    pub labels: Vec<u32>,
    /// Index of each sample in the data set, `[n]`.
    pub indices: Vec<u32>,
    shape: [usize; 4],
    pool: Arc<BufferPool>,
}

impl Batch {
    /// Returns the shape of the pixels, `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the number of samples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.shape[0]
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.put(Buffers {
            pixels: std::mem::take(&mut self.pixels),
            labels: std::mem::take(&mut self.labels),
            indices: std::mem::take(&mut self.indices),
        });
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("shape", &self.shape)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Iterator over the batches of an epoch. Dropping it stops its worker threads.
#[derive(Debug)]
pub struct Epoch {
    /// Empty after the threads were stopped.
    workers: Vec<Worker>,
    stop: Arc<AtomicBool>,
    next_worker: usize,
    /// Number of batches not yet returned.
    remaining: usize,
}

#[derive(Debug)]
struct Worker {
    receiver: Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    /// Returns the next batch. An error ends the iteration.
    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        // A worker sends a batch or an error for each of its batches, even if it panics.
        let item = self.workers.get(self.next_worker)?.receiver.recv();
        let item = item.unwrap_or_else(|_| Err(worker_failed("it ended unexpectedly")));
        self.next_worker = (self.next_worker + 1) % self.workers.len();
        self.remaining = if item.is_ok() { self.remaining - 1 } else { 0 };
        if self.remaining == 0 {
            self.stop_workers();
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining.min(1), Some(self.remaining))
    }
}

impl Epoch {
    fn stop_workers(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for Worker { receiver, thread } in self.workers.drain(..) {
            drop(receiver);
            // Panics were caught and sent as errors.
            let _ = thread.join();
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

/// State of a worker thread.
struct BatchBuilder {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    resizer: Resizer,
    pool: Arc<BufferPool>,
    levels: [u8; 256],
    /// A channel scaled to 0 to 255.
    full_range: Vec<u8>,
    /// A resized channel.
    resized: Vec<u8>,
    stop: Arc<AtomicBool>,
    epoch: u64,
}

impl BatchBuilder {
    /// Builds and sends every `step`-th batch from batch `first` on.
    fn run(&mut self, first: usize, step: usize, sender: &SyncSender<Result<Batch>>) {
        let order = self.options.shuffle.map(|seed| permutation(self.dataset.len() as u32, seed, self.epoch));
        let batches = self.dataset.len().div_ceil(self.options.batch_size);
        for number in (first..batches).step_by(step) {
            let result = catch_unwind(AssertUnwindSafe(|| self.batch(number, order.as_deref())));
            let item = match result {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(batch))) => Ok(batch),
                Ok(Err(e)) => Err(e.context(format!("batch {number} of epoch {}", self.epoch))),
                Err(panic) => Err(worker_failed(&format!(
                    "it panicked in batch {number}: {}",
                    panic_message(panic.as_ref())
                ))),
            };
            let failed = item.is_err();
            // Sending fails if the epoch was dropped.
            if sender.send(item).is_err() || failed {
                return;
            }
        }
    }

    /// Builds batch `number`; returns `None` if the epoch was dropped.
    fn batch(&mut self, number: usize, order: Option<&[u32]>) -> Result<Option<Batch>> {
        let start = number * self.options.batch_size;
        let count = self.options.batch_size.min(self.dataset.len() - start);
        let [channels, ..] = self.dataset.shape();
        let (h, w) = self.resizer.to();
        let shape = [count, channels, h, w];

        let Buffers { mut pixels, mut labels, mut indices } = self.pool.take();
        pixels.clear();
        labels.clear();
        indices.clear();
        let elements = shape.iter().product();
        pixels
            .try_reserve_exact(elements)
            .map_err(|_| no_memory::<f32>(elements, format_args!("a batch of shape {shape:?}")))?;
        for position in start..start + count {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let index = order.map_or(position, |order| order[position] as usize);
            self.sample(index, &mut pixels)?;
            labels.push(self.dataset.labels()[index].into());
            indices.push(index as u32);
        }
        Ok(Some(Batch { pixels, labels, indices, shape, pool: Arc::clone(&self.pool) }))
    }

    /// Appends sample `index` to `pixels`.
    fn sample(&mut self, index: usize, pixels: &mut Vec<f32>) -> Result<()> {
        let [channels, h, w] = self.dataset.shape();
        let start = pixels.len();
        for channel in self.dataset.image(index).chunks_exact(h * w) {
            let channel = if self.dataset.max_value() == 255 {
                channel
            } else {
                self.full_range.clear();
                self.full_range.extend(channel.iter().map(|&p| self.levels[usize::from(p)]));
                &self.full_range
            };
            let channel = if self.resizer.is_identity() {
                channel
            } else {
                let (h, w) = self.resizer.to();
                if self.resized.len() != h * w {
                    self.resized = try_vec(h * w, format_args!("an image of {h} x {w} pixels"))?;
                }
                self.resizer.resize(channel, &mut self.resized);
                &self.resized
            };
            pixels.extend(channel.iter().map(|&p| unit(p)));
        }
        if let Some(Augment { seed, transform }) = &self.options.augment {
            let (h, w) = self.resizer.to();
            let sample = SampleId { seed: *seed, epoch: self.epoch, index };
            transform.apply(&mut pixels[start..], [channels, h, w], sample)?;
        }
        Ok(())
    }
}

/// Buffers of dropped batches, for reuse.
#[derive(Debug)]
struct BufferPool {
    /// Maximum number of kept buffers.
    capacity: usize,
    buffers: Mutex<Vec<Buffers>>,
}

#[derive(Debug, Default)]
struct Buffers {
    pixels: Vec<f32>,
    labels: Vec<u32>,
    indices: Vec<u32>,
}

impl BufferPool {
    fn take(&self) -> Buffers {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put(&self, used: Buffers) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        // The caller may have moved the pixels out of the batch.
        if buffers.len() < self.capacity && used.pixels.capacity() > 0 {
            buffers.push(used);
        }
    }
}

fn worker_failed(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("the loader thread failed: {reason}"))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
