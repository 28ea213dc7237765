//! What an operation's OpenCL kernels are launched with.

use std::fmt::{self, Display, Write};

use super::device::{DeviceInfo, Kind};
use super::product::TileConfig;
use super::runtime::{Buffer, Runtime};
use crate::core::op::Op;
use crate::core::shape::Shape;
use neocog_base::{Context as _, Result};

/// A tensor as a kernel sees it: a shape and a buffer with exactly its elements, in row-major order.
///
/// The buffer starts at a multiple of 128 bytes. One without elements still is a buffer, of which nothing may be read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The extents.
    pub shape: &'a Shape,
    /// The memory.
    pub buffer: &'a Buffer,
}

/// One run of an operation on an OpenCL device: its inputs and outputs, and the means to launch kernels.
///
/// Kernels run in the order in which they are launched; nothing waits for them. Inputs, outputs and scratch may be
/// dropped as soon as they are launched.
#[derive(Debug)]
pub struct Call<'a> {
    runtime: &'static Runtime,
    op: &'a dyn Op,
    inputs: &'a [View<'a>],
    outputs: &'a [View<'a>],
    /// Whether scratch memory is filled with NaN, so that tests see who reads it unwritten.
    poison: bool,
}

impl<'a> Call<'a> {
    /// A call that only prepares runs of `op`: it has no inputs and no outputs.
    pub(crate) fn before(runtime: &'static Runtime, op: &'a dyn Op) -> Self {
        Call { runtime, op, inputs: &[], outputs: &[], poison: false }
    }

    /// All inputs.
    pub fn inputs(&self) -> &'a [View<'a>] {
        self.inputs
    }

    /// Input `position`.
    ///
    /// # Panics
    /// When there is none: an operation's `infer` has checked their number.
    pub fn input(&self, position: usize) -> View<'a> {
        self.inputs[position]
    }

    /// All outputs, the state first.
    pub fn outputs(&self) -> &'a [View<'a>] {
        self.outputs
    }

    /// Output `position`.
    ///
    /// # Panics
    /// When there is none.
    pub fn output(&self, position: usize) -> View<'a> {
        self.outputs[position]
    }

    /// The call of an operation that is a part of this one.
    pub(crate) fn part(&self, op: &'a dyn Op, inputs: &'a [View<'a>], outputs: &'a [View<'a>]) -> Call<'a> {
        Call { op, inputs, outputs, ..*self }
    }

    /// What the device is.
    pub fn device(&self) -> &'static DeviceInfo {
        self.runtime.info()
    }

    /// Whether the device is a processor: then no barriers, and vectors of eight floats.
    pub fn on_cpu(&self) -> bool {
        self.device().kind == Kind::Cpu
    }

    /// How products are cut into blocks.
    pub(crate) fn tile_config(&self) -> TileConfig {
        self.runtime.tile_config()
    }

    /// How many floats `real` holds in kernels that do not define `WIDTH` themselves.
    pub fn width(&self) -> usize {
        if self.on_cpu() { 8 } else { 4 }
    }

    /// Memory for `elements` floats, with unspecified contents, for as long as the result lives.
    ///
    /// # Errors
    /// When the device has not that much memory left.
    pub fn scratch(&self, elements: usize) -> Result<Buffer> {
        let buffer = self.runtime.allocate(elements)?;
        if self.poison {
            buffer.fill(f32::NAN)?;
        }
        Ok(buffer)
    }

    /// Launches the kernel `kernel` of `source` on `grid`, whose items are rounded up to whole work-groups: the kernel
    /// checks its bounds. A grid without items launches nothing.
    ///
    /// The program is compiled at its first use, and kept in memory and on disk.
    ///
    /// # Errors
    /// When the source does not compile (the message has the compiler's log), or the device fails.
    ///
    /// # Panics
    /// When the arguments are not those of the kernel's signature, in number or type.
    pub fn launch(&self, source: &Source, kernel: &'static str, args: &[Arg<'_>], grid: Grid) -> Result<()> {
        if grid.items.contains(&0) {
            return Ok(());
        }
        self.runtime.launch(self.op.name(), source, kernel, args, &grid)
    }

    /// Sets every element of `buffer` to `value`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn fill(&self, buffer: &Buffer, value: f32) -> Result<()> {
        buffer.fill(value)
    }

    /// Copies all elements of `from` to `to`, which has as many.
    ///
    /// # Errors
    /// When the device fails.
    pub fn copy(&self, from: &Buffer, to: &Buffer) -> Result<()> {
        from.copy_to(to)
    }
}

