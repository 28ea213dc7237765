//! Elementwise kernels on OpenCL devices.

use crate::core::call::Call;
use crate::opencl::formula::{Symbol, elementwise_kernel};
use crate::opencl::{Arg, Grid, Source};
use neocog_base::Result;

/// Applies a formula to all `I` inputs and the old values of the first `S` outputs, which yields all `O` outputs. All have
/// the same number of elements.
///
/// The formula's constants are kernel arguments: the kernel is compiled once, for any learning rate.
pub(in crate::ops) fn apply<const I: usize, const S: usize, const O: usize>(
    call: &Call<'_>,
    kernel: &'static str,
    formula: impl FnOnce([Symbol; I], [Symbol; S]) -> [Symbol; O],
) -> Result<()> {
    let (code, constants) = elementwise_kernel(kernel, formula);
    let n = call.output(0).buffer.len();
    let mut args = vec![Arg::from(n)];
    args.extend(call.inputs().iter().map(|view| Arg::from(*view)));
    args.extend(call.outputs().iter().map(|view| Arg::from(*view)));
    args.extend(constants.into_iter().map(Arg::Float));
    let source = Source::new(kernel, "").insert(&code);
    // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
    unsafe { call.launch(&source, kernel, &args, Grid::line(n.div_ceil(call.width()))) }
}
