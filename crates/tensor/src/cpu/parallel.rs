//! Splitting work into tasks by its size alone, never by the number of threads, so that results do not depend
//! on it.
//!
//! Tasks run on the current rayon pool: the global one, or that of an enclosing `ThreadPool::install`.

use std::marker::PhantomData;

use rayon::prelude::*;

/// Number of elements of a task of elementwise work; less work runs on the calling thread.
pub(crate) const CHUNK: usize = 1 << 14;

/// Calls `work(start, part)` for consecutive parts of `out` of `chunk` elements (the last may be shorter), in
/// parallel if there is more than one part.
pub(crate) fn for_each_chunk<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= chunk {
        work(0, out);
    } else {
        out.par_chunks_mut(chunk).enumerate().for_each(|(i, part)| work(i * chunk, part));
    }
}

/// Calls `work(i)` for each `i` below `count`, in parallel tasks of `each` neighboring ones; on the calling thread if one task does all.
pub(crate) fn for_each_in_tasks(count: usize, each: usize, work: impl Fn(usize) + Sync) {
    if count <= each {
        (0..count).for_each(work);
    } else {
        (0..count.div_ceil(each)).into_par_iter().for_each(|task| {
            (task * each..count.min((task + 1) * each)).for_each(&work);
        });
    }
}

/// Returns part `i` of `count` of the indices below `whole`, as equal as possible.
pub(crate) fn part(whole: usize, count: usize, i: usize) -> std::ops::Range<usize> {
    whole * i / count..whole * (i + 1) / count
}

/// Floats that several tasks write, each to different elements.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    floats: PhantomData<&'a mut [f32]>,
}
// SAFETY: the floats are borrowed exclusively for `'a`; whoever dereferences the pointer or calls `slice` accesses only
// elements that no other task accesses.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Shares the floats between tasks that access disjoint elements.
    pub fn new(floats: &'a mut [f32]) -> Self {
        Shared { start: floats.as_mut_ptr(), len: floats.len(), floats: PhantomData }
    }

    /// Returns the pointer to the first element, for kernels that compute addresses themselves.
    pub fn get(self) -> *mut f32 {
        self.start
    }

    /// Returns the elements `start .. start + len`.
    ///
    /// # Safety
    /// No other task may access these elements while the slice exists.
    ///
    /// # Panics
    /// If they exceed the shared floats.
    #[allow(clippy::mut_from_ref, reason = "the caller guarantees that slices are disjoint")]
    pub unsafe fn slice(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start <= self.len && len <= self.len - start, "{start} + {len} of {} floats", self.len);
        // SAFETY: the elements lie within the floats, which are borrowed for `'a`; the caller excludes aliasing.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Copies a slice, on several threads if it is large.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    for_each_chunk(to, 4 * CHUNK, |start, part| part.copy_from_slice(&from[start..start + part.len()]));
}
