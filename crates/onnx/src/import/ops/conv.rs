//! Convolutions.

use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_tensor::ops;

use super::Spatial;
use super::spatial::sizes;
use crate::import::{Node, Value};
use crate::register_onnx;

register_onnx!("Conv", |node| {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let bias = node.optional(2);
    let kernel = kernel(node, &x, &weight)?;
    let axes = Spatial::all(node, &x.shape()[2..], &kernel)?;
    if let [depth, rows, columns] = axes[..] {
        return volume(node, &x, &weight, bias, [depth, rows, columns]);
    }
    let rank = x.rank();
    let (x, weight) = (as_image(node, &x)?, as_image(node, &weight)?);
    let y = convolve(node, x, &weight, bias.as_ref(), image_axes(&axes)?)?;
    Ok(vec![from_image(node, y, rank)?])
});

/// Convolves images of two dimensions.
fn convolve(
    node: &mut Node<'_>,
    mut x: Value,
    weight: &Value,
    bias: Option<&Value>,
    [rows, columns]: [Spatial; 2],
) -> Result<Value> {
    let groups = groups(node)?;
    // What is not symmetric is added before.
    let mut padding = [0; 2];
    for (a, axis) in [rows, columns].into_iter().enumerate() {
        padding[a] = axis.begin.min(axis.end);
        x = node.pad_axis(&x, a + 2, axis.begin - padding[a], axis.end - padding[a], 0.0)?;
    }
    let op = ops::Conv2d {
        stride: [rows.stride, columns.stride],
        padding,
        dilation: [rows.dilation, columns.dilation],
        groups,
        flip: false,
        activation: None,
    };
    match bias {
        Some(bias) => node.push(op, &[&x, weight, bias]),
        None => node.push(op, &[&x, weight]),
    }
}

/// Convolves images of three dimensions: the sum of convolutions of two, one for each position of the kernel's depth, of which the
/// planes of all depths are the batch.
fn volume(
    node: &mut Node<'_>,
    x: &Value,
    weight: &Value,
    bias: Option<Value>,
    [depth, rows, columns]: [Spatial; 3],
) -> Result<Vec<Value>> {
    let x = node.pad_axis(x, 2, depth.begin, depth.needed_end(), 0.0)?;
    let ([n, c, _, h, w], [out, inner, _, kh, kw]) = (five(&x)?, five(weight)?);
    let mut sum: Option<Value> = None;
    for tap in 0..depth.kernel {
        let start = tap * depth.dilation;
        let planes = (0..depth.output).map(|o| start + o * depth.stride).collect();
        let planes = super::indexing::select(node, &x, 2, planes)?;
        let moved = node.permute(&planes, &[0, 2, 1, 3, 4])?;
        let images = node.reshape(&moved, &[n * depth.output, c, h, w])?;
        let slice = node.narrow(weight, 2, tap, 1)?;
        let slice = node.reshape(&slice, &[out, inner, kh, kw])?;
        let first_bias = bias.as_ref().filter(|_| tap == 0);
        let part = convolve(node, images, &slice, first_bias, [rows, columns])?;
        sum = Some(match sum {
            Some(sum) => node.push(ops::Add, &[&sum, &part])?,
            None => part,
        });
    }
    let y = sum.ok_or_else(|| Error::shape("the kernel has no depth"))?;
    let y = node.reshape(&y, &[n, depth.output, out, rows.output, columns.output])?;
    Ok(vec![node.permute(&y, &[0, 2, 1, 3, 4])?])
}

