//! The call of an operation on an OpenCL device.

use crate::core::shape::Shape;
use crate::opencl::{Arg, Buffer, DeviceInfo, Grid, Kind, Runtime, Source, TileConfig};
use neocog_base::{Error, Result};

/// A tensor on an OpenCL device: a shape and a buffer that holds exactly its elements, contiguous in row-major order.
///
/// The buffer is aligned to 128 bytes. A tensor without elements has a buffer that must not be read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Shape of the tensor.
    pub shape: &'a Shape,
    /// Memory of the tensor.
    pub buffer: &'a Buffer,
}

impl<'a> From<View<'a>> for Arg<'a> {
    fn from(view: View<'a>) -> Self {
        Arg::Buffer(view.buffer)
    }
}

/// One run of an operation on an OpenCL device: its inputs and outputs, and methods to launch kernels.
///
/// Kernels run asynchronously, in the order in which they are launched. Inputs, outputs and scratch may be dropped as soon
/// as all kernels that use them are launched.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    runtime: &'static Runtime,
    op: &'static str,
    inputs: &'a [View<'a>],
    outputs: &'a [View<'a>],
    /// The tile sizes when the call started: auto-tuning may change those of the device in between.
    tiles: TileConfig,
    /// Whether scratch memory is filled with NaN, so that tests detect reads of unwritten memory.
    poison: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        runtime: &'static Runtime,
        op: &'static str,
        inputs: &'a [View<'a>],
        outputs: &'a [View<'a>],
    ) -> Self {
        Call { runtime, op, inputs, outputs, tiles: runtime.tile_config(), poison: false }
    }

    /// Fills scratch memory with NaN.
    pub(crate) fn poisoned(self) -> Self {
        Call { poison: true, ..self }
    }

    /// Returns all inputs.
    pub fn inputs(&self) -> &'a [View<'a>] {
        self.inputs
    }

    /// Returns the input at `position`.
    ///
    /// # Panics
    /// If there is none; [`Op::infer`](crate::Op::infer) has checked the number of inputs.
    pub fn input(&self, position: usize) -> View<'a> {
        self.inputs[position]
    }

    /// Returns all outputs; state outputs come first.
    pub fn outputs(&self) -> &'a [View<'a>] {
        self.outputs
    }

    /// Returns the output at `position`.
    ///
    /// # Panics
    /// If there is none.
    pub fn output(&self, position: usize) -> View<'a> {
        self.outputs[position]
    }

    /// The call of the operation named `op`, which computes a part of this one.
    pub(crate) fn part(&self, op: &'static str, inputs: &'a [View<'a>], outputs: &'a [View<'a>]) -> Call<'a> {
        Call { op, inputs, outputs, ..*self }
    }

    /// Returns the properties of the device.
    pub fn device(&self) -> &'static DeviceInfo {
        self.runtime.info()
    }

    /// Whether the device is a processor: kernels then use no barriers, and vectors of eight floats.
    pub fn on_cpu(&self) -> bool {
        self.device().kind == Kind::Cpu
    }

    /// Returns the tile sizes of matrix products on this device, which stay the same during the call.
    pub(crate) fn tile_config(&self) -> TileConfig {
        self.tiles
    }

    /// Returns the width of the vector type `real` in kernels that do not define `WIDTH` themselves.
    pub fn width(&self) -> usize {
        if self.on_cpu() { 8 } else { 4 }
    }

    /// Allocates a buffer of `elements` floats with unspecified contents from the device's pool.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn scratch(&self, elements: usize) -> Result<Buffer> {
        let buffer = self.runtime.allocate(elements)?;
        if self.poison {
            buffer.fill(f32::NAN)?;
        }
        Ok(buffer)
    }

    /// Launches the kernel `kernel` of `source` on `grid`. The number of work-items is rounded up to whole work-groups, so
    /// kernels must check their bounds. An empty grid launches nothing.
    ///
    /// The program is compiled at its first use and cached in memory and on disk.
    ///
    /// # Errors
    /// If the source does not compile (the message contains the compiler's log), or the device fails.
    ///
    /// # Panics
    /// If number or types of the arguments differ from the kernel's signature.
    ///
    /// # Safety
    /// With these arguments, no work-item of the rounded grid may read or write outside of the buffers and of the local memory, and
    /// work-items must not race. The library checks none of it: a processor as a device executes the kernel in the memory of this
    /// program. The shapes of [`inputs`](Self::inputs) and [`outputs`](Self::outputs) are those of this operation only if the caller
    /// is [`run`](crate::run): a kernel that another operation may call checks them first.
    pub unsafe fn launch(
        &self,
        source: &Source,
        kernel: &'static str,
        args: &[Arg<'_>],
        grid: Grid,
    ) -> Result<()> {
        if grid.is_empty() {
            return Ok(());
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.runtime.launch(self.op, source, kernel, args, &grid) }
    }

    /// Sets every element of `buffer`, an output or scratch memory, to `value`.
    ///
    /// # Errors
    /// If it is an input, or the device fails.
    pub fn fill(&self, buffer: &Buffer, value: f32) -> Result<()> {
        self.check_writable(buffer)?;
        buffer.fill(value)
    }

    /// Copies all elements of `from` to `to`, an output or scratch memory.
    ///
    /// # Errors
    /// If `to` is an input, the lengths or the devices differ, or the device fails.
    pub fn copy(&self, from: &Buffer, to: &Buffer) -> Result<()> {
        self.check_writable(to)?;
        from.copy_to(to)
    }

    /// Checks that a buffer is not that of an input, which other tensors may share.
    fn check_writable(&self, buffer: &Buffer) -> Result<()> {
        let among = |views: &[View<'_>]| views.iter().any(|view| std::ptr::eq(view.buffer, buffer));
        if among(self.inputs) && !among(self.outputs) {
            return Err(Error::invalid_argument(format!("{} writes to one of its inputs", self.op)));
        }
        Ok(())
    }
}
