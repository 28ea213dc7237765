//! Buffers in device memory, allocated from the device's pool, and copies to and from them.

use std::ops::Range;

use ocl::core::{self, BufferRegion, Event, Mem, MemFlags};

use super::context::{DeviceContext, LINE};
use super::error::{fault, is_out_of_memory};
use crate::memory::{is_short_lived, size_class};
use crate::opencl::info::DeviceId;
use neocog_base::{Error, Result};

/// Floats of a line.
const LINE_FLOATS: usize = LINE / size_of::<f32>();

/// Largest number of uploads in the queue, each of which keeps its data.
const UPLOADS_IN_QUEUE: usize = 8;

/// Floats in device memory, which return to the device's pool when dropped.
///
/// A new buffer has unspecified contents.
pub struct Buffer {
    context: &'static DeviceContext,
    mem: Mem,
    len: usize,
    /// Lines taken from the pool; 0 for a sub-buffer.
    lines: usize,
}

/// Creates a memory object; on failure again, without the pool's free memory.
fn create(context: &DeviceContext, lines: usize) -> Result<Mem> {
    // SAFETY: no host memory is passed, and no flag makes the device use any.
    let create = || unsafe {
        core::create_buffer(&context.context, MemFlags::READ_WRITE, lines * LINE_FLOATS, None::<&[f32]>)
    };
    let mut made = create();
    if made.as_ref().is_err_and(is_out_of_memory) {
        context.release_cached_memory();
        context.finish()?;
        made = create();
    }
    made.map_err(|e| {
        let in_use = context.pool().report().in_use as u64;
        let doing = format!(
            "cannot allocate {} of device memory ({} of {} in use)",
            mebibytes((lines * LINE) as u64),
            mebibytes(in_use),
            mebibytes(context.info.global_memory)
        );
        fault(doing, e)
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Buffer {
    /// Allocates a buffer of `len` floats with unspecified contents.
    pub(super) fn new(context: &'static DeviceContext, len: usize) -> Result<Self> {
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        if i32::try_from(len).is_err() || bytes > context.info.max_allocation {
            return Err(Error::device(format!(
                "{} supports buffers of at most {} and fewer than 2^31 elements; {} are needed",
                context.info.id,
                mebibytes(context.info.max_allocation),
                mebibytes(bytes)
            )));
        }
        let lines = size_class(len.div_ceil(LINE_FLOATS));
        let (reused, lines) = if is_short_lived() {
            context.pool().take_recent(lines)
        } else {
            (context.pool().take(lines), lines)
        };
        let mem = match reused {
            Some(mem) => mem,
            None => {
                let mem = create(context, lines)?;
                context.pool().made(lines);
                mem
            }
        };
        Ok(Buffer { context, mem, len, lines })
    }

    /// Returns the number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no floats.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.context.info.id
    }

    pub(super) fn mem(&self) -> &Mem {
        &self.mem
    }

    /// Sets every element to `value`.
    pub(crate) fn fill(&self, value: f32) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let queue = self.context.queue();
        core::enqueue_fill_buffer(
            &queue.commands,
            &self.mem,
            value,
            0,
            self.len,
            None::<()>,
            None::<()>,
            None,
        )
        .map_err(|e| fault("cannot fill a buffer", e))
    }

    /// Copies `values`, one for each element, to the device. They are kept alive until the copy is complete.
    pub(crate) fn write(&self, values: Vec<f32>) -> Result<()> {
        assert_eq!(values.len(), self.len, "one value for each element");
        if self.is_empty() {
            return Ok(());
        }
        let failed = |e| fault("cannot copy to the device", e);
        let mut queue = self.context.queue();
        let queue = &mut *queue;
        while let Some((event, _)) = queue.uploads.front() {
            if queue.uploads.len() >= UPLOADS_IN_QUEUE {
                core::wait_for_event(event).map_err(failed)?;
            } else if !core::event_is_complete(event).map_err(failed)? {
                break;
            }
            queue.uploads.pop_front();
        }
        let mut event = Event::null();
        // SAFETY: `uploads` keeps the values alive, and in place, until the event is complete.
        unsafe {
            core::enqueue_write_buffer(
                &queue.commands,
                &self.mem,
                false,
                0,
                &values,
                None::<()>,
                Some(&mut event),
            )
        }
        .map_err(failed)?;
        queue.uploads.push_back((event, values));
        core::flush(&queue.commands).map_err(failed)
    }

    /// Copies a range of elements to the host, after all commands queued before.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        let mut values: Vec<f32> = bytemuck::allocation::try_zeroed_vec(range.len()).map_err(|()| {
            Error::out_of_memory(format!(
                "cannot allocate {} bytes of host memory",
                range.len() * size_of::<f32>()
            ))
        })?;
        if values.is_empty() {
            return Ok(values);
        }
        let failed = |e| fault("cannot copy from the device", e);
        let mut event = Event::null();
        let submitted = {
            let queue = self.context.queue();
            // SAFETY: the values are neither accessed nor freed before the event is complete, see below.
            unsafe {
                core::enqueue_read_buffer(
                    &queue.commands,
                    &self.mem,
                    false,
                    range.start,
                    &mut values,
                    None::<()>,
                    Some(&mut event),
                )
            }
            .map_err(failed)?;
            core::flush(&queue.commands)
        };
        match submitted.and_then(|()| core::wait_for_event(&event)) {
            Ok(()) => Ok(values),
            Err(e) => {
                // The driver may still write to the memory.
                std::mem::forget(values);
                Err(failed(e))
            }
        }
    }

    /// Copies all elements to `to`, which has the same length and device.
    pub(crate) fn copy_to(&self, to: &Buffer) -> Result<()> {
        if (self.len, self.device()) != (to.len, to.device()) {
            return Err(Error::shape(format!("cannot copy {self:?} to {to:?}")));
        }
        self.copy_range(0..self.len, to)
    }

    /// Copies a range of elements to a new buffer.
    pub(crate) fn copy(&self, range: Range<usize>) -> Result<Buffer> {
        let to = Self::new(self.context, range.len())?;
        self.copy_range(range, &to)?;
        Ok(to)
    }

    fn copy_range(&self, range: Range<usize>, to: &Buffer) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let queue = self.context.queue();
        let (start, len) = (range.start, range.len());
        core::enqueue_copy_buffer::<f32, _, _, _>(
            &queue.commands,
            &self.mem,
            &to.mem,
            start,
            0,
            len,
            None::<()>,
            None::<()>,
        )
        .map_err(|e| fault("cannot copy within the device", e))
    }

    /// Returns a range of elements as a buffer: a sub-buffer if its alignment permits one, else a copy.
    pub(crate) fn part(&self, range: Range<usize>) -> Result<Buffer> {
        if range.is_empty() || !range.start.is_multiple_of(LINE_FLOATS) {
            return self.copy(range);
        }
        let region = BufferRegion::new(range.start, range.len());
        let mem = core::create_sub_buffer::<f32>(&self.mem, MemFlags::READ_WRITE, &region)
            .map_err(|e| fault("cannot create a sub-buffer", e))?;
        Ok(Buffer { context: self.context, mem, len: range.len(), lines: 0 })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines > 0 {
            // Buffers that the pool does not keep are freed after its lock is released.
            let _freed = self.context.pool().put_back(self.mem.clone(), self.lines);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats on {})", self.len, self.device())
    }
}
