//! Pooling.
//!
//! Images of three dimensions are pooled along rows and columns first, then along their depth. Windows that an operation cannot
//! express are those of an image with explicit padding.

use neocog_base::{Error, Result};
use neocog_tensor::ops;

use super::Spatial;
use super::conv::image_axes;
use super::reduce::reduce_rows;
use super::spatial::sizes;
use crate::import::{Node, Value};
use crate::proto::DataType;
use crate::register_onnx;

register_onnx!("MaxPool", |node| {
    let x = node.input(0)?;
    let axes = windows(node, &x)?;
    if node.output_count() > 1 {
        return max_with_indices(node, &x, &axes);
    }
    Ok(vec![pool(node, &x, &axes, &|node, x, axes| max(node, x, axes))?])
});

register_onnx!("AveragePool", |node| {
    let x = node.input(0)?;
    let axes = windows(node, &x)?;
    let includes = node.int("count_include_pad").unwrap_or(0) != 0;
    Ok(vec![pool(node, &x, &axes, &|node, x, axes| mean(node, x, axes, includes))?])
});

register_onnx!("GlobalAveragePool", |node| {
    let x = node.input(0)?;
    let (shape, ones, pixels) = global(&x)?;
    let image = node.reshape(&x, &[shape[0], shape[1], 1, pixels])?;
    let image = if x.rank() == 4 { x } else { image };
    let y = node.push(ops::GlobalAvgPool2d, &[&image])?;
    Ok(vec![node.reshape(&y, &ones)?])
});

register_onnx!("GlobalMaxPool", |node| {
    let x = node.input(0)?;
    let (shape, ones, pixels) = global(&x)?;
    let rows = node.reshape(&x, &[shape[0], shape[1], pixels])?;
    let y = reduce_rows(node, &rows, ops::RowReduction::Max)?;
    Ok(vec![node.reshape(&y, &ones)?])
});

/// Returns the shape of the input, that of the output, and the number of pixels.
fn global(x: &Value) -> Result<(Vec<usize>, Vec<usize>, usize)> {
    let shape = x.shape().to_vec();
    if shape.len() < 3 {
        return Err(Error::shape(format!("expected images [n, c, ..], found {}", x.shape())));
    }
    let mut ones = vec![1; shape.len()];
    ones[..2].copy_from_slice(&shape[..2]);
    let pixels = shape[2..].iter().product();
    Ok((shape, ones, pixels))
}

fn windows(node: &Node<'_>, x: &Value) -> Result<Vec<Spatial>> {
    let spatial = x.rank().saturating_sub(2);
    if !(1..=3).contains(&spatial) {
        return Err(Error::shape(format!("expected images of one to three dimensions, found {}", x.shape())));
    }
    let kernel = sizes(node, "kernel_shape", spatial, 1)?
        .ok_or_else(|| Error::format("the attribute kernel_shape is missing"))?;
    Spatial::all(node, &x.shape()[2..], &kernel)
}

type Pooling<'f> = dyn Fn(&mut Node<'_>, &Value, [Spatial; 2]) -> Result<Value> + 'f;

/// Pools images of one to three dimensions by a function on images of two.
fn pool(node: &mut Node<'_>, x: &Value, axes: &[Spatial], along: &Pooling<'_>) -> Result<Value> {
    let (n, c) = (x.shape()[0], x.shape()[1]);
    match *axes {
        [rows, columns] => along(node, x, [rows, columns]),
        [depth, rows, columns] => {
            let image = node.reshape(x, &[n, c * depth.input, rows.input, columns.input])?;
            let y = along(node, &image, [rows, columns])?;
            let pixels = rows.output * columns.output;
            let image = node.reshape(&y, &[n, c, depth.input, pixels])?;
            let whole = Spatial {
                input: pixels,
                kernel: 1,
                stride: 1,
                dilation: 1,
                begin: 0,
                end: 0,
                output: pixels,
            };
            let y = along(node, &image, [depth, whole])?;
            node.reshape(&y, &[n, c, depth.output, rows.output, columns.output])
        }
        _ => {
            let axes = image_axes(axes)?;
            let image = node.reshape(x, &[n, c, 1, axes[1].input])?;
            let y = along(node, &image, axes)?;
            node.reshape(&y, &[n, c, axes[1].output])
        }
    }
}

/// Returns the padding and the rounding with which an operation has these windows; `None` if there are none.
fn expressible(axes: &[Spatial; 2], must_be_symmetric: bool) -> Option<([usize; 2], bool)> {
    let fits = |axis: &Spatial, ceil: bool| {
        let padded = axis.input + 2 * axis.begin;
        let reach = axis.dilation * (axis.kernel - 1) + 1;
        let Some(steps) = padded.checked_sub(reach) else { return false };
        let mut output = if ceil { steps.div_ceil(axis.stride) } else { steps / axis.stride } + 1;
        if ceil && (output - 1) * axis.stride >= axis.input + axis.begin {
            output -= 1;
        }
        axis.begin <= axis.kernel / 2
            && output == axis.output
            && axis.dilation <= axis.input
            && (!must_be_symmetric || axis.begin == axis.end)
    };
    let ceil = [false, true].into_iter().find(|ceil| axes.iter().all(|axis| fits(axis, *ceil)))?;
    Some((axes.map(|axis| axis.begin), ceil))
}

