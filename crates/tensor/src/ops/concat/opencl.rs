//! Copies of rows on OpenCL devices.

use crate::core::call::{Call, View};
use crate::opencl::{Grid, Source};
use neocog_base::Result;

/// Rows within a buffer: the position of the first, and the stride between them.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub start: usize,
    pub stride: usize,
}

/// Copies `rows` rows of `len` elements of `x` to the output.
pub(super) fn copy_rows(
    call: &Call<'_>,
    from: Rows,
    to: Rows,
    x: View<'_>,
    rows: usize,
    len: usize,
) -> Result<()> {
    let args = [
        x.into(),
        from.start.into(),
        from.stride.into(),
        call.output(0).into(),
        to.start.into(),
        to.stride.into(),
        rows.into(),
        len.into(),
    ];
    let source = Source::new("concat", include_str!("kernels.cl"));
    // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
    unsafe { call.launch(&source, "copy_rows", &args, Grid::line(rows * len.div_ceil(call.width()))) }
}
