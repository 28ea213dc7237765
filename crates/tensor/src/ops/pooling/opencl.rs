//! What the kernels of all poolings share on OpenCL devices.

use super::Axis;
use crate::core::call::Call;
use crate::opencl::{Arg, Grid, Source, int};

/// Returns the program `name` of a pooling, with `window.cl` inserted; `columns` is its horizontal axis.
pub(in crate::ops) fn program(name: &'static str, text: &'static str, columns: Axis) -> Source {
    let stride = if columns.stride <= 2 { columns.stride } else { 0 };
    Source::new(name, text).define("STRIDE", stride).insert(include_str!("window.cl"))
}

/// Packs both axes into kernel arguments.
pub(in crate::ops) fn arguments(axes: [Axis; 2]) -> [Arg<'static>; 2] {
    axes.map(|axis| {
        let inside = axis.inside();
        let Axis { input, output, kernel, stride, padding, dilation } = axis;
        Arg::Int8([input, output, kernel, stride, padding, dilation, inside.start, inside.end].map(int))
    })
}

/// Returns the number of lines of `width` numbers that each work-item computes, and the grid for `lines` lines. On GPUs a
/// work-item computes one number.
pub(in crate::ops) fn lines(call: &Call<'_>, lines: usize, width: usize) -> (usize, Grid) {
    if !call.on_cpu() {
        return (1, Grid::line(lines * width));
    }
    let each = (512 / width).max(1);
    (each, Grid::new([lines.div_ceil(each)], [1]))
}
