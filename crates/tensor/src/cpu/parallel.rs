//! Splitting work into tasks by its size alone, never by the number of threads, so that results do not depend
//! on it.
//!
//! Tasks run on the current rayon pool: the global one, or that of an enclosing `ThreadPool::install`.

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

/// Returns part `i` of `count` of the indices below `whole`, as equal as possible.
pub(crate) fn part(whole: usize, count: usize, i: usize) -> std::ops::Range<usize> {
    whole * i / count..whole * (i + 1) / count
}

/// A pointer to floats that several threads write, each to elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);
// SAFETY: code that dereferences the pointer writes only elements that no other thread accesses.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Shares the floats between tasks that access disjoint elements.
    pub fn new(floats: &mut [f32]) -> Self {
        Shared(floats.as_mut_ptr())
    }

    /// Returns the pointer to the first element.
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// Copies a slice, on several threads if it is large.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    for_each_chunk(to, 4 * CHUNK, |start, part| part.copy_from_slice(&from[start..start + part.len()]));
}
