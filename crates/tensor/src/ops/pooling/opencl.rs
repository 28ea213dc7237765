//! What the kernels of all poolings share on OpenCL devices.

use super::Axis;
use crate::core::call::Call;
use crate::opencl::{Arg, Grid, Source, int};
use neocog_base::{Error, Result};

/// Returns the program `name` of a pooling, with `window.cl` inserted; `columns` is its horizontal axis.
pub(in crate::ops) fn program(name: &'static str, text: &'static str, columns: Axis) -> Source {
    let stride = if columns.stride <= 2 { columns.stride } else { 0 };
    Source::new(name, text).define("STRIDE", stride).insert(include_str!("window.cl"))
}

/// Packs both axes into kernel arguments.
///
/// # Errors
/// If the kernels cannot compute a position with 31 bits.
pub(in crate::ops) fn arguments(axes: [Axis; 2]) -> Result<[Arg<'static>; 2]> {
    for axis in axes {
        let Axis { input, output, kernel, stride, padding, dilation } = axis;
        let reach = (kernel as u128) * (dilation as u128) + (output as u128) * (stride as u128);
        if reach + input as u128 + 2 * padding as u128 > i32::MAX as u128 {
            return Err(Error::invalid_argument(format!(
                "windows of {kernel} elements with stride {stride}, padding {padding} and dilation {dilation} are too large \
                 for an OpenCL device, which computes positions with 31 bits"
            )));
        }
    }
    Ok(axes.map(|axis| {
        let inside = axis.inside();
        let Axis { input, output, kernel, stride, padding, dilation } = axis;
        Arg::Int8([input, output, kernel, stride, padding, dilation, inside.start, inside.end].map(int))
    }))
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
