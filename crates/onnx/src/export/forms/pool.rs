//! Pooling and resampling.
//!
//! Windows that extend beyond the padded image, as those of `ceil_mode`, become padding at the end: the attribute of ONNX has had
//! several meanings.

use neocog_base::Result;
use neocog_tensor::ops;

use crate::export::form::{Attribute, Form};
use crate::register_onnx_form;

register_onnx_form!("global_avg_pool2d", ops::GlobalAvgPool2d, |_, form| {
    form.finish("GlobalAveragePool", [form.input(0)], []);
    Ok(())
});

register_onnx_form!("max_pool2d", ops::MaxPool2d, |op, form| {
    let axes = axes(form, op.kernel_size, op.stride, op.padding, op.dilation)?;
    let attributes = vec![
        ("kernel_shape", op.kernel_size.into()),
        ("strides", op.stride.into()),
        ("dilations", op.dilation.into()),
        ("pads", pads(&axes)),
    ];
    form.finish_of("MaxPool", vec![form.input(0)], attributes);
    Ok(())
});

register_onnx_form!("avg_pool2d", ops::AvgPool2d, |op, form| {
    let axes = axes(form, op.kernel_size, op.stride, op.padding, [1, 1])?;
    let is_padded = axes.iter().any(|axis| axis.end > axis.padding);
    let includes = op.count_include_pad || op.divisor_override.is_some();
    let attributes = vec![
        ("kernel_shape", op.kernel_size.into()),
        ("strides", op.stride.into()),
        ("pads", pads(&axes)),
        ("count_include_pad", Attribute::Int(i64::from(includes))),
    ];
    if !(op.divisor_override.is_some() || (op.count_include_pad && is_padded)) {
        form.finish_of("AveragePool", vec![form.input(0)], attributes);
        return Ok(());
    }
    // The mean of whole windows, times the size of a window over the divisor.
    let mean = form.node_of("AveragePool", vec![form.input(0)], attributes);
    let size = (op.kernel_size[0] * op.kernel_size[1]) as f64;
    let factor = if let Some(divisor) = op.divisor_override {
        form.scalar("factor", size / divisor as f64)?
    } else {
        let [rows, columns] = &axes;
        let factors: Vec<f32> = (0..rows.output)
            .flat_map(|r| (0..columns.output).map(move |s| (r, s)))
            .map(|(r, s)| (size / (rows.padded_taps(r) * columns.padded_taps(s)) as f64) as f32)
            .collect();
        form.floats("factor", &[1, 1, rows.output, columns.output], &factors)?
    };
    form.finish("Mul", [mean, factor], []);
    Ok(())
});

register_onnx_form!("resample", ops::Resample, |op, form| {
    let rank = form.dims(0).len();
    let axis = if op.dim < 0 { (op.dim + rank as isize) as usize } else { op.dim as usize };
    let extent = form.fixed(form.dims(0), axis)?;
    let rows = op.rows();
    let x = form.input(0);
    let selected = |(start, weights): &(usize, Vec<f64>)| {
        let at = weights.iter().position(|weight| *weight == 1.0)?;
        let others = weights.iter().enumerate().all(|(i, weight)| i == at || *weight == 0.0);
        others.then_some((start + at) as i64)
    };
    if let Some(indices) = rows.iter().map(selected).collect::<Option<Vec<i64>>>() {
        let indices = form.ints("indices", &indices);
        form.finish("Gather", [x, indices], [("axis", axis.into())]);
        return Ok(());
    }
    // The product with a matrix: from the right for the last axis, from the left for the one before it.
    let outputs = rows.len();
    let is_last = axis + 1 == rank;
    let mut matrix = vec![0.0; extent * outputs];
    for (o, (start, weights)) in rows.iter().enumerate() {
        for (i, weight) in (*start..).zip(weights) {
            matrix[if is_last { i * outputs + o } else { o * extent + i }] = *weight as f32;
        }
    }
    if is_last {
        let matrix = form.floats("matrix", &[extent, outputs], &matrix)?;
        form.finish("MatMul", [x, matrix], []);
        return Ok(());
    }
    let matrix = form.floats("matrix", &[outputs, extent], &matrix)?;
    if axis + 2 == rank {
        form.finish("MatMul", [matrix, x], []);
        return Ok(());
    }
    let mut dims: Vec<i64> = (0..rank as i64).collect();
    dims.swap(axis, rank - 2);
    let moved = form.node("Transpose", [&x], [("perm", Attribute::Ints(dims.clone()))]);
    let product = form.node("MatMul", [&matrix, &moved], []);
    form.finish("Transpose", [&product], [("perm", Attribute::Ints(dims))]);
    Ok(())
});

/// Windows along one axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Padding at the end, with what the last window needs.
    end: usize,
}

impl Axis {
    /// Returns the number of elements of window `o` within the padding of the operation.
    fn padded_taps(&self, o: usize) -> usize {
        (self.input + 2 * self.padding).saturating_sub(o * self.stride).min(self.kernel)
    }
}

fn axes(
    form: &Form<'_>,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
) -> Result<[Axis; 2]> {
    let along = |a: usize| {
        let input = form.fixed(form.dims(0), a + 2)?;
        let output = form.fixed(form.output_dims(0), a + 2)?;
        let reach = (output - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1;
        let end = reach.saturating_sub(input + padding[a]).max(padding[a]);
        Ok(Axis { input, output, kernel: kernel[a], stride: stride[a], padding: padding[a], end })
    };
    Ok([along(0)?, along(1)?])
}

fn pads([rows, columns]: &[Axis; 2]) -> Attribute {
    [rows.padding, columns.padding, rows.end, columns.end].into()
}
