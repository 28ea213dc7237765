//! What a kernel is launched with: its program, its arguments and its grid.

use std::fmt::{self, Display, Write};

use super::runtime::Buffer;

/// An OpenCL C program: its source text and preprocessor definitions.
///
/// `common.cl` is inserted before the text; every kernel can use its functions. A program is compiled once for each set of
/// definitions: pass sizes as arguments, and define only what the compiler must know to generate good code.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only the runtime reads it"))]
pub struct Source {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) defines: String,
    pub(super) code: String,
}

impl Source {
    /// Creates a program from its text: `Source::new("softmax", include_str!("kernels.cl"))`. `name` appears in messages.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Source { name, text, defines: String::new(), code: String::new() }
    }

    /// Adds `#define name value` at the beginning of the program.
    #[must_use]
    pub fn define(mut self, name: &str, value: impl Display) -> Self {
        let _ = writeln!(self.defines, "#define {name} {value}");
        self
    }

    /// Inserts generated code between `common.cl` and the text.
    #[must_use]
    pub fn insert(mut self, code: &str) -> Self {
        self.code.push_str(code);
        self
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Arg<'a> {
    /// `global T *`, for any `T`.
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
    /// `local T *`: the size in bytes of local memory allocated for each work-group.
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

impl<'a> From<&'a Buffer> for Arg<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Arg::Buffer(buffer)
    }
}

impl From<usize> for Arg<'_> {
    /// Converts an extent, stride or position to `int`. Buffers have fewer than 2^31 elements, so these always fit.
    ///
    /// # Panics
    /// If the value does not fit.
    fn from(value: usize) -> Self {
        Arg::Int(int(value))
    }
}

impl From<f32> for Arg<'_> {
    fn from(value: f32) -> Self {
        Arg::Float(value)
    }
}

/// Converts an extent, stride or position to the `int` of a kernel.
///
/// # Panics
/// If the value does not fit; buffers have fewer than 2^31 elements.
pub(crate) fn int(value: usize) -> i32 {
    i32::try_from(value).expect("sizes on an OpenCL device fit into 31 bits")
}

/// The number of work-items of a launch, and the size of their work-groups.
///
/// Work-group sizes should be constants: some drivers recompile a kernel for each new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only the runtime reads it"))]
pub struct Grid {
    pub(super) dims: u32,
    pub(super) items: [usize; 3],
    pub(super) group: [usize; 3],
}

impl Grid {
    /// Creates a grid of `items` work-items in groups of `group`, with one to three axes: `Grid::new([columns, rows], [64, 1])`.
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

    /// Creates a one-dimensional grid of `items` independent work-items in groups of 64.
    pub const fn line(items: usize) -> Self {
        Self::new([items], [64])
    }

    /// Whether the grid has no work-items.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.contains(&0)
    }

    /// The numbers of work-items, rounded up to whole groups.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only the runtime reads it"))]
    pub(super) fn rounded(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.items[axis].next_multiple_of(self.group[axis].max(1)))
    }
}
