//! Memory of the CPU device: aligned buffers that return to a pool when dropped. Devices with their own memory use the same
//! kind of pool. Large buffers of the CPU are regions of slabs instead (`arena.rs`), which any other large buffer can use again.
//!
//! A training step allocates the same sizes repeatedly, so after the first step no memory is requested from the system and no
//! page is touched for the first time. Sizes are rounded up to size classes, which waste at most an eighth. A free buffer is
//! only reused for its own class, and the classes in use change within a step. The pool therefore keeps free buffers until it
//! holds three times the peak memory in use, then frees buffers of the least recently requested class. With a lower limit, a
//! loop that exceeds it would free exactly the buffers that it needs next, and pay for every page again.

mod arena;
mod line;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};

use neocog_base::{Error, Result};

use arena::{Arena, Region};
use line::{LINE, Line};

/// Limit of the memory held by a pool, in use and free, as a multiple of the peak memory in use. All tested networks need less
/// than 2.5: each size class has its own buffers.
const HELD: usize = 3;

/// Number of lines from which on a buffer is a region of a slab: 256 KiB. Smaller ones are reused while they are in a cache.
const LARGE: usize = 1 << 12;

/// Floats, aligned to 64 bytes, that return to the pool when dropped.
///
/// A new buffer has unspecified contents.
pub struct Buffer {
    memory: Memory,
    len: usize,
}

enum Memory {
    Small(Box<[Line]>),
    Large(Region),
    /// Of a buffer that was dropped.
    Returned,
}

impl fmt::Debug for Buffer {
    /// Without the elements, which may be many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Allocates a buffer of `len` floats with unspecified contents.
    ///
    /// # Errors
    /// `OutOfMemory` if the memory cannot be allocated, even after free buffers of the pool have been released.
    pub fn new(len: usize) -> Result<Self> {
        let lines = len.div_ceil(LINE);
        let memory = if lines < LARGE { Self::small(size_class(lines)) } else { Self::large(lines) };
        Ok(Buffer { memory: memory.ok_or_else(|| no_memory(len))?, len })
    }

    fn small(lines: usize) -> Option<Memory> {
        if let Some(lines) = pool().small.take(lines) {
            return Some(Memory::Small(lines));
        }
        let allocate = || bytemuck::allocation::try_zeroed_slice_box(lines).ok();
        let made = allocate().or_else(|| {
            release_cached_memory();
            allocate()
        })?;
        pool().small.made(lines);
        Some(Memory::Small(made))
    }

    fn large(lines: usize) -> Option<Memory> {
        // A statement of its own: it ends with the lock.
        let region = pool().take_large(lines);
        if let Some(region) = region {
            return Some(Memory::Large(region));
        }
        release_cached_memory();
        pool().take_large(lines).map(Memory::Large)
    }
}

#[cold]
fn no_memory(len: usize) -> Error {
    Error::out_of_memory(format!("cannot allocate {} bytes", len as u128 * size_of::<f32>() as u128))
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let lines: &[Line] = match &self.memory {
            Memory::Small(lines) => lines,
            Memory::Large(region) => region.as_slice(),
            Memory::Returned => &[],
        };
        &bytemuck::cast_slice(lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let lines: &mut [Line] = match &mut self.memory {
            Memory::Small(lines) => lines,
            Memory::Large(region) => region.as_mut_slice(),
            Memory::Returned => &mut [],
        };
        &mut bytemuck::cast_slice_mut(lines)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // What the pool does not keep is freed after its lock is released.
        match std::mem::replace(&mut self.memory, Memory::Returned) {
            Memory::Small(lines) => {
                let units = lines.len();
                let _freed = pool().small.put_back(lines, units);
            }
            Memory::Large(region) => {
                let _freed = pool().put_back_large(region);
            }
            Memory::Returned => {}
        }
    }
}

/// State of a memory pool; sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Memory in use.
    pub in_use: usize,
    /// Peak memory in use since the pool was last released.
    pub peak_in_use: usize,
    /// Free memory, kept for reuse.
    pub cached: usize,
    /// Number of allocations from the system or the driver.
    pub system_allocations: usize,
}

/// Returns the state of the memory pool of the CPU device.
pub fn memory_report() -> MemoryReport {
    pool().report()
}

