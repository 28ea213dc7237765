//! Memory: vectors whose allocation can fail, what the system has left, and a reserve for small allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::{Error, Result};

/// Creates a vector of `len` default values; `what` is what it is for, such as "an image of 28 x 28 pixels".
///
/// # Errors
/// `OutOfMemory` with `what` and the number of bytes.
pub fn try_vec<T: Clone + Default>(len: usize, what: impl fmt::Display) -> Result<Vec<T>> {
    let mut all = try_with_capacity(len, what)?;
    all.resize(len, T::default());
    Ok(all)
}

/// Creates an empty vector with room for `len` values.
///
/// # Errors
/// As [`try_vec`].
pub fn try_with_capacity<T>(len: usize, what: impl fmt::Display) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| no_memory::<T>(len, what))?;
    Ok(all)
}

/// Collects `len` values.
///
/// # Errors
/// As [`try_vec`].
pub fn try_collect<T>(
    len: usize,
    values: impl IntoIterator<Item = T>,
    what: impl fmt::Display,
) -> Result<Vec<T>> {
    let mut all = try_with_capacity(len, what)?;
    all.extend(values.into_iter().take(len));
    Ok(all)
}

/// The error for `len` values of type `T` that cannot be allocated.
#[cold]
pub fn no_memory<T>(len: usize, what: impl fmt::Display) -> Error {
    let bytes = len as u128 * size_of::<T>() as u128;
    Error::out_of_memory(format!("cannot allocate {what} ({bytes} bytes)"))
}

/// A number of bytes for people: `900 bytes`, `1.5 MiB`, `2.0 GiB`.
pub fn readable_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let unit = ((bytes.ilog2() / 10) as usize - 1).min(UNITS.len() - 1);
    format!("{:.1} {}", bytes as f64 / 2f64.powi(10 * (unit as i32 + 1)), UNITS[unit])
}

/// Returns the number of bytes that this process can probably still allocate without swapping; `None` if the system does not
/// tell. It is the least of the available memory and what is left of the limit of the address space (`ulimit -v`).
pub fn available_bytes() -> Option<u64> {
    [system_bytes("MemAvailable:"), bytes_to_limit()].into_iter().flatten().min()
}

/// Returns the number of bytes that this process can have at most, however much others use; `None` if the system does not tell.
/// It is the least of all memory, with what it is swapped to, and what is left of the limit of the address space.
pub fn limit_bytes() -> Option<u64> {
    let all = system_bytes("MemTotal:").map(|memory| memory + system_bytes("SwapTotal:").unwrap_or(0));
    [all, bytes_to_limit()].into_iter().flatten().min()
}

fn system_bytes(key: &str) -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// What is left of the limit of the address space; `None` without one.
fn bytes_to_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max address space"))?;
    let limit: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let used = status.and_then(|text| kib(&text, "VmSize:"));
    Some(limit.saturating_sub(used.unwrap_or(0)))
}

/// Returns the number of bytes in the line of `text` that starts with `key`, where it is in KiB.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The system's allocator with a reserve for small allocations: a program that sets it as its `#[global_allocator]` and calls
/// [`ReserveAllocator::fill`] can still report the failure of a large allocation. Large allocations whose size depends on
/// input return errors; a small one that fails would abort the process.
#[derive(Debug)]
pub struct ReserveAllocator {
    reserve: AtomicPtr<u8>,
}

/// Size of the reserve.
const RESERVE: Layout = match Layout::from_size_align(8 << 20, 4096) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// Largest allocation that uses the reserve.
const SMALL: usize = 1 << 18;

impl ReserveAllocator {
    /// Creates the allocator, without a reserve.
    pub const fn new() -> Self {
        ReserveAllocator { reserve: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Allocates the reserve, if there is none. Without memory for it, there is no reserve.
    pub fn fill(&self) {
        if !self.reserve.load(Ordering::Relaxed).is_null() {
            return;
        }
        // SAFETY: the layout has a size.
        let reserve = unsafe { System.alloc(RESERVE) };
        let old = self.reserve.swap(reserve, Ordering::AcqRel);
        Self::free(old);
    }

    /// Frees the reserve; whether there was one.
    #[cold]
    fn spend(&self) -> bool {
        Self::free(self.reserve.swap(ptr::null_mut(), Ordering::AcqRel))
    }

    fn free(reserve: *mut u8) -> bool {
        if reserve.is_null() {
            return false;
        }
        // SAFETY: the pointer was allocated with this layout, and who swapped it out owns it.
        unsafe { System.dealloc(reserve, RESERVE) };
        true
    }

    fn retry(&self, size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
        let made = allocate();
        if made.is_null() && size <= SMALL && self.spend() {
            return allocate();
        }
        made
    }
}

impl Default for ReserveAllocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: all memory is that of the system's allocator, which is called with the same arguments.
unsafe impl GlobalAlloc for ReserveAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller guarantees a layout with a size.
        self.retry(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as `alloc`.
        self.retry(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: guaranteed by the caller; a failed call leaves the memory as it was.
        self.retry(size, || unsafe { System.realloc(memory, layout, size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn vectors_that_cannot_be_allocated_are_errors() {
        let e = try_vec::<f32>(usize::MAX / 8, "a tensor").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        let bytes = (usize::MAX / 8) as u128 * 4;
        assert_eq!(e.to_string(), format!("cannot allocate a tensor ({bytes} bytes)"));
        assert_eq!(try_vec::<u8>(3, "").unwrap(), [0; 3]);
        assert_eq!(try_collect(2, 5..9, "").unwrap(), [5, 6]);
    }

    #[test]
    fn bytes_are_readable() {
        let texts = [0, 1023, 1024, 1536 << 10, 5 << 40].map(readable_bytes);
        assert_eq!(texts, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 MiB", "5.0 TiB"]);
        if cfg!(target_os = "linux") {
            assert!(available_bytes().unwrap() > 1 << 20);
        }
    }

    #[test]
    fn the_reserve_is_spent_once_and_for_small_allocations_only() {
        let allocator = ReserveAllocator::new();
        let calls = std::cell::Cell::new(0);
        let fail = || {
            calls.set(calls.get() + 1);
            ptr::null_mut()
        };
        let count = |size| {
            calls.set(0);
            assert!(allocator.retry(size, fail).is_null());
            calls.get()
        };
        assert_eq!(count(100), 1);
        allocator.fill();
        assert_eq!([count(SMALL + 1), count(100), count(100)], [1, 2, 1]);
        allocator.fill();
        assert_eq!(count(SMALL), 2);
        // SAFETY: a layout with a size; the memory is freed with the layout that it then has.
        unsafe {
            let layout = Layout::new::<u64>();
            let memory = allocator.alloc_zeroed(layout);
            assert_eq!(*memory.cast::<u64>(), 0);
            let memory = allocator.realloc(memory, layout, 64);
            allocator.dealloc(memory, Layout::from_size_align(64, layout.align()).unwrap());
            let memory = allocator.alloc(layout);
            allocator.dealloc(memory, layout);
        }
    }
}
