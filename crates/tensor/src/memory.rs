//! Memory of the CPU device: aligned buffers that go back to a pool when they are dropped.
//!
//! A training step asks for the same sizes again and again, so after the first step no memory is asked of the
//! system any more, and no page is touched for the first time. Sizes are rounded up to classes with at most an
//! eighth of waste. A free buffer serves its own class only, and which classes are in use changes within a step; so
//! the pool keeps free buffers until it holds twice what was ever in use at once, then lets go of those of the class
//! that nobody asked for the longest.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

/// Sixteen floats: one cache line, and the widest vector of the CPUs that we know.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; LINE]);

const LINE: usize = 16;

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
        // What the pool does not keep is freed here, after its lock is released.
        let _freed = pool().put_back(lines);
    }
}

/// What the pool holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Lent out at this moment.
    pub in_use: usize,
    /// The most that was ever lent out at once.
    pub peak_in_use: usize,
    /// Free, kept for the next that asks.
    pub cached: usize,
    /// How often memory was asked of the system.
    pub system_allocations: usize,
}

/// What the pool of the CPU device holds.
pub fn memory_report() -> MemoryReport {
    pool().report
}

/// Gives all free memory of the pool back to the system.
pub fn release_cached_memory() {
    let free = {
        let mut pool = pool();
        pool.report.cached = 0;
        std::mem::take(&mut pool.free)
    };
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

struct Pool {
    /// By number of lines.
    free: BTreeMap<usize, Class>,
    /// How often memory was asked for.
    clock: u64,
    report: MemoryReport,
}

/// The free buffers of one size.
#[derive(Default)]
struct Class {
    buffers: Vec<Box<[Line]>>,
    /// When one of them was asked for last.
    asked: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: BTreeMap::new(),
    clock: 0,
    report: MemoryReport { in_use: 0, peak_in_use: 0, cached: 0, system_allocations: 0 },
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn take(&mut self, lines: usize) -> Option<Box<[Line]>> {
        let bytes = lines * size_of::<Line>();
        self.report.in_use += bytes;
        self.report.peak_in_use = self.report.peak_in_use.max(self.report.in_use);
        self.clock += 1;
        let class = self.free.entry(lines).or_default();
        class.asked = self.clock;
        let reused = class.buffers.pop();
        match reused {
            Some(_) => self.report.cached -= bytes,
            None => self.report.system_allocations += 1,
        }
        reused
    }

    /// Takes a buffer back, and returns those that are to be freed instead of kept.
    fn put_back(&mut self, lines: Box<[Line]>) -> Vec<Box<[Line]>> {
        let bytes = size_of_val(&*lines);
        self.report.in_use -= bytes;
        self.report.cached += bytes;
        self.free.entry(lines.len()).or_default().buffers.push(lines);
        let mut freed = Vec::new();
        while self.report.cached + self.report.in_use > 2 * self.report.peak_in_use {
            let held = self.free.values_mut().filter(|class| !class.buffers.is_empty());
            let Some(buffer) = held.min_by_key(|class| class.asked).and_then(|class| class.buffers.pop())
            else {
                break;
            };
            self.report.cached -= size_of_val(&*buffer);
            freed.push(buffer);
        }
        freed
    }
}

/// The next size with four significant bits: at most an eighth larger.
fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    let step = 1usize << (usize::BITS - lines.leading_zeros()).saturating_sub(4);
    lines.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

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
