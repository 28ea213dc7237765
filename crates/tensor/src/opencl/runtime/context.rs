//! An open device: its context, its queue and its memory pool.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ocl::core::{self, CommandQueue, CommandQueueProperties, Context, Event, Mem};

use super::error::fault;
use super::platform;
use crate::memory::{MemoryReport, Pool};
use crate::opencl::info::{DeviceId, DeviceInfo};
use neocog_base::Result;

/// Alignment and size granularity of buffers in bytes. No device requires a larger alignment of sub-buffers.
pub(super) const LINE: usize = 128;

/// An open device.
pub(super) struct DeviceContext {
    pub(super) info: &'static DeviceInfo,
    pub(super) device: core::DeviceId,
    pub(super) context: Context,
    pool: Mutex<Pool<Mem>>,
    queue: Mutex<Queue>,
}

/// The in-order queue, and the uploads that it may still contain.
pub(super) struct Queue {
    pub(super) commands: CommandQueue,
    /// Uploads that may not be complete, with the data that they read.
    pub(super) uploads: VecDeque<(Event, Vec<f32>)>,
}

impl DeviceContext {
    pub(super) fn new(id: DeviceId) -> Result<Self> {
        let (info, platform, device) = platform::find(id)?;
        let failed = |e| fault(format!("cannot open {id} ({})", info.name), e);
        let properties = core::ContextProperties::new().platform(platform);
        let context = core::create_context(Some(&properties), &[device], None, None).map_err(failed)?;
        let commands = core::create_command_queue(&context, device, None).map_err(failed)?;
        Ok(DeviceContext {
            info,
            device,
            context,
            pool: Mutex::new(Pool::new(LINE)),
            queue: Mutex::new(Queue { commands, uploads: VecDeque::new() }),
        })
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool<Mem>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all queued commands are complete.
    pub(super) fn finish(&self) -> Result<()> {
        self.finish_locked(&mut self.queue())
    }

    fn finish_locked(&self, queue: &mut Queue) -> Result<()> {
        core::finish(&queue.commands).map_err(|e| fault(format!("{} failed", self.info.id), e))?;
        queue.uploads.clear();
        Ok(())
    }

    pub(super) fn memory_report(&self) -> MemoryReport {
        self.pool().report()
    }

    pub(super) fn release_cached_memory(&self) {
        // Freed after the lock is released.
        let free = self.pool().release();
        drop(free);
    }

    /// Finishes the queue and replaces it by one with these properties. The queue stays locked: a command that another thread added
    /// in between would not be ordered with those of the new queue.
    pub(super) fn replace_queue(&self, properties: Option<CommandQueueProperties>) -> Result<()> {
        let mut queue = self.queue();
        self.finish_locked(&mut queue)?;
        queue.commands = core::create_command_queue(&self.context, self.device, properties)
            .map_err(|e| fault(format!("cannot create a queue for {}", self.info.id), e))?;
        Ok(())
    }
}