register_onnx!("ConvTranspose", |node| {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let bias = node.optional(2);
    let kernel = kernel(node, &x, &weight)?;
    let spatial = x.rank() - 2;
    let ones = vec![1; spatial];
    let strides = sizes(node, "strides", spatial, 1)?.unwrap_or_else(|| ones.clone());
    let dilations = sizes(node, "dilations", spatial, 1)?.unwrap_or(ones);
    let extra = sizes(node, "output_padding", spatial, 0)?.unwrap_or_else(|| vec![0; spatial]);
    let wanted = sizes(node, "output_shape", spatial, 1)?;
    let auto = node.text("auto_pad").unwrap_or_else(|| "NOTSET".to_string());
    let pads = sizes(node, "pads", 2 * spatial, 0)?.unwrap_or_else(|| vec![0; 2 * spatial]);
    let rank = x.rank();
    // For each axis: the size without padding, what is cut off at the start, and the size of the output.
    let mut cuts = Vec::with_capacity(spatial);
    for a in 0..spatial {
        let input = x.shape()[a + 2];
        if input == 0 {
            return Err(Error::shape("the image is empty"));
        }
        let reach = dilations[a].saturating_mul(kernel[a] - 1).saturating_add(1);
        let whole = strides[a].saturating_mul(input - 1).saturating_add(reach);
        let total = whole.saturating_add(extra[a]);
        let (start, output) = match (&wanted, auto.as_str()) {
            (Some(wanted), _) => {
                let pad = total.saturating_sub(wanted[a]);
                // The larger half is at the end, unless the padding is that of the upper end.
                let start = if auto == "SAME_UPPER" { pad / 2 } else { pad - pad / 2 };
                (start, wanted[a])
            }
            (None, "SAME_UPPER" | "SAME_LOWER") => {
                let output = input.saturating_mul(strides[a]);
                let pad = total.saturating_sub(output);
                (if auto == "SAME_UPPER" { pad / 2 } else { pad - pad / 2 }, output)
            }
            (None, _) => {
                let output = total.checked_sub(pads[a] + pads[spatial + a]).filter(|output| *output > 0);
                (pads[a], output.ok_or_else(|| Error::shape("the padding is larger than the output"))?)
            }
        };
        cuts.push((whole, start, output));
    }
    let mut y = match cuts[..] {
        [(length, ..)] => {
            let (x, weight) = (as_image(node, &x)?, as_image(node, &weight)?);
            let geometry = transposed_geometry(node, [1, strides[0]], [1, dilations[0]])?;
            node.push(ops::Conv2dInputGrad { geometry, input_size: [1, length] }, &[&x, &weight])?
        }
        [(height, ..), (width, ..)] => {
            let geometry = transposed_geometry(node, [strides[0], strides[1]], [dilations[0], dilations[1]])?;
            node.push(ops::Conv2dInputGrad { geometry, input_size: [height, width] }, &[&x, &weight])?
        }
        _ => {
            let size: Vec<usize> = cuts.iter().map(|(whole, ..)| *whole).collect();
            transposed_volume(node, &x, &weight, &strides, &dilations, &size)?
        }
    };
    let y_rank = y.rank();
    for (a, (whole, start, output)) in cuts.into_iter().enumerate() {
        let end = (start + output).min(whole);
        let len = end.saturating_sub(start);
        let axis = y_rank - spatial + a;
        y = node.narrow(&y, axis, start.min(whole), len)?;
        y = node.pad_axis(&y, axis, 0, output - len, 0.0)?;
    }
    if let Some(bias) = bias {
        let mut shape = vec![1; y_rank - 1];
        shape[0] = bias.shape().elements();
        let bias = node.reshape(&bias, &shape)?;
        y = node.push(ops::Add, &[&y, &bias])?;
    }
    Ok(vec![from_image(node, y, rank)?])
});

