//! Splitting work over threads, always in the same way: by the size of the work, never by the number of threads.
//!
//! Work runs on the current rayon pool: the global one, or that of an enclosing `ThreadPool::install`.

use rayon::prelude::*;

/// Elementwise work of fewer elements than this runs on the calling thread.
pub(crate) const CHUNK: usize = 1 << 14;

/// Calls `work(start, part)` for consecutive parts of `out` of `chunk` elements (the last may be shorter), on all
/// threads when there is more than one part.
pub(crate) fn for_each_chunk<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= chunk {
        work(0, out);
    } else {
        out.par_chunks_mut(chunk).enumerate().for_each(|(i, part)| work(i * chunk, part));
    }
}

/// The start of some floats, for threads that write to different parts of them.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);
// SAFETY: who dereferences the pointer writes elements that no other thread touches.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Lends the floats to tasks that each have elements of their own.
    pub fn new(floats: &mut [f32]) -> Self {
        Shared(floats.as_mut_ptr())
    }

    /// Their start.
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// Copies a slice, on several threads if it is large.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    for_each_chunk(to, 4 * CHUNK, |start, part| part.copy_from_slice(&from[start..start + part.len()]));
}