/// Adds all padding to an image.
fn padded(node: &mut Node<'_>, x: &Value, axes: &[Spatial; 2], fill: f64) -> Result<Value> {
    let mut x = x.clone();
    for (a, axis) in axes.iter().enumerate() {
        x = node.pad_axis(&x, a + 2, axis.begin, axis.needed_end(), fill)?;
    }
    Ok(x)
}

fn max_op(axes: &[Spatial; 2], padding: [usize; 2], ceil_mode: bool, return_indices: bool) -> ops::MaxPool2d {
    ops::MaxPool2d {
        kernel_size: axes.map(|axis| axis.kernel),
        stride: axes.map(|axis| axis.stride),
        padding,
        dilation: axes.map(|axis| axis.dilation),
        ceil_mode,
        return_indices,
    }
}

fn max(node: &mut Node<'_>, x: &Value, axes: [Spatial; 2]) -> Result<Value> {
    if let Some((padding, ceil_mode)) = expressible(&axes, false) {
        return node.push(max_op(&axes, padding, ceil_mode, false), &[x]);
    }
    let x = padded(node, x, &axes, f64::NEG_INFINITY)?;
    let axes = axes.map(|axis| Spatial { input: axis.begin + axis.input + axis.needed_end(), ..axis });
    node.push(max_op(&axes, [0, 0], false, false), &[&x])
}

/// Also returns the positions of the maxima in the whole tensor.
fn max_with_indices(node: &mut Node<'_>, x: &Value, axes: &[Spatial]) -> Result<Vec<Value>> {
    let rank = x.rank();
    let unsupported = || Error::invalid_argument("the output Indices is not supported for such windows");
    if rank > 4 {
        return Err(unsupported());
    }
    let image = super::conv::as_image(node, x)?;
    let axes = image_axes(axes)?;
    let (padding, ceil_mode) = expressible(&axes, false).ok_or_else(unsupported)?;
    let [n, c, h, w] = image.shape().nchw()?;
    if image.shape().elements() > 1 << 24 {
        return Err(Error::shape(format!(
            "positions in {} are not exact in single precision",
            image.shape()
        )));
    }
    let outputs = node.push_all(std::sync::Arc::new(max_op(&axes, padding, ceil_mode, true)), &[&image])?;
    let mut indices = outputs[1].clone();
    if node.int("storage_order").unwrap_or(0) != 0 {
        // From row * w + column to column * h + row.
        let (width, height) = (node.scalar(w as f64, &indices)?, node.scalar(h as f64, &indices)?);
        let quotient = node.push(ops::Div, &[&indices, &width])?;
        let row = node.push(ops::Floor, &[&quotient])?;
        let before = node.push(ops::Mul, &[&row, &width])?;
        let column = node.push(ops::Sub, &[&indices, &before])?;
        let before = node.push(ops::Mul, &[&column, &height])?;
        indices = node.push(ops::Add, &[&before, &row])?;
    }
    let starts: Vec<f64> = (0..n * c).map(|plane| (plane * h * w) as f64).collect();
    let starts = node.constant(&[n, c, 1, 1], &starts, DataType::Int64)?;
    indices = node.push(ops::Add, &[&indices, &starts])?.with_type(DataType::Int64);
    let y = super::conv::from_image(node, outputs[0].clone(), rank)?;
    Ok(vec![y, super::conv::from_image(node, indices, rank)?])
}

fn mean(node: &mut Node<'_>, x: &Value, axes: [Spatial; 2], includes: bool) -> Result<Value> {
    let op = |padding: [usize; 2], ceil_mode: bool, divisor_override: Option<usize>| ops::AvgPool2d {
        kernel_size: axes.map(|axis| axis.kernel),
        stride: axes.map(|axis| axis.stride),
        padding,
        ceil_mode,
        count_include_pad: includes,
        divisor_override,
    };
    let is_dilated = axes.iter().any(|axis| axis.dilation > 1);
    if let Some((padding, ceil_mode)) = expressible(&axes, includes).filter(|_| !is_dilated) {
        return node.push(op(padding, ceil_mode, None), &[x]);
    }
    let x = padded(node, x, &axes, 0.0)?;
    let sum = if is_dilated {
        let channels = x.shape()[1];
        let [kh, kw] = axes.map(|axis| axis.kernel);
        let ones = node.constant(&[channels, 1, kh, kw], &vec![1.0; channels * kh * kw], x.data_type)?;
        let conv = ops::Conv2d {
            stride: axes.map(|axis| axis.stride),
            padding: [0, 0],
            dilation: axes.map(|axis| axis.dilation),
            groups: channels,
            flip: false,
            activation: None,
        };
        node.push(conv, &[&x, &ones])?
    } else {
        node.push(op([0, 0], false, Some(1)), &[&x])?
    };
    let counts = axes.map(|axis| {
        let end = axis.input + if includes { axis.end } else { 0 };
        let count = |o: usize| {
            let position = |t: usize| (o * axis.stride + t * axis.dilation) as i64 - axis.begin as i64;
            (0..axis.kernel).filter(|&t| (includes || position(t) >= 0) && position(t) < end as i64).count()
        };
        (0..axis.output).map(count).collect::<Vec<usize>>()
    });
    let factors: Vec<f64> =
        counts[0].iter().flat_map(|r| counts[1].iter().map(move |s| 1.0 / (r * s) as f64)).collect();
    let factors = node.constant(&[1, 1, axes[0].output, axes[1].output], &factors, sum.data_type)?;
    node.push(ops::Mul, &[&sum, &factors])
}
