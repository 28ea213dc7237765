//! [`Loader`]: shuffled, resized and transformed batches of a [`Dataset`], prefetched by worker threads.
//!
//! ```text
//! worker:   order of the epoch -> per sample: read -> resize -> cache -> transform of bytes -> /255 -> of numbers -> batch
//!                                                                                                                     |
//! caller:   Epoch::next  <----------------------------- queue of one batch per worker <-------------------------------+
//!           Batch dropped: its buffers return to the pool
//! ```
//!
//! Images are read and decoded by the workers. One that cannot be read is left out of its batch if the data set is
//! [on disk](Dataset::is_on_disk); [`Loader::unreadable`] lists them.
//!
//! Each worker prefetches at most two batches: one in the queue and one being built. Batches are assigned round-robin: the
//! first of three workers builds batches 0, 3, 6, and the caller receives from the workers in the same order. The order
//! of the samples is [`permutation`]`(n, seed, epoch)`, and a transform depends on its sample only. Batches are therefore
//! bit-identical for any number of workers, and an epoch that is resumed in the middle continues with the same batches.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use neocog_base::memory::no_memory;
use neocog_base::text::count;
use neocog_base::{Error, ErrorKind, Result};

use crate::cache::ImageCache;
use crate::dataset::Dataset;
use crate::image::ByteImage;
use crate::resize::{Filter, ResizeCache, Resizer};
use crate::sample::{SampleId, write_unit};
use crate::shuffle::{permutation, weighted_order};

pub use crate::loader_options::{Augment, LoaderOptions};

/// Capacity of the queue between a worker and the caller, in batches.
const QUEUE_CAPACITY: usize = 1;
const MAX_WORKERS: usize = 256;
/// The most memory of the buffers that are kept between two epochs.
const KEPT_BYTES: usize = 32 << 20;

/// Loads a data set in batches, one epoch at a time.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    options: LoaderOptions,
    pool: Arc<BufferPool>,
    cache: Arc<ImageCache>,
    unreadable: Arc<Mutex<BTreeMap<u32, String>>>,
}

impl Loader {
    /// Creates a loader of `dataset`.
    ///
    /// # Errors
    /// `InvalidArgument` for a batch size of 0, an invalid image size, a number of workers other than 1 to 256, and class
    /// weights that do not fit the classes.
    pub fn new(dataset: impl Into<Arc<dyn Dataset>>, options: LoaderOptions) -> Result<Self> {
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
        if let Some(weights) = &options.class_weights {
            let valid = weights.iter().all(|w| *w >= 0.0 && w.is_finite());
            let drawn = || dataset.labels().iter().any(|&label| weights[label as usize] > 0.0);
            if !valid || weights.len() != dataset.classes() || !drawn() {
                return Err(Error::invalid_argument(format!(
                    "class weights {weights:?}: expected one for each of the {} classes, not negative, and one above 0",
                    dataset.classes()
                )));
            }
        }
        // Checks the sizes.
        Resizer::new(dataset.size().unwrap_or(options.image_size), options.image_size)?;
        let count = options.batch_size.min(dataset.len());
        let channels = options.channels.unwrap_or(dataset.channels());
        let shape = [count, channels, options.image_size.0, options.image_size.1];
        if shape.iter().try_fold(4usize, |n, &d| n.checked_mul(d)).is_none_or(|n| isize::try_from(n).is_err())
        {
            return Err(Error::invalid_argument(format!(
                "a batch of shape {shape:?} exceeds the address space"
            )));
        }
        let capacity = Self::batches_in_memory(options.workers);
        let pool = Arc::new(BufferPool { capacity, buffers: Mutex::default() });
        let cache_bytes = if dataset.is_on_disk() { options.cache_bytes } else { 0 };
        let cache = Arc::new(ImageCache::new(dataset.len(), cache_bytes));
        Ok(Loader { dataset, options, pool, cache, unreadable: Arc::default() })
    }

    /// Returns the maximum number of batches that a loader with `workers` threads has in memory: per worker, the queue and the batch
    /// being built; and the batch of the caller.
    pub fn batches_in_memory(workers: usize) -> usize {
        (QUEUE_CAPACITY + 1) * workers + 1
    }

    /// Returns the data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// Returns the options.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// Returns the number of batches per epoch, of those that are this loader's [share](LoaderOptions::share).
    pub fn batches(&self) -> usize {
        self.options.share.batches(self.dataset.len().div_ceil(self.options.batch_size))
    }

    /// Returns the number of samples of each batch, including those of others and those that cannot be read.
    pub fn batch_len(&self, batch: usize) -> usize {
        let start = self.options.share.number(batch) * self.options.batch_size;
        self.options.batch_size.min(self.dataset.len().saturating_sub(start))
    }

    /// Returns the shape of a sample of a batch, `[c, h, w]`.
    pub fn sample_shape(&self) -> [usize; 3] {
        let (h, w) = self.options.image_size;
        [self.options.channels.unwrap_or(self.dataset.channels()), h, w]
    }

    /// Returns the samples that could not be read so far, with their indices and error messages.
    pub fn unreadable(&self) -> Vec<(u32, String)> {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.iter().map(|(&i, message)| (i, message.clone())).collect()
    }

