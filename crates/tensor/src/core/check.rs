//! The check at the entry of kernels: views must have the shapes that the operation infers, as its unsafe code relies on them.
//!
//! [`run`](crate::run) infers the shapes of the outputs itself, but a kernel is a public method: an operation of another crate may
//! call it with any views. Every kernel of this crate that is not plain safe code therefore begins with one of these functions.

use crate::core::call::{self, Call};
use crate::core::op::Op;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use neocog_base::{Context as _, Error, Result};

/// Checks the views that a CPU kernel of `op` is called with. The lengths of their data were checked when they were created.
///
/// # Panics
/// If the shapes are not those that the operation infers, or there is a batch stride that it does not support.
pub fn check_views(op: &dyn Op, inputs: &[View<'_, f32>], outputs: &[ViewMut<'_, f32>]) {
    let input_shapes: Shapes = inputs.iter().map(|view| *view.shape).collect();
    let output_shapes: Shapes = outputs.iter().map(|view| *view.shape).collect();
    let strided = inputs
        .iter()
        .map(|view| (view.shape, view.batch_stride))
        .chain(outputs.iter().map(|view| (view.shape, view.batch_stride)))
        .enumerate()
        .filter(|(_, (shape, stride))| *stride != shape.row());
    let checked = check_shapes(op, &input_shapes, &output_shapes).and_then(|()| {
        let supported =
            |i: usize| op.supports_batch_stride() && (i == 0 || i == inputs.len() && outputs.len() == 1);
        for (i, (shape, stride)) in strided {
            let plane = shape.iter().skip(2).product::<usize>().max(1);
            if !supported(i) || !stride.is_multiple_of(plane) {
                return Err(Error::shape(format!(
                    "does not support a batch stride of {stride} of the shape {shape}"
                )));
            }
        }
        Ok(())
    });
    if let Err(e) = checked.context(|| op.name()) {
        panic!("a kernel was called with invalid views: {e}");
    }
}

/// Checks the call that an OpenCL kernel of `op` is launched for.
///
/// # Errors
/// If the shapes are not those that the operation infers, or the length of a buffer is not that of its shape.
pub fn check_call(op: &dyn Op, call: &Call<'_>) -> Result<()> {
    let shapes = |views: &[call::View<'_>]| views.iter().map(|view| *view.shape).collect::<Shapes>();
    check_shapes(op, &shapes(call.inputs()), &shapes(call.outputs())).context(|| op.name())?;
    for view in call.inputs().iter().chain(call.outputs()) {
        if view.buffer.len() != view.shape.elements() {
            return Err(Error::shape(format!(
                "{} was called with a buffer of {} elements for the shape {}",
                op.name(),
                view.buffer.len(),
                view.shape
            )));
        }
    }
    Ok(())
}

fn check_shapes(op: &dyn Op, inputs: &[Shape], outputs: &[Shape]) -> Result<()> {
    let expected = op.infer(inputs)?;
    if *expected == *outputs {
        return Ok(());
    }
    Err(Error::shape(format!(
        "the outputs of inputs {inputs:?} have the shapes {expected:?}, not {outputs:?}"
    )))
}
