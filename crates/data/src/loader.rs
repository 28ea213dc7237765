//! [`Loader`]: batches of a [`Dataset`], shuffled, resized, and prepared ahead in a thread.
//!
//! ```text
//! worker:   order of the epoch -> per sample: bytes -> 0..255 -> resize -> /255 -> transform -> batch
//!                                                                                                 |
//! caller:   Epoch::next  <------------------------ one batch waits here <-------------------------+
//!           Batch dropped: its buffers go back and are used again
//! ```
//!
//! While the caller works on a batch at most two more exist for each worker, which is a thread: one that waits and one in the
//! making. Workers take turns: of three, the first makes batches 0, 3, 6, and the caller asks them in that order. The
//! order of the samples is [`permutation`]`(n, seed, epoch)` and a transform knows only its sample, so any number of
//! workers gives the same bits, and a run that is resumed in the middle of an epoch sees what an unbroken one would
//! have seen.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use neocog_base::{Error, ErrorKind, Result};

use crate::dataset::Dataset;
use crate::resize::{Resizer, unit};
use crate::shuffle::{SplitMix64, permutation};

/// Batches of a worker that wait for the caller; it makes the one after.
const WAITING: usize = 1;
/// More workers would have no core to work on.
const MOST_WORKERS: usize = 256;

/// What a [`Loader`] is to do.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Samples in a batch; the last batch of an epoch may be shorter.
    pub batch: usize,
    /// The size `(h, w)` of the images that are handed out.
    pub size: (usize, usize),
    /// The seed of the order of the samples; `None` keeps the data set's order.
    pub shuffle: Option<u64>,
    /// What to do with each sample before it goes into a batch.
    pub augment: Option<Augment>,
    /// Threads that make batches. They change the speed only.
    pub workers: usize,
}

impl Default for LoaderOptions {
    /// Batches of 256, images of 28x28, not shuffled, nothing done to the samples, one worker.
    fn default() -> Self {
        LoaderOptions { batch: 256, size: (28, 28), shuffle: None, augment: None, workers: 1 }
    }
}

/// A [`Transform`] and its seed.
#[derive(Clone)]
pub struct Augment {
    /// Handed to the transform.
    pub seed: u64,
    /// What to do with each sample.
    pub transform: Arc<dyn Transform>,
}

impl fmt::Debug for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Augment").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Changes a sample in the loader's thread, as augmentation does.
///
/// What it does must depend on its arguments only: then a resumed run sees the same samples.
pub trait Transform: Send + Sync {
    /// Changes `pixels`, `[c, h, w]` of `shape`, values 0 to 1, in place.
    ///
    /// # Errors
    /// Whatever it returns ends the epoch, and the caller gets it.
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()>;
}

/// Which sample, when: all that random choices about it may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SampleId {
    /// The seed of [`Augment`].
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample's place in the data set, whatever the order.
    pub index: usize,
}

impl SampleId {
    /// A stream of random numbers of this sample alone. Checkpoints rely on it: it must never change.
    pub fn random(self) -> SplitMix64 {
        let mut of_epoch = SplitMix64::new(self.seed, self.epoch);
        SplitMix64::new(of_epoch.next_u64(), self.index as u64)
    }
}

/// Makes batches of a data set, an epoch at a time.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    resizer: Resizer,
    pool: Arc<Pool>,
}

impl Loader {
    /// A loader of `dataset`.
    ///
    /// # Errors
    /// `Argument` for a batch of 0, for a size that cannot be, and for no workers or more than 256.
    pub fn new(dataset: impl Into<Arc<Dataset>>, options: LoaderOptions) -> Result<Self> {
        let dataset = dataset.into();
        if options.batch == 0 {
            return Err(Error::invalid_argument("a batch of 0 samples: expected at least 1"));
        }
        if !(1..=MOST_WORKERS).contains(&options.workers) {
            return Err(Error::invalid_argument(format!(
                "{} workers cannot make batches: expected 1 to {MOST_WORKERS}",
                options.workers
            )));
        }
        let [channels, h, w] = dataset.shape();
        let resizer = Resizer::new((h, w), options.size)?;
        let batch = options.batch.min(dataset.len());
        let values = [batch, channels, options.size.0, options.size.1];
        if values
            .iter()
            .try_fold(4usize, |n, &d| n.checked_mul(d))
            .is_none_or(|n| isize::try_from(n).is_err())
        {
            return Err(Error::invalid_argument(format!(
                "a batch of shape {values:?} is more than memory can hold"
            )));
        }
        // Of each worker the waiting ones and the one in the making, and the caller's.
        let pool = Arc::new(Pool { kept: (WAITING + 1) * options.workers + 1, buffers: Mutex::default() });
        Ok(Loader { dataset, options, resizer, pool })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// What the loader was told to do.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        self.dataset.len().div_ceil(self.options.batch)
    }

    /// The shape of a sample that is handed out, `[c, h, w]`.
    pub fn sample_shape(&self) -> [usize; 3] {
        [self.dataset.shape()[0], self.options.size.0, self.options.size.1]
    }

