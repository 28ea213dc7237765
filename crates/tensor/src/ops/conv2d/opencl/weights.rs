//! Kernels that reorder weights and reduce their gradients (`weights.cl`).

use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::conv2d::ConvShape;
use neocog_base::Result;

/// Number of rows that a work-item processes.
const BLOCK: usize = 8;

fn source() -> Source {
    Source::new("conv2d_weights", include_str!("weights.cl")).define("BLOCK", BLOCK)
}

/// The taps of one axis that a phase of the input gradient depends on.
#[derive(Clone, Copy)]
pub struct TapRange {
    pub first: usize,
    pub step: usize,
    pub count: usize,
}

/// Returns the weight transposed to `[group, in, out, rows, columns]`, with the taps of `rows` and `columns`
/// only.
pub fn transposed(
    call: &Call<'_>,
    conv: &ConvShape,
    weight: &Buffer,
    rows: TapRange,
    columns: TapRange,
) -> Result<Buffer> {
    let taps = rows.count * columns.count;
    let out = call.scratch(conv.groups * conv.in_per_group * conv.out_per_group * taps)?;
    if taps == 0 {
        return Ok(out);
    }
    let sizes =
        [conv.groups, conv.out_per_group, conv.in_per_group, conv.kh, conv.kw, usize::from(conv.flip), 0, 0];
    let ranges = [rows.count, columns.count, rows.first, rows.step, columns.first, columns.step, 0, 0];
    let args = [weight.into(), (&out).into(), Arg::Int8(sizes.map(int)), Arg::Int8(ranges.map(int))];
    let items = conv.groups * conv.out_per_group * conv.in_per_group.div_ceil(BLOCK);
    // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
    unsafe { call.launch(&source(), "transpose_weight", &args, Grid::line(items)) }?;
    Ok(out)
}

/// Adds the partial sums `[part, group, (channel, tap), output]` of the weight gradient and writes them to
/// `dw`.
pub fn reduce_grad(
    call: &Call<'_>,
    conv: &ConvShape,
    sums: &Buffer,
    parts: usize,
    dw: &Buffer,
) -> Result<()> {
    let args = [
        sums.into(),
        dw.into(),
        parts.into(),
        conv.groups.into(),
        conv.out_per_group.into(),
        conv.filter_len().into(),
        (conv.kh * conv.kw).into(),
        usize::from(conv.flip).into(),
    ];
    let items = conv.groups * conv.out_per_group * conv.filter_len().div_ceil(BLOCK);
    // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
    unsafe { call.launch(&source(), "reduce_weight_grad", &args, Grid::line(items)) }
}
