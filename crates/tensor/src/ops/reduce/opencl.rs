//! Sums along axes on OpenCL devices.

use crate::core::call::{Call, View};
use crate::opencl::{Arg, Buffer, Grid, Source};
use crate::ops::broadcast::Strided;
use crate::ops::broadcast::opencl::axes;
use neocog_base::Result;

/// The floats of a piece of a row, as in the kernels.
const PIECE: usize = 2048;

/// The most parts that the sum of one output is cut into.
const PARTS: usize = 64;

/// So many work-items are enough for a device, so that outputs need not be cut into parts.
const ENOUGH: usize = 512;

/// `out = factor * ` the sum of `x` along the axes that broadcasting from `out` to `x` would repeat.
pub(crate) fn sum(call: &Call<'_>, x: View<'_>, out: View<'_>, factor: f32) -> Result<()> {
    if x.buffer.is_empty() {
        return call.fill(out.buffer, 0.0);
    }
    let walk = Strided::new(x.shape, [x.shape, out.shape]);
    let sums = Sums {
        inner: walk.inner(),
        rows: Axes::of(&walk, |step| step == 0),
        outputs: Axes::of(&walk, |step| step != 0),
        columns: walk.inner_steps()[1] != 0,
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
            steps: [out.buffer.len(), 0, 0, 0, 0, 0, 0, 0],
        };
        Sums { inner: out.buffer.len(), rows, outputs: Axes::none(), columns: true }
    } else {
        let count = out.buffer.len();
        let outputs =
            Axes { count, extents: [count, 1, 1, 1, 1, 1, 1, 1], steps: [parts, 0, 0, 0, 0, 0, 0, 0] };
        Sums { inner: parts, rows: Axes::none(), outputs, columns: false }
    };
    rest.launch(call, &partial, out.buffer, 1, factor)
}

/// What is summed, seen as rows of an array.
struct Sums {
    /// The floats of a row.
    inner: usize,
    /// The rows that are summed.
    rows: Axes,
    /// The outputs: numbers, or rows when columns are summed.
    outputs: Axes,
    /// Whether the rows are added to one another, instead of each being summed up.
    columns: bool,
}

/// Axes of the array outside of its rows.
struct Axes {
    count: usize,
    /// The innermost first.
    extents: [usize; 8],
    steps: [usize; 8],
}

impl Axes {
    fn none() -> Self {
        Axes { count: 1, extents: [1; 8], steps: [0; 8] }
    }

    /// The outer axes whose step in the output is `wanted`.
    fn of(walk: &Strided<2>, wanted: impl Fn(usize) -> bool) -> Self {
        let mut axes = Self::none();
        let outer = walk.extents.len() - 1;
        let chosen = walk.extents[..outer].iter().zip(&walk.steps[..outer]).rev();
        for (i, (&extent, step)) in chosen.filter(|(_, step)| wanted(step[1])).enumerate() {
            axes.count *= extent;
            axes.extents[i] = extent;
            axes.steps[i] = step[0];
        }
        axes
    }
}

impl Sums {
    /// Into how many parts the sum of an output is cut: by the shapes alone, so that the order of additions is
    /// always the same.
    fn parts(&self) -> usize {
        let (items, units) = if self.columns {
            (self.outputs.count * self.inner.div_ceil(8), self.rows.count.div_ceil(16))
        } else {
            (self.outputs.count, self.rows.count * self.inner.div_ceil(PIECE))
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
            axes(self.rows.steps),
            self.outputs.count.into(),
            axes(self.outputs.extents),
            axes(self.outputs.steps),
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
