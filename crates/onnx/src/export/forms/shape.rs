//! Operations that move elements, and reductions of all of them.

use neocog_base::{Error, Result};
use neocog_tensor::ops;

use crate::export::form::{Attribute, Dim, Form};
use crate::register_onnx_form;

register_onnx_form!("concat", ops::Concat, |op, form| {
    form.finish_of("Concat", form.inputs(), vec![("axis", Attribute::Int(op.dim as i64))]);
    Ok(())
});

register_onnx_form!("narrow", ops::Narrow, |op, form| {
    let starts = form.ints("starts", &[op.start as i64]);
    let ends = form.ints("ends", &[(op.start + op.len) as i64]);
    let axes = form.ints("axes", &[op.dim as i64]);
    form.finish("Slice", [form.input(0), starts, ends, axes], []);
    Ok(())
});

register_onnx_form!("permute", ops::Permute, |op, form| {
    let dims = op.dims.iter().map(|&dim| dim as i64).collect();
    form.finish("Transpose", [form.input(0)], [("perm", Attribute::Ints(dims))]);
    Ok(())
});

register_onnx_form!("reshape", ops::Reshape, by shape |_, form| reshape(form));

register_onnx_form!("flatten", ops::Flatten, |op, form| {
    let rank = form.dims(0).len() as isize;
    let is_to_matrix = op.start_dim == 1 && (op.end_dim == -1 || op.end_dim == rank - 1);
    if rank < 2 || !is_to_matrix {
        return reshape(form);
    }
    form.finish("Flatten", [form.input(0)], [("axis", Attribute::Int(1))]);
    Ok(())
});

register_onnx_form!("mean", ops::Mean, |_, form| {
    form.finish("ReduceMean", [form.input(0)], [("keepdims", Attribute::Int(0))]);
    Ok(())
});

register_onnx_form!("sum", ops::Sum, |_, form| {
    form.finish("ReduceSum", [form.input(0)], [("keepdims", Attribute::Int(0))]);
    Ok(())
});

/// Writes a reshape to the dims of the output; the one that depends on the batch follows from the others.
fn reshape(form: &mut Form<'_>) -> Result<()> {
    let dims = form.output_dims(0);
    if dims.iter().filter(|dim| dim.fixed().is_none()).count() > 1 {
        return Err(Error::shape("several extents of the output depend on the size of the batch"));
    }
    if dims.contains(&Dim::Fixed(0)) {
        return Err(Error::shape("the output has no elements"));
    }
    let shape: Vec<i64> = dims.iter().map(|dim| dim.fixed().map_or(-1, |extent| extent as i64)).collect();
    let shape = form.ints("shape", &shape);
    form.finish("Reshape", [form.input(0), shape], []);
    Ok(())
}
