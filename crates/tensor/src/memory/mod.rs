//! Memory of the CPU device: aligned buffers that go back to a pool when they are dropped. Devices with memory of their
//! own use the same pool for theirs.
//!
//! A training step asks for the same sizes again and again, so after the first step no memory is asked of the
//! system any more, and no page is touched for the first time. Sizes are rounded up to classes with at most an
//! eighth of waste. A free buffer serves its own class only, and which classes are in use changes within a step; so
//! the pool keeps free buffers until it holds three times the most that was in use at once, then lets go of those of the
//! class that nobody asked for the longest. A loop that needed more than that would let go, each time, of just what it
//! asks for next, and pay for every page anew.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

/// Sixteen floats: one cache line, and the widest vector of the CPUs that we know.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// How much the pool holds at most, in use and free, as a multiple of the most that was in use at once. All networks at hand need
/// less than two and a half times, as each size has buffers of its own.
const HELD: usize = 3;

/// Floats that start at a multiple of 64 bytes and return to the pool when dropped.
///
/// A new buffer holds whatever its last user left there, or zeros.
pub struct Buffer {
    lines: Box<[Line]>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` floats, with unspecified contents.
    pub fn new(len: usize) -> Self {
        let lines = size_class(len.div_ceil(LINE));
        let reused = pool().take(lines);
        let lines = reused.unwrap_or_else(|| bytemuck::allocation::zeroed_slice_box(lines));
        Buffer { lines, len }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let units = lines.len();
        // What the pool does not keep is freed here, after its lock is released.
        let _freed = pool().put_back(lines, units);
    }
}

/// What the pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Lent out at this moment.
    pub in_use: usize,
    /// The most that was lent out at once since the pool was last emptied.
    pub peak_in_use: usize,
    /// Free, kept for the next that asks.
    pub cached: usize,
    /// How often memory was asked of the system.
    pub system_allocations: usize,
}

/// What the pool of the CPU device holds.
pub fn memory_report() -> MemoryReport {
    pool().report()
}

/// Gives all free memory of the pool back to the system, and forgets the peak.
pub fn release_cached_memory() {
    // Freed after the lock is released.
    let free = pool().release();
    drop(free);
}

/// Scratch memory for a kernel: lent from the pool, never asked of the system in a steady state.
#[derive(Clone, Copy, Debug)]
pub struct Scratch(());

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch(())
    }

    /// `len` floats with unspecified contents, until the buffer is dropped. Threads may ask at the same time.
    pub fn take(&self, len: usize) -> Buffer {
        Buffer::new(len)
    }
}

/// Free buffers of one device, kept for those that ask next, and the count of all its buffers. The sizes of
/// buffers are counted in units.
pub(crate) struct Pool<T> {
    /// Bytes of a unit.
    unit: usize,
    /// By number of units.
    free: BTreeMap<usize, Class<T>>,
    /// How often memory was asked for.
    clock: u64,
    report: MemoryReport,
}

/// The free buffers of one size.
struct Class<T> {
    buffers: Vec<T>,
    /// When one of them was asked for last.
    asked: u64,
    /// When one of them came back last.
    returned: u64,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Class { buffers: Vec::new(), asked: 0, returned: 0 }
    }
}

thread_local! {
    static SHORT_LIVED: Cell<bool> = const { Cell::new(false) };
}

/// Whether what this thread asks for is needed for a short while only: see [`Pool::take_recent`].
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "on the CPU plans have a buffer of their own"))]
pub(crate) fn is_short_lived() -> bool {
    SHORT_LIVED.get()
}

/// While this lives, what the thread asks for is needed for a short while only.
#[must_use]
#[derive(Debug)]
pub struct ShortLived {
    before: bool,
}

impl ShortLived {
    /// Begins.
    pub fn begin() -> Self {
        ShortLived { before: SHORT_LIVED.replace(true) }
    }
}

impl Drop for ShortLived {
    fn drop(&mut self) {
        SHORT_LIVED.set(self.before);
    }
}

static POOL: Mutex<Pool<Box<[Line]>>> = Mutex::new(Pool::new(size_of::<Line>()));

fn pool() -> MutexGuard<'static, Pool<Box<[Line]>>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Pool<T> {
    /// An empty pool for buffers that are counted in units of `unit` bytes.
    pub(crate) const fn new(unit: usize) -> Self {
        let report = MemoryReport { in_use: 0, peak_in_use: 0, cached: 0, system_allocations: 0 };
        Pool { unit, free: BTreeMap::new(), clock: 0, report }
    }

    /// A free buffer of `units`, which is a [`size_class`]. Where there is none the caller makes one: it
    /// counts as lent out in any case.
    pub(crate) fn take(&mut self, units: usize) -> Option<T> {
        let bytes = units * self.unit;
        self.report.in_use += bytes;
        self.report.peak_in_use = self.report.peak_in_use.max(self.report.in_use);
        self.clock += 1;
        let class = self.free.entry(units).or_default();
        class.asked = self.clock;
        let reused = class.buffers.pop();
        match reused {
            Some(_) => self.report.cached -= bytes,
            None => self.report.system_allocations += 1,
        }
        reused
    }

    /// As [`take`](Pool::take), of something that is needed for a short while: rather the free buffer that came back last, of up
    /// to four times the size, as it may still be in a cache. Gives its size too.
    #[cfg_attr(
        not(feature = "opencl"),
        allow(dead_code, reason = "on the CPU plans have a buffer of their own")
    )]
    pub(crate) fn take_recent(&mut self, units: usize) -> (Option<T>, usize) {
        let fitting = self.free.range(units..=4 * units).filter(|(_, class)| !class.buffers.is_empty());
        let units = fitting.max_by_key(|(_, class)| class.returned).map_or(units, |(&units, _)| units);
        (self.take(units), units)
    }

    /// Takes back a buffer of `units`, and returns those that are to be freed instead of kept.
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
            let oldest = held.min_by_key(|(_, class)| class.asked);
            let Some((units, buffer)) = oldest.and_then(|(&u, class)| Some((u, class.buffers.pop()?))) else {
                break;
            };
            self.report.cached -= units * self.unit;
            freed.push(buffer);
        }
        freed
    }

    /// Says that a buffer of `units`, counted as lent out, could not be made.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "the system's memory is never refused"))]
    pub(crate) fn not_made(&mut self, units: usize) {
        self.report.in_use -= units * self.unit;
    }

    /// All free buffers, for the caller to free.
    pub(crate) fn release(&mut self) -> Vec<T> {
        self.report.cached = 0;
        self.report.peak_in_use = self.report.in_use;
        std::mem::take(&mut self.free).into_values().flat_map(|class| class.buffers).collect()
    }

    /// What the pool holds.
    pub(crate) fn report(&self) -> MemoryReport {
        self.report
    }
}

/// The next size with four significant bits: at most an eighth larger.
pub(crate) fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    let step = 1usize << (usize::BITS - lines.leading_zeros()).saturating_sub(4);
    lines.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_shortly_gets_what_came_back_last() {
        let mut pool = Pool::new(1);
        for units in [10, 20, 39, 41] {
            assert_eq!(pool.take(units), None::<usize>);
        }
        for units in [39, 20, 41] {
            assert!(pool.put_back(units, units).is_empty());
        }
        // 41 came back last, but is too large; 20 came back after 39.
        assert_eq!(pool.take_recent(10), (Some(20), 20));
        assert_eq!(pool.take_recent(10), (Some(39), 39));
        assert_eq!(pool.take_recent(10), (None, 10));
        assert_eq!(pool.report().in_use, 10 + 20 + 39 + 10);
        assert_eq!(pool.report().system_allocations, 5);
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
    fn buffers_are_aligned_and_hold_what_is_written() {
        let mut b = Buffer::zeros(1000);
        assert_eq!(b.as_ptr() as usize % 64, 0);
        assert_eq!(b.len(), 1000);
        b[999] = 3.0;
        assert_eq!(b.iter().sum::<f32>(), 3.0);
        assert_eq!(Buffer::new(0).len(), 0);
    }
}