/// Frees the unused memory of the CPU device's pool, but slabs of which a part is in use, and resets the peak.
pub fn release_cached_memory() {
    // Freed after the lock is released.
    let free = pool().release();
    drop(free);
}

/// Allocates scratch memory for kernels from the pool.
#[derive(Clone, Copy, Debug)]
pub struct Scratch(());

impl Scratch {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Scratch(())
    }

    /// Allocates a buffer of `len` floats with unspecified contents. May be called by several threads at once.
    ///
    /// If the memory cannot be allocated, the kernel ends by unwinding, and [`run`](crate::run) returns the error.
    pub fn take(&self, len: usize) -> Buffer {
        Buffer::new(len).unwrap_or_else(|e| std::panic::resume_unwind(Box::new(OutOfMemory(e))))
    }

    /// Allocates one buffer for parts of some lengths, which [`split`] returns. One buffer costs a kernel less than several.
    pub(crate) fn take_parts<const N: usize>(&self, lens: [usize; N]) -> Buffer {
        self.take(lens.into_iter().map(|len| len.next_multiple_of(LINE)).sum())
    }

    /// Calls `work` with scratch memory.
    ///
    /// # Errors
    /// If scratch memory cannot be allocated.
    pub(crate) fn with<T>(work: impl FnOnce(&Scratch) -> T) -> Result<T> {
        // After an error, the caller drops what `work` has written in part; updated state is then unspecified.
        std::panic::catch_unwind(AssertUnwindSafe(|| work(&Scratch(())))).map_err(|payload| match payload
            .downcast::<OutOfMemory>(
        ) {
            Ok(error) => error.0.context("scratch memory"),
            Err(other) => std::panic::resume_unwind(other),
        })
    }
}

/// Returns the parts of a buffer of [`Scratch::take_parts`], each aligned to a cache line.
pub(crate) fn split<const N: usize>(buffer: &mut [f32], lens: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = buffer;
    lens.map(|len| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
        rest = behind;
        &mut part[..len]
    })
}

/// The payload of the unwinding of a kernel that cannot allocate scratch memory.
struct OutOfMemory(Error);

/// Pool of the free buffers of a device, which also counts all its memory. Sizes are counted in units.
pub(crate) struct Pool<T> {
    /// Size of a unit in bytes.
    unit: usize,
    /// Size classes by number of units.
    free: BTreeMap<usize, Class<T>>,
    /// Number of requests and returns.
    clock: u64,
    report: MemoryReport,
}

/// Free buffers of one size class.
struct Class<T> {
    buffers: Vec<T>,
    /// Time of the last request.
    requested: u64,
    /// Time of the last return.
    returned: u64,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Class { buffers: Vec::new(), requested: 0, returned: 0 }
    }
}

thread_local! {
    static SHORT_LIVED: Cell<bool> = const { Cell::new(false) };
}

/// Whether allocations of this thread are short-lived; see [`Pool::take_recent`].
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "on the CPU, a plan has its own buffer"))]
pub(crate) fn is_short_lived() -> bool {
    SHORT_LIVED.get()
}

/// Marks allocations of this thread as short-lived until dropped.
#[must_use]
#[derive(Debug)]
pub struct ShortLived {
    previous: bool,
}

impl ShortLived {
    /// Begins.
    pub fn begin() -> Self {
        ShortLived { previous: SHORT_LIVED.replace(true) }
    }
}

impl Drop for ShortLived {
    fn drop(&mut self) {
        SHORT_LIVED.set(self.previous);
    }
}

static POOL: Mutex<CpuPool> =
    Mutex::new(CpuPool { small: Pool::new(size_of::<Line>()), large: Arena::new() });

fn pool() -> MutexGuard<'static, CpuPool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool of the CPU device.
struct CpuPool {
    /// The small buffers; counts the large ones, too.
    small: Pool<Box<[Line]>>,
    large: Arena,
}

impl CpuPool {
    /// Takes a large buffer, if necessary from a new slab.
    fn take_large(&mut self, lines: usize) -> Option<Region> {
        let taken = self.large.take(lines);
        let region = match taken {
            Some(region) => region,
            None => {
                self.large.grow(lines)?;
                self.small.report.system_allocations += 1;
                self.large.take(lines)?
            }
        };
        self.small.count(region.lines());
        Some(region)
    }