    /// The batches of `epoch`.
    ///
    /// # Errors
    /// `Io` where no thread can be started.
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from number `first` on: what [`epoch`](Self::epoch) gives after `first` batches.
    ///
    /// # Errors
    /// `Argument` where `first` is more than the number of batches, `Io` where no thread can be started.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Result<Epoch> {
        if first > self.batches() {
            return Err(Error::invalid_argument(format!(
                "cannot start at batch {first}: an epoch of {} has {} batches of {}",
                self.dataset.name(),
                self.batches(),
                self.options.batch
            )));
        }
        let left = self.batches() - first;
        let stop = Arc::new(AtomicBool::new(false));
        let mut epoch_of = Epoch { workers: Vec::new(), stop: Arc::clone(&stop), next: 0, left };
        let workers = self.options.workers.min(left);
        for worker in 0..workers {
            let (sender, receiver) = sync_channel(WAITING);
            let mut maker = Maker {
                dataset: Arc::clone(&self.dataset),
                options: self.options.clone(),
                resizer: self.resizer.clone(),
                pool: Arc::clone(&self.pool),
                levels: self.dataset.levels(),
                bytes: Vec::new(),
                resized: Vec::new(),
                stop: Arc::clone(&stop),
                epoch,
            };
            let thread = std::thread::Builder::new()
                .name(format!("neocog-loader-{worker}"))
                .spawn(move || maker.run(first + worker, workers, &sender))
                .map_err(|e| Error::io("cannot start a thread that loads batches", e))?;
            epoch_of.workers.push(Worker { receiver, thread });
        }
        Ok(epoch_of)
    }
}

/// Some samples, ready for a network.
pub struct Batch {
    /// `[n, c, h, w]`, row-major, 0 to 1 if no transform makes them something else.
    pub pixels: Vec<f32>,
    /// `[n]`, the class of each sample.
    pub labels: Vec<u32>,
    /// `[n]`, the place of each sample in the data set.
    pub indices: Vec<u32>,
    shape: [usize; 4],
    pool: Arc<Pool>,
}

impl Batch {
    /// The shape of the pixels, `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The number of samples.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.shape[0]
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.give(Buffers {
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

/// The batches of an epoch, in order. Its threads end with it.
#[derive(Debug)]
pub struct Epoch {
    /// Empty once the threads were told to end.
    workers: Vec<Worker>,
    stop: Arc<AtomicBool>,
    /// Whose turn it is.
    next: usize,
    left: usize,
}

#[derive(Debug)]
struct Worker {
    receiver: Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    /// The next batch; after an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // A worker sends a batch or an error for each that is left to it, whatever happens in it.
        let item = self.workers.get(self.next)?.receiver.recv();
        let item = item.unwrap_or_else(|_| Err(lost("it ended without a word")));
        self.next = (self.next + 1) % self.workers.len();
        self.left = if item.is_ok() { self.left - 1 } else { 0 };
        if self.left == 0 {
            self.end();
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left))
    }
}

impl Epoch {
    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for Worker { receiver, thread } in self.workers.drain(..) {
            drop(receiver);
            // Its panics were caught and sent.
            let _ = thread.join();
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a worker owns.
struct Maker {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    resizer: Resizer,
    pool: Arc<Pool>,
    levels: [u8; 256],
    /// A channel whose values go to 255, and that channel in the size that is handed out.
    bytes: Vec<u8>,
    resized: Vec<u8>,
    stop: Arc<AtomicBool>,
    epoch: u64,
}

impl Maker {
    /// Makes every `step`-th batch from number `first` on.
    fn run(&mut self, first: usize, step: usize, sender: &SyncSender<Result<Batch>>) {
        let order = self.options.shuffle.map(|seed| permutation(self.dataset.len() as u32, seed, self.epoch));
        let batches = self.dataset.len().div_ceil(self.options.batch);
        for number in (first..batches).step_by(step) {
            let made = catch_unwind(AssertUnwindSafe(|| self.batch(number, order.as_deref())));
            let item = match made {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(batch))) => Ok(batch),
                Ok(Err(e)) => Err(e.context(format!("batch {number} of epoch {}", self.epoch))),
                Err(panic) => Err(lost(&format!("it panicked in batch {number}: {}", said(panic.as_ref())))),
            };
            let failed = item.is_err();
            // Sending fails where the caller has gone.
            if sender.send(item).is_err() || failed {
                return;
            }
        }
    }

    /// Batch `number`, or `None` if it is not wanted any more.
    fn batch(&mut self, number: usize, order: Option<&[u32]>) -> Result<Option<Batch>> {
        let start = number * self.options.batch;
        let count = self.options.batch.min(self.dataset.len() - start);
        let [channels, ..] = self.dataset.shape();
        let (h, w) = self.resizer.to();
        let shape = [count, channels, h, w];

        let Buffers { mut pixels, mut labels, mut indices } = self.pool.take();
        pixels.clear();
        labels.clear();
        indices.clear();
        pixels.try_reserve_exact(shape.iter().product()).map_err(|e| {
            Error::invalid_argument(format!("there is no memory for a batch of shape {shape:?}"))
                .with_source(e)
        })?;
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
                self.bytes.clear();
                self.bytes.extend(channel.iter().map(|&p| self.levels[usize::from(p)]));
                &self.bytes
            };
            let channel = if self.resizer.is_identity() {
                channel
            } else {
                self.resized.resize(self.resizer.to().0 * self.resizer.to().1, 0);
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

/// Buffers that are not in use.
#[derive(Debug)]
struct Pool {
    /// How many are kept.
    kept: usize,
    buffers: Mutex<Vec<Buffers>>,
}

#[derive(Debug, Default)]
struct Buffers {
    pixels: Vec<f32>,
    labels: Vec<u32>,
    indices: Vec<u32>,
}

impl Pool {
    fn take(&self) -> Buffers {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, used: Buffers) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        // Pixels that the caller has taken out leave nothing to keep.
        if buffers.len() < self.kept && used.pixels.capacity() > 0 {
            buffers.push(used);
        }
    }
}

fn lost(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("the thread that loads batches failed: {what}"))
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
