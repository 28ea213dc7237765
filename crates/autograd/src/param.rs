//! Parameters: trainable tensors.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use neocog_tensor::{Error, Result, Shape, Tensor};

/// The identity of a parameter, unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u64);

/// A trainable tensor. Layers own their parameters; optimizers update them through [`Param::write`].
pub struct Param {
    id: ParamId,
    value: RwLock<Tensor>,
    version: AtomicU64,
}

impl Param {
    /// Creates a parameter with an initial value.
    pub fn new(value: Tensor) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Param {
            id: ParamId(NEXT.fetch_add(1, Ordering::Relaxed)),
            value: RwLock::new(value),
            version: AtomicU64::new(0),
        }
    }

    /// Returns the identity, which [`Grads::param`](crate::Grads::param) looks up.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// Returns the value. It shares memory with the parameter (copy on write).
    pub fn value(&self) -> Tensor {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the shape.
    pub fn shape(&self) -> Shape {
        *self.value.read().unwrap_or_else(PoisonError::into_inner).shape()
    }

    /// Locks the value for changes in place, and increments the version.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tensor> {
        let value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::Release);
        value
    }

    /// Returns a number that increases with each change of the value. A value that is read after its version is at least that
    /// new, so what is derived from it is current as long as the version stays the same.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Replaces the value, after copying it to the device of the parameter if necessary.
    ///
    /// # Errors
    /// `Shape` when the shapes differ.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let mut old = self.write();
        if old.shape() != value.shape() {
            return Err(Error::shape(format!(
                "the value has shape {}, expected {}",
                value.shape(),
                old.shape()
            )));
        }
        *old = value.to_device(&old.device())?;
        Ok(())
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Param({})", self.shape())
    }
}