    /// Returns a large buffer. Returns the slab that the caller must free.
    fn put_back_large(&mut self, region: Region) -> Option<arena::Slab> {
        self.small.report.in_use -= region.lines() * size_of::<Line>();
        // The first slab is larger than what small networks need, and kept all the same.
        let limit = HELD * self.small.report.peak_in_use.max(arena::MIN_SLAB * size_of::<Line>());
        self.large.put_back(region, |arena| arena.sizes().0 * size_of::<Line>() > limit)
    }

    fn report(&self) -> MemoryReport {
        let mut report = self.small.report();
        report.cached += self.large.sizes().1 * size_of::<Line>();
        report
    }

    /// Removes all that is free; the caller frees it.
    fn release(&mut self) -> (Vec<Box<[Line]>>, Vec<arena::Slab>) {
        (self.small.release(), self.large.release())
    }
}

impl<T> Pool<T> {
    /// Creates an empty pool, whose units have `unit` bytes.
    pub(crate) const fn new(unit: usize) -> Self {
        let report = MemoryReport { in_use: 0, peak_in_use: 0, cached: 0, system_allocations: 0 };
        Pool { unit, free: BTreeMap::new(), clock: 0, report }
    }

    /// Takes a free buffer of `units`, which is a [`size_class`]. If there is none, the caller allocates one, and calls
    /// [`made`](Pool::made).
    pub(crate) fn take(&mut self, units: usize) -> Option<T> {
        self.clock += 1;
        let class = self.free.entry(units).or_default();
        class.requested = self.clock;
        let reused = class.buffers.pop()?;
        self.report.cached -= units * self.unit;
        self.count(units);
        Some(reused)
    }

    /// Counts a buffer of `units` that was allocated from the system or the driver.
    pub(crate) fn made(&mut self, units: usize) {
        self.report.system_allocations += 1;
        self.count(units);
    }

    fn count(&mut self, units: usize) {
        self.report.in_use += units * self.unit;
        self.report.peak_in_use = self.report.peak_in_use.max(self.report.in_use);
    }

    /// As [`take`](Pool::take), for short-lived buffers: takes the most recently returned buffer of up to four times the size,
    /// which may still be in a cache. Also returns its size.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "on the CPU, a plan has its own buffer"))]
    pub(crate) fn take_recent(&mut self, units: usize) -> (Option<T>, usize) {
        let fitting = self.free.range(units..=4 * units).filter(|(_, class)| !class.buffers.is_empty());
        let units = fitting.max_by_key(|(_, class)| class.returned).map_or(units, |(&units, _)| units);
        (self.take(units), units)
    }

    /// Returns a buffer of `units` to the pool. Returns the buffers that the caller must free.
    pub(crate) fn put_back(&mut self, buffer: T, units: usize) -> Vec<T> {
        self.report.in_use -= units * self.unit;
        self.report.cached += units * self.unit;
        self.clock += 1;
        let class = self.free.entry(units).or_default();
        class.returned = self.clock;
        class.buffers.push(buffer);
        let mut freed = Vec::new();
        while self.report.cached + self.report.in_use > HELD * self.report.peak_in_use {
            let held = self.free.iter_mut().filter(|(_, class)| !class.buffers.is_empty());
            let oldest = held.min_by_key(|(_, class)| class.requested);
            let Some((units, buffer)) = oldest.and_then(|(&u, class)| Some((u, class.buffers.pop()?))) else {
                break;
            };
            self.report.cached -= units * self.unit;
            freed.push(buffer);
        }
        freed
    }

    /// Removes all free buffers, which the caller frees.
    pub(crate) fn release(&mut self) -> Vec<T> {
        self.report.cached = 0;
        self.report.peak_in_use = self.report.in_use;
        std::mem::take(&mut self.free).into_values().flat_map(|class| class.buffers).collect()
    }

    /// Returns the state of the pool.
    pub(crate) fn report(&self) -> MemoryReport {
        self.report
    }
}