fn transposed_geometry(
    node: &Node<'_>,
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<ops::Conv2dGeometry> {
    Ok(ops::Conv2dGeometry { stride, padding: [0, 0], dilation, groups: groups(node)?, flip: false })
}

/// The transposed convolution of three dimensions without padding, to outputs of `size`: one of two dimensions, of which the planes of
/// all depths are the batch and the kernel's depths further channels; each of those lies `stride` planes apart in the sum.
fn transposed_volume(
    node: &mut Node<'_>,
    x: &Value,
    weight: &Value,
    strides: &[usize],
    dilations: &[usize],
    size: &[usize],
) -> Result<Value> {
    let ([n, c, d, h, w], [_, out, depth, kh, kw]) = (five(x)?, five(weight)?);
    let (size, planes): ([usize; 2], usize) = ([size[1], size[2]], size[0]);
    let geometry = transposed_geometry(node, [strides[1], strides[2]], [dilations[1], dilations[2]])?;
    let moved = node.permute(x, &[0, 2, 1, 3, 4])?;
    let images = node.reshape(&moved, &[n * d, c, h, w])?;
    let folded = node.reshape(weight, &[c, out.saturating_mul(depth), kh, kw])?;
    let y = node.push(ops::Conv2dInputGrad { geometry, input_size: size }, &[&images, &folded])?;
    let channels = geometry.groups * out;
    let y = node.reshape(&y, &[n, d, channels, depth, size[0] * size[1]])?;
    let mut sum: Option<Value> = None;
    for tap in 0..depth {
        let part = node.narrow(&y, 3, tap, 1)?;
        // Zeros between the planes: `stride - 1` after each, of which those after the last are cut off.
        let stride = if d == 1 { 1 } else { strides[0] };
        let part = node.reshape(&part, &[n, d, 1, channels, size[0] * size[1]])?;
        let part = node.pad_axis(&part, 2, 0, stride - 1, 0.0)?;
        let part = node.reshape(&part, &[n, d.saturating_mul(stride), channels, size[0], size[1]])?;
        let len = stride * (d - 1) + 1;
        let part = node.narrow(&part, 1, 0, len)?;
        let before = tap * dilations[0];
        let part = node.pad_axis(&part, 1, before, planes - len - before, 0.0)?;
        sum = Some(match sum {
            Some(sum) => node.push(ops::Add, &[&sum, &part])?,
            None => part,
        });
    }
    let y = sum.ok_or_else(|| Error::shape("the kernel has no depth"))?;
    node.permute(&y, &[0, 2, 1, 3, 4])
}

/// Returns the extents of the kernel, and checks the ranks.
fn kernel(node: &Node<'_>, x: &Value, weight: &Value) -> Result<Vec<usize>> {
    if x.rank() != weight.rank() || !(3..=5).contains(&x.rank()) {
        return Err(Error::shape(format!(
            "convolutions of one to three dimensions are supported; the input is {}, the weight {}",
            x.shape(),
            weight.shape()
        )));
    }
    let kernel = weight.shape()[2..].to_vec();
    if let Some(stated) = sizes(node, "kernel_shape", kernel.len(), 1)?
        && stated != kernel
    {
        return Err(Error::format(format!(
            "kernel_shape is {stated:?}, but the weight is {}",
            weight.shape()
        )));
    }
    if kernel.contains(&0) {
        return Err(Error::shape(format!("the weight {} is empty", weight.shape())));
    }
    Ok(kernel)
}

/// Returns the extents of a value of five axes.
fn five(value: &Value) -> Result<[usize; 5]> {
    value
        .shape()
        .extents()
        .try_into()
        .map_err(|_| Error::shape(format!("{} has not five axes", value.shape())))
}

fn groups(node: &Node<'_>) -> Result<usize> {
    let groups = node.int("group").unwrap_or(1);
    usize::try_from(groups).map_err(|_| Error::format(format!("group is {groups}")))
}

/// Returns a value `[n, c, l]` as `[n, c, 1, l]`; others as they are.
pub(super) fn as_image(node: &mut Node<'_>, value: &Value) -> Result<Value> {
    match *value.shape().extents() {
        [n, c, l] => node.reshape(value, &[n, c, 1, l]),
        _ => Ok(value.clone()),
    }
}

/// Undoes [`as_image`], for a value that had `rank` axes.
pub(super) fn from_image(node: &mut Node<'_>, value: Value, rank: usize) -> Result<Value> {
    match *value.shape().extents() {
        [n, c, 1, l] if rank == 3 => node.reshape(&value, &[n, c, l]),
        _ => Ok(value),
    }
}

/// Returns the windows of rows and columns; a single axis is that of columns.
pub(super) fn image_axes(axes: &[Spatial]) -> Result<[Spatial; 2]> {
    match *axes {
        [columns] => {
            let rows = Spatial { input: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, output: 1 };
            Ok([rows, columns])
        }
        [rows, columns] => Ok([rows, columns]),
        _ => Err(Error::shape(format!("{} are not supported", count(axes.len(), "spatial axis")))),
    }
}
