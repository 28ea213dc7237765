//! Profiles operations by layer.
//!
//! [`record`] enables the profiler; otherwise an operation costs one load of a flag. Code that runs layers enters a [`scope`]
//! for each, and a tape re-enters an operation's scope for its gradient.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::op::Op;
use crate::core::shape::Shape;

/// Whether runs are recorded.
static ON: AtomicBool = AtomicBool::new(false);
/// Whether threads keep track of their scopes: the number of recordings and of [`Naming`]s.
static NAMING: AtomicUsize = AtomicUsize::new(0);
static RECORDING: Mutex<()> = Mutex::new(());
static TOTALS: Mutex<Option<HashMap<Key, Totals>>> = Mutex::new(None);

thread_local! {
    static CURRENT: RefCell<Scope> = const { RefCell::new(Scope(None)) };
    /// The algorithm that the operation that runs on this thread has chosen.
    static ALGORITHM: Cell<Option<&'static str>> = const { Cell::new(None) };
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    scope: Scope,
    op: &'static str,
    algorithm: Option<&'static str>,
    output: Shape,
}

#[derive(Default)]
struct Totals {
    calls: u64,
    time: Duration,
    multiply_adds: u64,
    bytes: u64,
}

/// Totals of one operation in one layer, with outputs of one shape.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// Dotted name of the layer; empty outside of layers.
    pub layer: String,
    /// Name of the operation.
    pub op: &'static str,
    /// Name of the algorithm, for operations that have several: convolutions and their gradients.
    pub algorithm: Option<&'static str>,
    /// Shape of the first output.
    pub output: Shape,
    /// Number of runs.
    pub calls: u64,
    /// Total time in seconds.
    pub seconds: f64,
    /// Total multiply-adds.
    pub multiply_adds: u64,
    /// Total size of inputs and outputs in bytes, in single precision.
    pub bytes: u64,
}

/// The layer that operations are attributed to; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(Option<Arc<str>>);

impl Scope {
    /// Returns the current scope of this thread.
    pub fn current() -> Self {
        if is_naming() { CURRENT.with_borrow(Clone::clone) } else { Scope(None) }
    }

    /// Returns the dotted name of the layer; `None` outside of all layers, and if scopes were not tracked.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Enters this scope until the guard is dropped.
    pub fn enter(&self) -> Guard {
        if !is_naming() {
            return Guard(None);
        }
        Guard(Some(CURRENT.replace(self.clone())))
    }
}

/// Enters the scope `name` within the current scope of this thread until the guard is dropped.
pub fn scope(name: &str) -> Guard {
    if !is_naming() {
        return Guard(None);
    }
    let inner = match Scope::current().0 {
        Some(outer) if !outer.is_empty() => format!("{outer}.{name}").into(),
        _ => name.into(),
    };
    Scope(Some(inner)).enter()
}

fn is_naming() -> bool {
    NAMING.load(Ordering::Relaxed) > 0
}

/// Whether runs are recorded.
pub(crate) fn is_recording() -> bool {
    ON.load(Ordering::Relaxed)
}

/// While a value of this type exists, scopes are tracked even if nothing is recorded, so that traced operations have the names of their layers.
#[must_use]
#[derive(Debug)]
pub struct Naming(());

impl Naming {
    /// Begins to track scopes.
    pub fn begin() -> Self {
        NAMING.fetch_add(1, Ordering::Relaxed);
        Naming(())
    }
}

impl Drop for Naming {
    fn drop(&mut self) {
        NAMING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Restores the previous scope when dropped.
#[must_use]
#[derive(Debug)]
pub struct Guard(Option<Scope>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(previous) = self.0.take() {
            CURRENT.set(previous);
        }
    }
}

/// Runs `work`, and returns its result and the profile of the operations that ran meanwhile, sorted by decreasing time.
///
/// The profile includes operations of all threads. Only one recording runs at a time; others wait.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Vec<Row>) {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(false, Ordering::Relaxed);
        }
    }
    let _recording = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    *totals() = Some(HashMap::new());
    let naming = Naming::begin();
    ON.store(true, Ordering::Relaxed);
    let off = Off;
    let result = work();
    drop(off);
    drop(naming);
    let mut rows: Vec<Row> = totals()
        .take()
        .unwrap_or_default()
        .into_iter()
        .map(|(key, t)| Row {
            layer: key.scope.0.map_or(String::new(), |path| path.to_string()),
            op: key.op,
            algorithm: key.algorithm,
            output: key.output,
            calls: t.calls,
            seconds: t.time.as_secs_f64(),
            multiply_adds: t.multiply_adds,
            bytes: t.bytes,
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.layer.cmp(&b.layer)));
    (result, rows)
}

fn totals() -> MutexGuard<'static, Option<HashMap<Key, Totals>>> {
    TOTALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the start time of a run, if a profile is recorded.
pub(crate) fn start() -> Option<Instant> {
    is_recording().then(|| {
        ALGORITHM.set(None);
        Instant::now()
    })
}

/// Notes the algorithm that the running operation has chosen. It must be called on the thread that runs the operation.
pub(crate) fn note_algorithm(name: &'static str) {
    if is_recording() {
        ALGORITHM.set(Some(name));
    }
}

/// Records a run that began at `start`.
pub(crate) fn end(
    start: Option<Instant>,
    op: &dyn Op,
    inputs: impl Iterator<Item = Shape>,
    outputs: &[Shape],
) {
    let Some(start) = start else { return };
    let time = start.elapsed();
    let input_shapes: Vec<Shape> = inputs.collect();
    let elements: usize = input_shapes.iter().chain(outputs).map(Shape::elements).sum();
    let output = outputs.first().copied().unwrap_or(Shape::scalar());
    let key = Key { scope: Scope::current(), op: op.profile_name(), algorithm: ALGORITHM.take(), output };
    if let Some(all) = &mut *totals() {
        let row = all.entry(key).or_default();
        row.calls += 1;
        row.time += time;
        row.multiply_adds += op.multiply_adds(&input_shapes, outputs);
        row.bytes += 4 * elements as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Add, MatMul};
    use crate::{Device, Tensor, run_single};

    #[test]
    fn runs_are_attributed_to_scopes() {
        let x = Tensor::zeros([4, 4], &Device::Cpu).unwrap();
        let work = || {
            let _outer = scope("block");
            run_single(&Add, &[&x, &x]).unwrap();
            let inner = scope("fc");
            run_single(&MatMul::default(), &[&x, &x]).unwrap();
            let again = Scope::current();
            drop(inner);
            let _guard = again.enter();
            run_single(&MatMul::default(), &[&x, &x]).unwrap();
        };
        work();
        let ((), mut rows) = record(work);
        // Other tests run at the same time.
        rows.retain(|r| r.layer.starts_with("block"));
        let row = |op: &str| rows.iter().find(|r| r.op == op).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((row("add").layer.as_str(), row("add").calls, row("add").bytes), ("block", 1, 3 * 64));
        let product = row("matmul");
        assert_eq!((product.layer.as_str(), product.calls, product.multiply_adds), ("block.fc", 2, 128));
        assert!(product.seconds > 0.0);
        assert_eq!(Scope::current(), Scope(None));
    }
}