/// Rounds up to a number with four significant bits: at most an eighth larger.
pub(crate) fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    let step = 1usize << (usize::BITS - lines.leading_zeros()).saturating_sub(4);
    lines.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lived_requests_get_the_last_returned_buffer() {
        let mut pool = Pool::new(1);
        for units in [10, 20, 39, 41] {
            assert_eq!(pool.take(units), None::<usize>);
            pool.made(units);
        }
        for units in [39, 20, 41] {
            assert!(pool.put_back(units, units).is_empty());
        }
        // 41 was returned last, but is too large; 20 was returned after 39.
        assert_eq!(pool.take_recent(10), (Some(20), 20));
        assert_eq!(pool.take_recent(10), (Some(39), 39));
        assert_eq!(pool.take_recent(10), (None, 10));
        pool.made(10);
        assert_eq!(pool.report().in_use, 10 + 20 + 39 + 10);
        assert_eq!(pool.report().system_allocations, 5);
    }

    /// A pool whose buffers are their sizes, in the order in which they were first requested.
    fn pool_of(sizes: &[usize]) -> Pool<usize> {
        let mut pool = Pool::new(1);
        for units in sizes {
            assert_eq!(pool.take(*units), None);
            pool.made(*units);
        }
        pool
    }

    #[test]
    fn above_three_times_the_peak_the_least_recently_requested_buffer_is_freed() {
        let mut pool = pool_of(&[100]);
        assert!(pool.put_back(100, 100).is_empty());
        // Other classes, one after the other: 100 in use at most.
        for (units, freed) in [(96, vec![]), (88, vec![]), (80, vec![100]), (72, vec![96])] {
            assert_eq!(pool.take(units), None);
            pool.made(units);
            assert_eq!(pool.put_back(units, units), freed, "{units}");
        }
        let report = pool.report();
        assert_eq!((report.in_use, report.peak_in_use, report.cached), (0, 100, 88 + 80 + 72));
        // A request makes a class recent.
        assert_eq!(pool.take(88), Some(88));
        assert!(pool.put_back(88, 88).is_empty());
        assert_eq!(pool.take(64), None);
        pool.made(64);
        assert_eq!(pool.put_back(64, 64), [80]);
    }

    #[test]
    fn releasing_frees_what_is_not_in_use_and_forgets_the_peak() {
        let mut pool = pool_of(&[100, 50, 10]);
        assert!(pool.put_back(100, 100).is_empty());
        assert!(pool.put_back(50, 50).is_empty());
        assert_eq!(pool.release(), [50, 100]);
        let expected = MemoryReport { in_use: 10, peak_in_use: 10, cached: 0, system_allocations: 3 };
        assert_eq!(pool.report(), expected);
        // The new peak limits what is kept.
        assert_eq!(pool.take(20), None);
        pool.made(20);
        assert!(pool.put_back(20, 20).is_empty());
        assert_eq!(pool.report().peak_in_use, 30);
        assert_eq!(pool.release(), [20]);
    }

    #[test]
    fn size_classes_waste_at_most_an_eighth() {
        for lines in 1..5000 {
            let class = size_class(lines);
            assert!(class >= lines && class as f64 <= lines as f64 * 1.125 + 1e-9, "{lines} -> {class}");
            assert_eq!(size_class(class), class);
        }
    }

    #[test]
    fn a_failed_allocation_is_an_error_and_not_counted() {
        let mut pool: Pool<usize> = Pool::new(1);
        assert_eq!(pool.take(10), None);
        assert_eq!(pool.report(), MemoryReport::default());
        for len in [usize::MAX, usize::MAX / 4, usize::MAX / 64] {
            assert!(Buffer::new(len).is_err());
            let error = Scratch::with(|scratch| scratch.take(len).len()).unwrap_err().to_string();
            assert!(error.contains("scratch memory: cannot allocate"), "{error}");
        }
    }

    #[test]
    fn buffers_are_aligned() {
        let mut b = Buffer::new(1000).unwrap();
        b.fill(0.0);
        assert_eq!(b.as_ptr() as usize % 64, 0);
        assert_eq!(b.len(), 1000);
        b[999] = 3.0;
        assert_eq!(b.iter().sum::<f32>(), 3.0);
        assert_eq!(Buffer::new(0).unwrap().len(), 0);
    }
}
