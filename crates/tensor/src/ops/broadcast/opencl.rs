//! Broadcast kernels on OpenCL devices.

use super::Strided;
use crate::core::call::Call;
use crate::opencl::{Arg, Grid, Source, int};
use neocog_base::Result;

/// Packs extents or strides, the innermost first, into an argument for the function `walk` of `common.cl`.
pub(in crate::ops) fn axes(values: [usize; 8]) -> Arg<'static> {
    Arg::Int8(values.map(int))
}

/// Applies the generated function `formula` to `N` inputs that broadcast to the output.
pub(in crate::ops) fn apply<const N: usize>(
    call: &Call<'_>,
    kernel: &'static str,
    formula: &str,
) -> Result<()> {
    let out = call.output(0);
    let walk = Strided::new(out.shape, std::array::from_fn::<_, N, _>(|k| call.input(k).shape));
    // The outer axes, the innermost first, and the stride of the innermost loop at the end.
    let outer = walk.extents.len() - 1;
    let mut extents = [1; 8];
    walk.extents[..outer].iter().rev().zip(&mut extents).for_each(|(&e, to)| *to = e);
    let mut args = Vec::new();
    for k in 0..N {
        let mut strides = [0; 8];
        walk.strides[..outer].iter().rev().zip(&mut strides).for_each(|(s, to)| *to = s[k]);
        strides[7] = walk.inner_strides()[k];
        args.extend([call.input(k).into(), axes(strides)]);
    }
    let (rows, inner) = (walk.rows(), walk.inner());
    args.extend([out.into(), axes(extents), rows.into(), inner.into()]);
    let source = Source::new(kernel, include_str!("kernels.cl"))
        .define("INPUTS", N)
        .define("KERNEL", kernel)
        .insert(formula);
    call.launch(&source, kernel, &args, Grid::line(rows * inner.div_ceil(call.width())))
}
