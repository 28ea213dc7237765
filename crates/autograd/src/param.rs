//! Parameters: trainable tensors.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use neocog_tensor::{Error, Result, Shape, Tensor};

/// The identity of a parameter, unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u64);

/// A trainable tensor. Layers own their parameters; optimizers update them through [`Param::write`].
pub struct Param {
    id: ParamId,
    value: RwLock<Tensor>,
    version: AtomicU64,
    frozen: AtomicBool,
    /// The thread that has a [`ParamGuard`], as a number; 0 if there is none.
    writer: AtomicU64,
}

impl Param {
    /// Creates a parameter with an initial value.
    pub fn new(value: Tensor) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Param {
            id: ParamId(NEXT.fetch_add(1, Ordering::Relaxed)),
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            frozen: AtomicBool::new(false),
            writer: AtomicU64::new(0),
        }
    }

    /// Returns the identity, which [`Grads::param`](crate::Grads::param) looks up.
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// Returns the value. It shares memory with the parameter (copy on write).
    ///
    /// # Panics
    /// If the same thread has a guard of [`write`](Self::write), which it would wait for without end.
    pub fn value(&self) -> Tensor {
        self.read().clone()
    }

    /// Returns the shape.
    ///
    /// # Panics
    /// As [`value`](Self::value).
    pub fn shape(&self) -> Shape {
        *self.read().shape()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tensor> {
        assert!(!self.is_written_here(), "a parameter is read by the thread that has locked it for writing");
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the value for changes in place, and increments the version. Other threads wait until the guard is dropped.
    ///
    /// # Errors
    /// `InvalidArgument` if the same thread has a guard of this parameter already.
    pub fn write(&self) -> Result<ParamGuard<'_>> {
        if self.is_written_here() {
            return Err(Error::invalid_argument(
                "a parameter is locked twice for writing by the same thread",
            ));
        }
        let value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        self.version.fetch_add(1, Ordering::Release);
        self.writer.store(this_thread(), Ordering::Relaxed);
        Ok(ParamGuard { value, writer: &self.writer })
    }

    /// Whether this thread has locked the value for writing. Another thread never stores this thread's number.
    fn is_written_here(&self) -> bool {
        self.writer.load(Ordering::Relaxed) == this_thread()
    }

    /// Returns a number that increases with each change of the value. A value that is read after its version is at least that
    /// new, so what is derived from it is current as long as the version stays the same.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether training leaves the value as it is.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    /// Sets whether training leaves the value as it is: [`Tape::param`](crate::Tape::param) then returns a constant, so no gradient is
    /// computed for it, nor for what depends on constants only. The value can still be [`set`](Self::set).
    pub fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Replaces the value, after copying it to the device of the parameter if necessary.
    ///
    /// # Errors
    /// `Shape` when the shapes differ; as [`write`](Self::write).
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let mut old = self.write()?;
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

    /// Copies the value, if other tensors have the same memory: it is then [`is_same`](Tensor::is_same) as none of them.
    ///
    /// # Errors
    /// If memory cannot be allocated; as [`write`](Self::write).
    pub fn unshare(&self) -> Result<()> {
        if self.is_written_here() {
            return Err(Error::invalid_argument("a parameter is copied by the thread that has locked it"));
        }
        // The elements stay the same, and so does the version.
        self.value.write().unwrap_or_else(PoisonError::into_inner).unshare()
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.try_read() {
            Ok(value) => write!(f, "Param({})", value.shape()),
            Err(_) => write!(f, "Param(locked)"),
        }
    }
}

/// The value of a [`Param`], locked for changes in place until it is dropped.
pub struct ParamGuard<'a> {
    value: RwLockWriteGuard<'a, Tensor>,
    writer: &'a AtomicU64,
}

impl Deref for ParamGuard<'_> {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.value
    }
}

impl DerefMut for ParamGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }
}

impl fmt::Debug for ParamGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParamGuard").field(&*self.value).finish()
    }
}

impl Drop for ParamGuard<'_> {
    fn drop(&mut self) {
        // Before the lock is released.
        self.writer.store(0, Ordering::Relaxed);
    }
}

/// Returns the number of this thread, which is unique within the process and not 0.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use neocog_tensor::Device;

    use super::*;

    #[test]
    fn a_second_lock_on_the_same_thread_does_not_hang() {
        let param = Param::new(Tensor::zeros([2], &Device::Cpu).unwrap());
        let guard = param.write().unwrap();
        assert!(param.write().unwrap_err().to_string().contains("locked twice"));
        assert!(param.set(&Tensor::zeros([2], &Device::Cpu).unwrap()).is_err());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| param.value())).is_err());
        assert_eq!(format!("{param:?}"), "Param(locked)");
        drop(guard);
        assert_eq!(*param.value().shape(), param.shape());
        param.write().unwrap();
    }

    #[test]
    fn another_thread_waits_for_the_guard() {
        let param = Param::new(Tensor::zeros([1], &Device::Cpu).unwrap());
        let mut guard = param.write().unwrap();
        std::thread::scope(|threads| {
            let other = threads.spawn(|| param.value().item().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
            *guard = Tensor::full([1], 3.0, &Device::Cpu).unwrap();
            drop(guard);
            assert_eq!(other.join().unwrap(), 3.0);
        });
    }
}
