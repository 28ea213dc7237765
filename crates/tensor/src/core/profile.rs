//! Where the time goes: each operation's runs, by the layer that asked for them.
//!
//! Off, it costs one load of a flag for each operation. [`record`] turns it on; who calls layers opens a [`scope`] for
//! each, and a tape goes back into the scope of an operation for its gradient.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::op::Op;
use crate::core::shape::Shape;

static ON: AtomicBool = AtomicBool::new(false);
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

/// The runs of one operation in one layer, with outputs of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The layer's dotted name; empty outside of all layers.
    pub layer: String,
    /// The operation's name.
    pub op: &'static str,
    /// The algorithm, for operations that have several: convolutions and their gradients.
    pub algorithm: Option<&'static str>,
    /// The shape of its first output.
    pub output: Shape,
    /// How often it ran.
    pub calls: u64,
    /// The time of all runs together, in seconds.
    pub seconds: f64,
    /// The multiply-adds of all runs together.
    pub multiply_adds: u64,
    /// Bytes of the inputs and outputs of all runs together, each counted once in single precision.
    pub bytes: u64,
}

/// The layer that operations belong to; see the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope(Option<Arc<str>>);

impl Scope {
    /// The scope of this thread at this moment.
    pub fn current() -> Self {
        if ON.load(Ordering::Relaxed) { CURRENT.with_borrow(Clone::clone) } else { Scope(None) }
    }

    /// Goes into this scope, until what is returned is dropped.
    pub fn enter(&self) -> Guard {
        if !ON.load(Ordering::Relaxed) {
            return Guard(None);
        }
        Guard(Some(CURRENT.replace(self.clone())))
    }
}

/// Goes into the scope `name` within the one of this thread, until what is returned is dropped.
pub fn scope(name: &str) -> Guard {
    if !ON.load(Ordering::Relaxed) {
        return Guard(None);
    }
    let inner = match Scope::current().0 {
        Some(outer) if !outer.is_empty() => format!("{outer}.{name}").into(),
        _ => name.into(),
    };
    Scope(Some(inner)).enter()
}

/// Leads back to the scope before when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Guard(Option<Scope>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            CURRENT.set(before);
        }
    }
}

/// Runs `work`, and returns beside its result the operations that ran meanwhile, the longest first. Recordings of several
/// threads take turns.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Vec<Row>) {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(false, Ordering::Relaxed);
        }
    }
    let _turn = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    *totals() = Some(HashMap::new());
    ON.store(true, Ordering::Relaxed);
    let off = Off;
    let result = work();
    drop(off);
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

/// The start of a run, if it is to be recorded.
pub(crate) fn start() -> Option<Instant> {
    ON.load(Ordering::Relaxed).then(|| {
        ALGORITHM.set(None);
        Instant::now()
    })
}

/// Notes the algorithm that the running operation has chosen. It must be called on the thread that runs the operation.
pub(crate) fn note_algorithm(name: &'static str) {
    if ON.load(Ordering::Relaxed) {
        ALGORITHM.set(Some(name));
    }
}

/// The end of a run that began at `start`; `outputs` are the shapes of all outputs.
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
    let key = Key { scope: Scope::current(), op: op.name(), algorithm: ALGORITHM.take(), output };
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
    fn runs_are_counted_by_scope() {
        let x = Tensor::zeros([4, 4], &Device::Cpu).unwrap();
        let work = || {
            let _outer = scope("block");
            run_single(&Add, &[&x, &x]).unwrap();
            let inner = scope("fc");
            run_single(&MatMul::default(), &[&x, &x]).unwrap();
            let again = Scope::current();
            drop(inner);
            let _back = again.enter();
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
