//! Operators that select elements by their positions.

use neocog_base::{Error, Result};
use neocog_tensor::ops;

use crate::import::{Node, Value};
use crate::register_onnx;

/// Takes positions along an axis.
pub(super) fn select(node: &mut Node<'_>, x: &Value, axis: usize, indices: Vec<usize>) -> Result<Value> {
    let is_range = indices.windows(2).all(|pair| pair[1] == pair[0] + 1);
    match indices.first() {
        Some(&start) if is_range => node.narrow(x, axis, start, indices.len()),
        _ => node.push(ops::IndexSelect { dim: axis as isize, indices: indices.into() }, &[x]),
    }
}

register_onnx!("Gather", |node| {
    let (x, indices) = (node.input(0)?, node.input(1)?);
    let axis = node.axis(node.int("axis").unwrap_or(0), x.rank())?;
    let positions = node.known_integers(1, "the indices")?.unwrap_or_default();
    let extent = x.shape()[axis];
    let positions = positions.iter().map(|&index| node.axis(index, extent)).collect::<Result<Vec<usize>>>();
    let positions = positions.map_err(|_| {
        Error::shape(format!(
            "the indices are not within the {extent} positions of axis {axis} of {}",
            x.shape()
        ))
    })?;
    let mut shape = x.shape()[..axis].to_vec();
    shape.extend_from_slice(indices.shape());
    shape.extend_from_slice(&x.shape()[axis + 1..]);
    let y = select(node, &x, axis, positions)?;
    Ok(vec![node.reshape(&y, &shape)?])
});

register_onnx!("Slice", |node| {
    let mut x = node.input(0)?;
    let starts = node.integers_of("starts", 1)?.ok_or_else(|| Error::format("the starts are missing"))?;
    let ends = node.integers_of("ends", 2)?.ok_or_else(|| Error::format("the ends are missing"))?;
    let axes = node.integers_of("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = node.known_integers(4, "the steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Error::format(format!(
            "there are {} starts, {} ends, {} axes and {} steps",
            starts.len(),
            ends.len(),
            axes.len(),
            steps.len()
        )));
    }
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = node.axis(axis, x.rank())?;
        if step == 0 {
            return Err(Error::format("a step is 0"));
        }
        let indices = positions(x.shape()[axis], start, end, step);
        x = if indices.is_empty() { node.narrow(&x, axis, 0, 0)? } else { select(node, &x, axis, indices)? };
    }
    Ok(vec![x])
});

/// Returns the positions of a slice, as in Python.
fn positions(extent: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let extent = extent as i64;
    let from_start = |at: i64| if at < 0 { at.saturating_add(extent) } else { at };
    let (low, high) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let (start, end) = (from_start(start).clamp(low, high), from_start(end).clamp(low, high));
    let mut indices = Vec::new();
    let mut at = start;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        indices.push(at as usize);
        at = at.saturating_add(step);
    }
    indices
}

register_onnx!("Pad", |node| {
    let mut x = node.input(0)?;
    let axes = node.known_integers(3, "the axes")?.unwrap_or_else(|| (0..x.rank() as i64).collect());
    let axes = axes.into_iter().map(|axis| node.axis(axis, x.rank())).collect::<Result<Vec<usize>>>()?;
    let pads = node.integers_of("pads", 1)?.ok_or_else(|| Error::format("the pads are missing"))?;
    if pads.len() != 2 * axes.len() || pads.iter().any(|pad| pad.unsigned_abs() > 1 << 30) {
        return Err(Error::format(format!("the pads are {pads:?}, for {} axes", axes.len())));
    }
    let fill = match node.known_numbers(2, "the value of the padding")? {
        Some(values) => values.first().copied().unwrap_or(0.0),
        None => node.float("value").unwrap_or(0.0),
    };
    let mode = node.text("mode").unwrap_or_else(|| "constant".to_string());
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[axes.len() + i]);
        // Negative padding removes positions.
        let (cut, cut_end) = ((-before).max(0) as usize, (-after).max(0) as usize);
        let extent = x.shape()[axis];
        let Some(rest) = extent.checked_sub(cut.saturating_add(cut_end)) else {
            return Err(Error::shape(format!(
                "padding of {before} and {after} removes more than axis {axis} of {}",
                x.shape()
            )));
        };
        x = node.narrow(&x, axis, cut, rest)?;
        let (before, after) = (before.max(0) as usize, after.max(0) as usize);
        if before + after == 0 {
            continue;
        }
        if mode == "constant" {
            x = node.pad_axis(&x, axis, before, after, fill)?;
            continue;
        }
        if rest == 0 {
            return Err(Error::shape(format!("axis {axis} has nothing to pad with")));
        }
        let period = (2 * (rest - 1)).max(1);
        let source = |at: i64| match mode.as_str() {
            "edge" => Ok(at.clamp(0, rest as i64 - 1) as usize),
            "wrap" => Ok(at.rem_euclid(rest as i64) as usize),
            "reflect" => {
                let at = at.rem_euclid(period as i64) as usize;
                Ok(at.min(period - at) % rest)
            }
            other => Err(Error::format(format!("mode is {other}"))),
        };
        if before + rest + after > 1 << 28 {
            return Err(Error::shape(format!("padding of {before} and {after} is too large")));
        }
        let all = -(before as i64)..(rest + after) as i64;
        let indices = all.map(source).collect::<Result<Vec<usize>>>()?;
        x = select(node, &x, axis, indices)?;
    }
    Ok(vec![x])
});

register_onnx!("CenterCropPad", |node| {
    let mut x = node.input(0)?;
    let wanted = node.known_integers(1, "the shape")?.ok_or_else(|| Error::format("the shape is missing"))?;
    let axes = node.ints("axes").unwrap_or_else(|| (0..x.rank() as i64).collect());
    for (axis, wanted) in axes.into_iter().zip(wanted) {
        let axis = node.axis(axis, x.rank())?;
        let wanted = usize::try_from(wanted).map_err(|_| Error::format("a size is negative"))?;
        let extent = x.shape()[axis];
        x = if wanted <= extent {
            node.narrow(&x, axis, (extent - wanted) / 2, wanted)?
        } else {
            let before = (wanted - extent) / 2;
            node.pad_axis(&x, axis, before, wanted - extent - before, 0.0)?
        };
    }
    Ok(vec![x])
});
