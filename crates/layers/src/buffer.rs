//! State of layers besides parameters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use neocog_autograd::Param;
use neocog_tensor::Tensor;

/// A tensor of a layer that is not a parameter, as a running mean.
#[derive(Debug)]
pub struct Buffer {
    value: Param,
    persistent: bool,
}

impl Buffer {
    /// Creates a buffer. One that is not `persistent` is stored in checkpoints, but is not part of the `state_dict` that is
    /// exchanged with PyTorch.
    pub fn new(value: Tensor, persistent: bool) -> Self {
        Buffer { value: Param::new(value), persistent }
    }

    /// Returns the tensor, with the interface of a parameter.
    pub fn value(&self) -> &Param {
        &self.value
    }

    /// Whether it is part of the `state_dict`.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }
}

/// An integer of a layer that is incremented, as the number of batches that a batch norm was trained on.
#[derive(Default)]
pub struct Counter {
    count: AtomicU64,
    changes: AtomicU64,
}

/// Without the count, which is state and not an attribute.
impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter")
    }
}

impl Counter {
    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Sets the count.
    pub fn set(&self, value: u64) {
        self.count.store(value, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Adds one and returns the new count.
    pub fn increment(&self) -> u64 {
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        // After the change: who sees the new version sees the new count.
        self.changes.fetch_add(1, Ordering::AcqRel);
        count
    }

    /// Returns the number of changes so far.
    pub fn version(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}
