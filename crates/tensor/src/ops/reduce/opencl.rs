//! Sums along axes on OpenCL devices.

use crate::core::call::{Call, View};
use crate::opencl::{Arg, Buffer, Grid, Source};
use crate::ops::broadcast::Strided;
use crate::ops::broadcast::opencl::axes;
use neocog_base::Result;

/// Size of a block of a row in floats, as in the kernels.
const BLOCK: usize = 2048;

/// Largest number of parts of the sum of one output.
const PARTS: usize = 64;

/// Number of work-items that saturates a device: with as many outputs, sums are not split into parts.
const ENOUGH: usize = 512;

/// Sets `out` to `factor` times the sum of `x` along the axes that broadcasting from `out` to `x` repeats.
pub(crate) fn sum(call: &Call<'_>, x: View<'_>, out: View<'_>, factor: f32) -> Result<()> {
    if x.buffer.is_empty() {
        return call.fill(out.buffer, 0.0);
    }
    let walk = Strided::new(x.shape, [x.shape, out.shape]);
    let sums = Sums {
        inner: walk.inner(),
        rows: Axes::of(&walk, |stride| stride == 0),
        outputs: Axes::of(&walk, |stride| stride != 0),
        columns: walk.inner_strides()[1] != 0,
    };
    let parts = sums.parts();
    if parts == 1 {
        return sums.launch(call, x.buffer, out.buffer, 1, factor);
    }
    let partial = call.scratch(parts * out.buffer.len())?;
    sums.launch(call, x.buffer, &partial, parts, 1.0)?;
    let rest = if sums.columns {
        let rows = Axes {
            count: parts,
            extents: [parts, 1, 1, 1, 1, 1, 1, 1],
            strides: [out.buffer.len(), 0, 0, 0, 0, 0, 0, 0],
        };
        Sums { inner: out.buffer.len(), rows, outputs: Axes::none(), columns: true }
    } else {
        let count = out.buffer.len();
        let outputs =
            Axes { count, extents: [count, 1, 1, 1, 1, 1, 1, 1], strides: [parts, 0, 0, 0, 0, 0, 0, 0] };
        Sums { inner: parts, rows: Axes::none(), outputs, columns: false }
    };
    rest.launch(call, &partial, out.buffer, 1, factor)
}

/// A sum over rows of an array.
struct Sums {
    /// Length of a row in floats.
    inner: usize,
    /// The summed rows.
    rows: Axes,
    /// The outputs: numbers, or rows if columns are summed.
    outputs: Axes,
    /// Whether rows are added elementwise, rather than each row summed.
    columns: bool,
}

/// Outer axes of the array.
struct Axes {
    count: usize,
    /// Innermost first.
    extents: [usize; 8],
    strides: [usize; 8],
}

impl Axes {
    fn none() -> Self {
        Axes { count: 1, extents: [1; 8], strides: [0; 8] }
    }

    /// Returns the outer axes whose stride in the output is `wanted`.
    fn of(walk: &Strided<2>, wanted: impl Fn(usize) -> bool) -> Self {
        let mut axes = Self::none();
        let outer = walk.extents.len() - 1;
        let chosen = walk.extents[..outer].iter().zip(&walk.strides[..outer]).rev();
        for (i, (&extent, stride)) in chosen.filter(|(_, stride)| wanted(stride[1])).enumerate() {
            axes.count *= extent;
            axes.extents[i] = extent;
            axes.strides[i] = stride[0];
        }
        axes
    }
}

impl Sums {
    /// Returns the number of parts of the sum of an output. It depends on shapes only, so that the order of additions is
    /// always the same.
    fn parts(&self) -> usize {
        let (items, units) = if self.columns {
            (self.outputs.count * self.inner.div_ceil(8), self.rows.count.div_ceil(16))
        } else {
            (self.outputs.count, self.rows.count * self.inner.div_ceil(BLOCK))
        };
        (ENOUGH / items).clamp(1, PARTS).min(units)
    }

    fn launch(&self, call: &Call<'_>, x: &Buffer, out: &Buffer, parts: usize, factor: f32) -> Result<()> {
        let team = if call.on_cpu() { 1 } else { 64 };
        let source = Source::new("reduce", include_str!("kernels.cl")).define("TEAM", team);
        let args = [
            x.into(),
            out.into(),
            self.inner.into(),
            self.rows.count.into(),
            axes(self.rows.extents),
            axes(self.rows.strides),
            self.outputs.count.into(),
            axes(self.outputs.extents),
            axes(self.outputs.strides),
            parts.into(),
            Arg::Float(factor),
        ];
        let targets = self.outputs.count * parts;
        if self.columns {
            let items = targets * self.inner.div_ceil(call.width());
            call.launch(&source, "sum_columns", &args, Grid::line(items))
        } else {
            call.launch(&source, "sum_rows", &args, Grid::new([targets * team], [team]))
        }
    }
}
