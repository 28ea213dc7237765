//! OpenCL kernel.

use super::walk::Walk;
use crate::core::call::Call;
use crate::opencl::{Grid, Source};
use crate::ops::broadcast::opencl::axes;
use neocog_base::Result;

/// Computes the output of a permutation.
pub(super) fn permute(call: &Call<'_>, walk: &Walk) -> Result<()> {
    let ((inner, stride), (outer, outer_strides)) = (walk.inner(), walk.outer());
    // The innermost first.
    let (mut extents, mut strides) = ([1; 8], [0; 8]);
    outer.iter().rev().zip(&mut extents).for_each(|(&from, to)| *to = from);
    outer_strides.iter().rev().zip(&mut strides).for_each(|(&from, to)| *to = from);
    let rows: usize = outer.iter().product();
    let args = [
        call.input(0).into(),
        call.output(0).into(),
        axes(extents),
        axes(strides),
        rows.into(),
        inner.into(),
        stride.into(),
    ];
    let source = Source::new("permute", include_str!("kernels.cl"));
    // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
    unsafe { call.launch(&source, "permute", &args, Grid::line(rows * inner.div_ceil(call.width()))) }
}
