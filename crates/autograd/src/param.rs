//! Parameters: tensors that training changes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use neocog_tensor::{Error, Result, Shape, Tensor};

/// Which parameter; unique within a process, and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u64);

/// A tensor that training changes. Layers own theirs; an optimizer changes them through [`Param::write`].
pub struct Param {
    id: ParamId,
    value: RwLock<Tensor>,
}

impl Param {
    /// A parameter with an initial value.
    pub fn new(value: Tensor) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Param { id: ParamId(NEXT.fetch_add(1, Ordering::Relaxed)), value: RwLock::new(value) }
    }

    /// Which parameter this is, for [`Grads::param`](crate::Grads::param).
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// The value; it shares the parameter's memory until either changes.
    pub fn value(&self) -> Tensor {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        *self.value.read().unwrap_or_else(PoisonError::into_inner).shape()
    }

    /// The value for changing in place.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the value; it is moved to the parameter's device if it is elsewhere.
    ///
    /// # Errors
    /// When the shape is another.
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
