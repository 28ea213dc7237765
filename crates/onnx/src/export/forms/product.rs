//! Convolutions and matrix products.

use neocog_base::Result;
use neocog_tensor::{Shape, ops};

use super::elementwise::finish_activated;
use crate::export::form::{Attribute, Form};
use crate::register_onnx_form;

register_onnx_form!("conv2d", ops::Conv2d, |op, form| {
    let weight = weight(form, op.flip)?;
    let mut inputs = vec![form.input(0), weight];
    if form.input_count() == 3 {
        inputs.push(form.input(2));
    }
    let kernel = [form.fixed(form.dims(1), 2)?, form.fixed(form.dims(1), 3)?];
    let [p, q] = op.padding;
    let attributes = vec![
        ("kernel_shape", kernel.into()),
        ("strides", op.stride.into()),
        ("pads", [p, q, p, q].into()),
        ("dilations", op.dilation.into()),
        ("group", op.groups.into()),
    ];
    finish_activated(form, op.activation, "Conv", inputs, attributes)
});

register_onnx_form!("conv2d_input_grad", ops::Conv2dInputGrad, |op, form| {
    let ops::Conv2dGeometry { stride, padding, dilation, groups, flip } = op.geometry;
    let weight = weight(form, flip)?;
    let kernel = [form.fixed(form.dims(1), 2)?, form.fixed(form.dims(1), 3)?];
    let mut output_padding = [0; 2];
    for axis in 0..2 {
        let input = form.fixed(form.dims(0), axis + 2)?;
        let reach = stride[axis] * (input - 1) + dilation[axis] * (kernel[axis] - 1) + 1;
        output_padding[axis] = (op.input_size[axis] + 2 * padding[axis]).saturating_sub(reach);
    }
    let [p, q] = padding;
    let attributes = vec![
        ("kernel_shape", kernel.into()),
        ("strides", stride.into()),
        ("pads", [p, q, p, q].into()),
        ("output_padding", output_padding.into()),
        ("dilations", dilation.into()),
        ("group", groups.into()),
    ];
    form.finish_of("ConvTranspose", vec![form.input(0), weight], attributes);
    Ok(())
});

register_onnx_form!("linear", ops::Linear, |op, form| {
    let mut inputs = form.inputs();
    if form.dims(0).len() == 2 {
        let attributes = vec![("transB", Attribute::Int(1))];
        return finish_activated(form, op.activation, "Gemm", inputs, attributes);
    }
    let bias = (inputs.len() == 3).then(|| inputs.remove(2));
    inputs[1] = form.node("Transpose", [&inputs[1]], [("perm", [1, 0].into())]);
    let Some(bias) = bias else {
        return finish_activated(form, op.activation, "MatMul", inputs, Vec::new());
    };
    let product = form.node_of("MatMul", inputs, Vec::new());
    finish_activated(form, op.activation, "Add", vec![product, bias], Vec::new())
});

register_onnx_form!("matmul", ops::MatMul, |op, form| {
    let transposed = |transposed: bool| Attribute::Int(i64::from(transposed));
    let attributes = [("transA", transposed(op.transpose_a)), ("transB", transposed(op.transpose_b))];
    form.finish("Gemm", [form.input(0), form.input(1)], attributes);
    Ok(())
});

/// Returns the weight of a convolution, rotated by 180 degrees if the operation does that.
fn weight(form: &mut Form<'_>, flip: bool) -> Result<String> {
    if !flip {
        return Ok(form.input(1));
    }
    let weight = form.constant(1)?.clone();
    let mut values = weight.to_f32()?;
    let shape: Shape = *weight.shape();
    let plane = shape[2] * shape[3];
    values.chunks_exact_mut(plane.max(1)).for_each(<[f32]>::reverse);
    form.floats("rotated_weight", &shape, &values)
}
