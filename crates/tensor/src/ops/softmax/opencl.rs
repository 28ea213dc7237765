//! OpenCL kernels.

use super::rows::row_program;
use super::rule::{Rule, around};
use crate::core::call::Call;
use crate::opencl::{Grid, Source};
use neocog_base::Result;

/// Computes any of the functions.
pub(super) fn run(rule: Rule, dim: isize, call: &Call<'_>) -> Result<()> {
    let (a, b, out) = (call.input(0), call.inputs()[call.inputs().len() - 1], call.output(0));
    let [outer, len, inner] = around(dim, out.shape);
    let text = include_str!("kernels.cl");
    if inner == 1 {
        let (source, grid) = row_program(call, "softmax", text, outer, len);
        let args = [a.into(), b.into(), out.into(), outer.into(), len.into()];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source.define("RULE", rule as u8), "softmax_rows", &args, grid) }
    } else {
        // On GPUs, neighboring work-items read neighboring floats.
        let width = if call.on_cpu() { 8 } else { 1 };
        let source = Source::new("softmax", text).define("RULE", rule as u8).define("TEAM", 0);
        let args = [a.into(), b.into(), out.into(), outer.into(), len.into(), inner.into()];
        let grid = Grid::line(outer * inner.div_ceil(width));
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source.define("WIDTH", width), "softmax_columns", &args, grid) }
    }
}