/// Runs an operation's kernels: what [`crate::core::run`] and the conformance tests do on an OpenCL device.
pub(crate) fn run_op(
    op: &dyn Op,
    runtime: &'static Runtime,
    inputs: &[View<'_>],
    outputs: &[View<'_>],
    poison: bool,
) -> Result<()> {
    if outputs.iter().all(|out| out.buffer.is_empty()) {
        return Ok(());
    }
    let shapes = |views: &[View<'_>]| views.iter().map(|view| *view.shape).collect::<Vec<Shape>>();
    op.opencl(&Call { runtime, op, inputs, outputs, poison }).context(|| {
        format!("{} of {:?} to {:?} on {}", op.name(), shapes(inputs), shapes(outputs), runtime.info().id)
    })?;
    runtime.note_run(op.name(), || op.multiply_adds(&shapes(inputs), &shapes(outputs)));
    Ok(())
}

/// A program: a text in OpenCL C, and what is defined before it.
///
/// Before the text comes `common.cl`, whose names every kernel can use. A program is compiled anew for every other set
/// of defines: give sizes as arguments, and define only what a kernel must know to be compiled well.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only devices read it"))]
pub struct Source {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) defines: String,
    pub(super) code: String,
}

impl Source {
    /// The program `name`, for messages, with this text: `Source::new("softmax", include_str!("kernels.cl"))`.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Source { name, text, defines: String::new(), code: String::new() }
    }

    /// With `#define name value` before everything else.
    #[must_use]
    pub fn define(mut self, name: &str, value: impl Display) -> Self {
        let _ = writeln!(self.defines, "#define {name} {value}");
        self
    }

    /// With `code` between `common.cl` and the text: functions that were made at run time.
    #[must_use]
    pub fn insert(mut self, code: &str) -> Self {
        self.code.push_str(code);
        self
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Arg<'a> {
    /// `global T *`, of any `T`.
    Buffer(&'a Buffer),
    /// `int`.
    Int(i32),
    /// `uint`.
    Uint(u32),
    /// `ulong`.
    Ulong(u64),
    /// `float`.
    Float(f32),
    /// `int8`.
    Int8([i32; 8]),
    /// `local T *`: so many bytes of local memory for every work-group.
    Local(usize),
}

impl fmt::Debug for Arg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arg::Buffer(buffer) => write!(f, "a buffer of {} floats", buffer.len()),
            Arg::Int(v) => write!(f, "int {v}"),
            Arg::Uint(v) => write!(f, "uint {v}"),
            Arg::Ulong(v) => write!(f, "ulong {v}"),
            Arg::Float(v) => write!(f, "float {v}"),
            Arg::Int8(v) => write!(f, "int8 {v:?}"),
            Arg::Local(bytes) => write!(f, "{bytes} bytes of local memory"),
        }
    }
}

impl<'a> From<View<'a>> for Arg<'a> {
    fn from(view: View<'a>) -> Self {
        Arg::Buffer(view.buffer)
    }
}

impl<'a> From<&'a Buffer> for Arg<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Arg::Buffer(buffer)
    }
}

impl From<usize> for Arg<'_> {
    /// An `int`: an extent, a step or a position, which always fit, as no buffer has more elements than that.
    ///
    /// # Panics
    /// When it does not fit.
    fn from(value: usize) -> Self {
        Arg::Int(int(value))
    }
}

impl From<f32> for Arg<'_> {
    fn from(value: f32) -> Self {
        Arg::Float(value)
    }
}

/// A size as a kernel's `int`: it fits, as no buffer has more elements than that.
pub(crate) fn int(value: usize) -> i32 {
    i32::try_from(value).expect("sizes on an OpenCL device fit into 31 bits")
}

/// How many work-items a kernel is launched with, and how they are grouped.
///
/// The size of the groups should be a constant: some drivers compile a kernel anew for every other one.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only devices read it"))]
pub struct Grid {
    pub(super) dims: u32,
    pub(super) items: [usize; 3],
    pub(super) group: [usize; 3],
}

impl Grid {
    /// `items` work-items, in groups of `group`, along one to three axes: `Grid::new([columns, rows], [64, 1])`.
    pub const fn new<const D: usize>(items: [usize; D], group: [usize; D]) -> Self {
        const { assert!(D >= 1 && D <= 3, "a grid has one to three axes") };
        let mut grid = Grid { dims: D as u32, items: [1; 3], group: [1; 3] };
        let mut axis = 0;
        while axis < D {
            grid.items[axis] = items[axis];
            grid.group[axis] = group[axis];
            axis += 1;
        }
        grid
    }

    /// `items` work-items along one axis, in groups of 64: for kernels whose items are independent.
    pub const fn line(items: usize) -> Self {
        Self::new([items], [64])
    }

    /// The items, rounded up to whole groups.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "the runtime asks"))]
    pub(super) fn rounded(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.items[axis].next_multiple_of(self.group[axis].max(1)))
    }
}
