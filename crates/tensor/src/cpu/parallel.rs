//! Splitting work into tasks by its size alone, never by the number of threads, so that results do not depend
//! on it.
//!
//! Tasks run on the current rayon pool: the global one, or that of an enclosing `ThreadPool::install`.

use std::cell::Cell;
use std::marker::PhantomData;

use rayon::prelude::*;

use neocog_base::Result;

/// Number of elements of a task of elementwise work; less work runs on the calling thread.
pub(crate) const CHUNK: usize = 1 << 14;

thread_local! {
    /// Whether kernels run on this thread alone, while other threads run other kernels.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Returns the least number of neighboring items of a parallel iterator that stay on one thread, for `with_min_len`: all of them while
/// this thread works [alone](for_each_alone).
pub(crate) fn min_len() -> usize {
    if ALONE.get() { usize::MAX } else { 1 }
}

/// Calls `work(i)` for each `i` below `count`, in parallel. While there is a call for each thread, kernels that `work` runs stay on
/// its thread; the remaining calls share the threads. Stops at the first error, and returns it.
///
/// # Errors
/// Those of `work`.
pub(crate) fn for_each_alone(count: usize, work: impl Fn(usize) -> Result<()> + Sync + Send) -> Result<()> {
    let threads = rayon::current_num_threads();
    let full = if threads > 1 { count / threads * threads } else { 0 };
    (0..full).into_par_iter().with_max_len(1).try_for_each(|i| {
        let _alone = Alone::begin();
        work(i)
    })?;
    match count - full {
        rest if threads > 1 && rest > 1 => (full..count).into_par_iter().with_max_len(1).try_for_each(work),
        _ => (full..count).try_for_each(work),
    }
}

/// Keeps kernels on this thread until dropped.
struct Alone {
    previous: bool,
}

impl Alone {
    fn begin() -> Self {
        Alone { previous: ALONE.replace(true) }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        ALONE.set(self.previous);
    }
}

/// Calls `work(i)` for each `i` below `count`, in parallel.
pub(crate) fn for_each_task(count: usize, work: impl Fn(usize) + Sync + Send) {
    (0..count).into_par_iter().with_min_len(min_len()).for_each(work);
}

/// Calls both functions, in parallel.
pub(crate) fn join(left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    if ALONE.get() {
        left();
        right();
    } else {
        rayon::join(left, right);
    }
}

/// Calls `work(start, part)` for consecutive parts of `out` of `chunk` elements (the last may be shorter), in
/// parallel if there is more than one part.
pub(crate) fn for_each_chunk<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= chunk {
        work(0, out);
    } else {
        out.par_chunks_mut(chunk)
            .enumerate()
            .with_min_len(min_len())
            .for_each(|(i, part)| work(i * chunk, part));
    }
}

/// Calls `work(i)` for each `i` below `count`, in parallel tasks of `each` neighboring ones; on the calling thread if one task does all.
pub(crate) fn for_each_in_tasks(count: usize, each: usize, work: impl Fn(usize) + Sync) {
    if count <= each {
        (0..count).for_each(work);
    } else {
        for_each_task(count.div_ceil(each), |task| {
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
