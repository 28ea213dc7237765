//! Buffers on the device, lent by the device's pool; copies to and from them.

use std::ops::Range;

use ocl::core::{self, BufferRegion, Event, Mem, MemFlags};

use super::{Runtime, UPLOADS_IN_QUEUE, fault, is_out_of_memory};
use crate::memory::{is_short_lived, size_class};
use crate::opencl::DeviceId;
use neocog_base::{Error, Result};

/// Bytes: buffers start at multiples of it, and their sizes are multiples of it. No device asks for a larger alignment
/// of a part of a buffer than 128 bytes.
pub(super) const LINE: usize = 128;

/// Floats of a line.
const LINE_FLOATS: usize = LINE / size_of::<f32>();

/// Floats in a device's memory, which go back to the device's pool when it is dropped.
///
/// A new buffer holds whatever its last user left there.
pub struct Buffer {
    runtime: &'static Runtime,
    mem: Mem,
    len: usize,
    /// What the pool lent; 0 for a part of another buffer.
    lines: usize,
}

impl Runtime {
    /// A buffer of `len` floats, with unspecified contents.
    pub(crate) fn allocate(&'static self, len: usize) -> Result<Buffer> {
        let bytes = len as u64 * size_of::<f32>() as u64;
        if i32::try_from(len).is_err() || bytes > self.info.max_allocation {
            return Err(Error::device(format!(
                "{} allows buffers of at most {}, and sizes here are below 2^31; {} are needed",
                self.info.id,
                mebibytes(self.info.max_allocation),
                mebibytes(bytes)
            )));
        }
        let lines = size_class(len.div_ceil(LINE_FLOATS));
        let (reused, lines) =
            if is_short_lived() { self.pool().take_recent(lines) } else { (self.pool().take(lines), lines) };
        let mem = match reused {
            Some(mem) => mem,
            None => self.make(lines).inspect_err(|_| self.pool().not_made(lines))?,
        };
        Ok(Buffer { runtime: self, mem, len, lines })
    }

    fn make(&self, lines: usize) -> Result<Mem> {
        // SAFETY: no host memory is given, so no flag makes the device use any.
        let create = || unsafe {
            core::create_buffer(&self.context, MemFlags::READ_WRITE, lines * LINE_FLOATS, None::<&[f32]>)
        };
        let mut made = create();
        if made.as_ref().is_err_and(is_out_of_memory) {
            self.release_cached_memory();
            self.finish()?;
            made = create();
        }
        made.map_err(|e| {
            let in_use = self.pool().report().in_use as u64;
            let doing = format!(
                "cannot get {} of memory, with {} in use of the device's {}",
                mebibytes((lines * LINE) as u64),
                mebibytes(in_use - (lines * LINE) as u64),
                mebibytes(self.info.global_memory)
            );
            fault(doing, e)
        })
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Buffer {
    /// The number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no floats.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.runtime.info.id
    }

    pub(super) fn mem(&self) -> &Mem {
        &self.mem
    }

    /// Sets every element.
    pub(crate) fn fill(&self, value: f32) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let state = self.runtime.state();
        core::enqueue_fill_buffer(&state.queue, &self.mem, value, 0, self.len, None::<()>, None::<()>, None)
            .map_err(|e| fault("cannot fill a buffer", e))
    }

    /// Copies `values`, as many as there are elements, to the device; they are kept until that is done.
    pub(crate) fn write(&self, values: Vec<f32>) -> Result<()> {
        assert_eq!(values.len(), self.len, "a buffer is written whole");
        if self.is_empty() {
            return Ok(());
        }
        let failed = |e| fault("cannot copy to the device", e);
        let mut state = self.runtime.state();
        let state = &mut *state;
        while let Some((event, _)) = state.uploads.front() {
            if state.uploads.len() >= UPLOADS_IN_QUEUE {
                core::wait_for_event(event).map_err(failed)?;
            } else if !core::event_is_complete(event).map_err(failed)? {
                break;
            }
            state.uploads.pop_front();
        }
        let mut event = Event::null();
        // SAFETY: the values stay where they are until the event is complete: `uploads` keeps them.
        unsafe {
            core::enqueue_write_buffer(
                &state.queue,
                &self.mem,
                false,
                0,
                &values,
                None::<()>,
                Some(&mut event),
            )
        }
        .map_err(failed)?;
        state.uploads.push_back((event, values));
        core::flush(&state.queue).map_err(failed)
    }

    /// A copy of some elements on the host; waits until all commands before are done.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        let mut values = vec![0.0; range.len()];
        if values.is_empty() {
            return Ok(values);
        }
        let failed = |e| fault("cannot copy from the device", e);
        let mut event = Event::null();
        {
            let state = self.runtime.state();
            // SAFETY: below, the event is waited for before anyone sees the values.
            unsafe {
                core::enqueue_read_buffer(
                    &state.queue,
                    &self.mem,
                    false,
                    range.start,
                    &mut values,
                    None::<()>,
                    Some(&mut event),
                )
            }
            .map_err(failed)?;
            core::flush(&state.queue).map_err(failed)?;
        }
        match core::wait_for_event(&event) {
            Ok(()) => Ok(values),
            Err(e) => {
                // Whether the driver still writes there is not known.
                std::mem::forget(values);
                Err(failed(e))
            }
        }
    }

    /// Copies all elements to `to`, which has as many.
    pub(crate) fn copy_to(&self, to: &Buffer) -> Result<()> {
        assert_eq!(self.len, to.len, "buffers are copied whole");
        self.copy_range(0..self.len, to)
    }

    /// A new buffer with a copy of some elements.
    pub(crate) fn copy(&self, range: Range<usize>) -> Result<Buffer> {
        let to = self.runtime.allocate(range.len())?;
        self.copy_range(range, &to)?;
        Ok(to)
    }

    fn copy_range(&self, range: Range<usize>, to: &Buffer) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let queue = &self.runtime.state().queue;
        let (start, len) = (range.start, range.len());
        core::enqueue_copy_buffer::<f32, _, _, _>(
            queue, &self.mem, &to.mem, start, 0, len, None::<()>, None::<()>,
        )
        .map_err(|e| fault("cannot copy on the device", e))
    }

    /// Some elements as a buffer: the same memory where OpenCL allows a part to start there, else a copy.
    pub(crate) fn part(&self, range: Range<usize>) -> Result<Buffer> {
        if range.is_empty() || !range.start.is_multiple_of(LINE_FLOATS) {
            return self.copy(range);
        }
        let region = BufferRegion::new(range.start, range.len());
        let mem = core::create_sub_buffer::<f32>(&self.mem, MemFlags::READ_WRITE, &region)
            .map_err(|e| fault("cannot take a part of a buffer", e))?;
        Ok(Buffer { runtime: self.runtime, mem, len: range.len(), lines: 0 })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines > 0 {
            // What the pool does not keep is freed here, after its lock is released.
            let _freed = self.runtime.pool().put_back(self.mem.clone(), self.lines);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats on {})", self.len, self.device())
    }
}