    /// Returns the memory that the cache uses, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.used()
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
        let pool = Arc::clone(&self.pool);
        let mut batches =
            Epoch { workers: Vec::new(), stop: Arc::clone(&stop), next_worker: 0, remaining, pool };
        let workers = self.options.workers.min(remaining);
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(QUEUE_CAPACITY);
            let mut builder = BatchBuilder {
                dataset: Arc::clone(&self.dataset),
                options: self.options.clone(),
                shape: self.sample_shape(),
                resizer: ResizeCache::default(),
                image: ByteImage::default(),
                pool: Arc::clone(&self.pool),
                cache: Arc::clone(&self.cache),
                unreadable: Arc::clone(&self.unreadable),
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
    /// Position of each sample in its batch, `[n]`, ascending: those of others and those that cannot be read are left out.
    pub positions: Vec<u32>,
    shape: [usize; 4],
    pool: Arc<BufferPool>,
}

impl Batch {
    /// Returns the shape of the pixels, `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there are no samples: none of them could be read.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
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
    pool: Arc<BufferPool>,
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
        // Between epochs, the evaluation has large buffers of its own.
        self.pool.release();
    }
}

/// State of a worker thread.
struct BatchBuilder {
    dataset: Arc<dyn Dataset>,
    options: LoaderOptions,
    /// Shape of a sample, `[c, h, w]`.
    shape: [usize; 3],
    resizer: ResizeCache,
    image: ByteImage,
    pool: Arc<BufferPool>,
    cache: Arc<ImageCache>,
    unreadable: Arc<Mutex<BTreeMap<u32, String>>>,
    stop: Arc<AtomicBool>,
    epoch: u64,
}

impl BatchBuilder {
    /// Builds and sends every `step`-th batch from batch `first` on.
    fn run(&mut self, first: usize, step: usize, sender: &SyncSender<Result<Batch>>) {
        let order = self.order();
        let share = self.options.share.clone();
        let batches = share.batches(self.dataset.len().div_ceil(self.options.batch_size));
        for number in (first..batches).step_by(step).map(|i| share.number(i)) {
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

    /// The samples of the epoch in their order, or `None` for that of the data set.
    fn order(&self) -> Option<Vec<u32>> {
        let seed = self.options.shuffle?;
        Some(match &self.options.class_weights {
            None => permutation(self.dataset.len() as u32, seed, self.epoch),
            Some(weights) => {
                let weights = self.dataset.labels().iter().map(|&label| weights[label as usize]);
                weighted_order(weights, seed, self.epoch)
            }
        })
    }

    /// Builds batch `number`; returns `None` if the epoch was dropped.
    fn batch(&mut self, number: usize, order: Option<&[u32]>) -> Result<Option<Batch>> {
        let start = number * self.options.batch_size;
        let count = self.options.batch_size.min(self.dataset.len() - start);
        let own = self.options.share.of_batch(count);
        let [c, h, w] = self.shape;

        let Buffers { mut pixels, mut labels, mut indices } = self.pool.take();
        let mut positions = Vec::with_capacity(own.len());
        pixels.clear();
        labels.clear();
        indices.clear();
        let elements = own.len() * c * h * w;
        pixels.try_reserve_exact(elements).map_err(|_| {
            no_memory::<f32>(elements, format_args!("a batch of shape {:?}", [own.len(), c, h, w]))
        })?;
        for position in own {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let number = start + position;
            let index = order.map_or(number, |order| order[number] as usize);
            if self.sample(index, &mut pixels)? {
                positions.push(position as u32);
                labels.push(self.dataset.labels()[index]);
                indices.push(index as u32);
            }
        }
        let shape = [labels.len(), c, h, w];
        Ok(Some(Batch { pixels, labels, indices, positions, shape, pool: Arc::clone(&self.pool) }))
    }

    /// Appends sample `index` to `pixels`; returns whether it could be read.
    fn sample(&mut self, index: usize, pixels: &mut Vec<f32>) -> Result<bool> {
        if !self.start(index)? {
            return Ok(false);
        }
        let start = pixels.len();
        pixels.resize(start + self.shape.iter().product::<usize>(), 0.0);
        let pixels = &mut pixels[start..];
        match &self.options.augment {
            None => write_unit(&self.image, pixels, self.shape)?,
            Some(Augment { seed, transform }) => {
                let sample = SampleId { seed: *seed, epoch: self.epoch, index };
                transform.finish(&mut self.image, pixels, self.shape, sample, &mut self.resizer)?;
            }
        }
        Ok(true)
    }

    /// Sets the image to what is the same of sample `index` in every epoch; returns whether it could be read.
    fn start(&mut self, index: usize) -> Result<bool> {
        if let Some(image) = self.cache.get(index) {
            self.image.copy_from(image);
            return Ok(true);
        }
        let size = self.options.image_size;
        let least = match &self.options.augment {
            _ if !self.options.fast_decode => None,
            None => Some(size),
            Some(augment) => augment.transform.least_size(size),
        };
        let read = match least {
            None => self.dataset.read(index, &mut self.image),
            Some(least) => self.dataset.read_at_least(index, least, &mut self.image),
        };
        if let Err(e) = read {
            if !self.dataset.is_on_disk() {
                return Err(e);
            }
            let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            unreadable.insert(index as u32, e.to_string());
            return Ok(false);
        }
        self.image.convert(self.shape[0])?;
        match &self.options.augment {
            None => self.resizer.resize(&mut self.image, size, Filter::Bilinear)?,
            Some(augment) => augment.transform.start(&mut self.image, size, &mut self.resizer)?,
        }
        self.cache.put(index, &self.image);
        Ok(true)
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
    /// Drops the buffers if they are large.
    fn release(&self) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = buffers.iter().map(|used| used.pixels.capacity() * size_of::<f32>()).sum();
        if bytes > KEPT_BYTES {
            buffers.clear();
        }
    }

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
