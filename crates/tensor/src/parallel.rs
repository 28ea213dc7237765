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
