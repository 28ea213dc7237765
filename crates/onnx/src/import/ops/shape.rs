//! Operators that move elements, make constants, and tell shapes.

use neocog_base::{Error, Result};
use neocog_tensor::{Tensor, ops};

use super::indexing::select;
use crate::import::{Node, Value};
use crate::proto::DataType;
use crate::register_onnx;

register_onnx!("Reshape", |node| {
    let x = node.input(0)?;
    let wanted = node.integers_of("shape", 1)?.ok_or_else(|| Error::format("the new shape is missing"))?;
    let keeps_zero = node.int("allowzero").unwrap_or(0) != 0;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (i, &extent) in wanted.iter().enumerate() {
        match extent {
            -1 if free.replace(i).is_none() => shape.push(1),
            0 if !keeps_zero => shape.push(*x.shape().get(i).ok_or_else(|| {
                Error::shape(format!(
                    "the new shape {wanted:?} keeps axis {i}, which {} does not have",
                    x.shape()
                ))
            })?),
            0.. => shape.push(extent as usize),
            _ => return Err(Error::shape(format!("the new shape {wanted:?} is not valid"))),
        }
    }
    if let Some(free) = free {
        let rest = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent)).unwrap_or(0);
        if rest == 0 || !x.shape().elements().is_multiple_of(rest) {
            return Err(Error::shape(format!("{} cannot become {wanted:?}", x.shape())));
        }
        shape[free] = x.shape().elements() / rest;
    }
    Ok(vec![node.reshape(&x, &shape)?])
});

register_onnx!("Flatten", |node| {
    let x = node.input(0)?;
    let axis = node.int("axis").unwrap_or(1);
    let axis = if axis == x.rank() as i64 { x.rank() } else { node.axis(axis, x.rank())? };
    let shape = [x.shape()[..axis].iter().product(), x.shape()[axis..].iter().product()];
    Ok(vec![node.reshape(&x, &shape)?])
});

register_onnx!("Squeeze", |node| {
    let x = node.input(0)?;
    let axes = node.integers_of("axes", 1)?;
    let mut removed: Vec<bool> = x.shape().iter().map(|&extent| axes.is_none() && extent == 1).collect();
    for axis in axes.unwrap_or_default() {
        let axis = node.axis(axis, x.rank())?;
        if x.shape()[axis] != 1 {
            return Err(Error::shape(format!(
                "axis {axis} of {} cannot be removed: its extent is not 1",
                x.shape()
            )));
        }
        removed[axis] = true;
    }
    let shape: Vec<usize> =
        x.shape().iter().zip(removed).filter(|(_, removed)| !removed).map(|(&e, _)| e).collect();
    Ok(vec![node.reshape(&x, &shape)?])
});

register_onnx!("Unsqueeze", |node| {
    let x = node.input(0)?;
    let axes = node.integers_of("axes", 1)?.ok_or_else(|| Error::format("the axes are missing"))?;
    let rank = x.rank() + axes.len();
    let mut is_new = vec![false; rank];
    for axis in axes {
        let axis = node.axis(axis, rank)?;
        if std::mem::replace(&mut is_new[axis], true) {
            return Err(Error::format(format!("axis {axis} is added twice")));
        }
    }
    let mut old = x.shape().iter();
    let shape: Vec<usize> =
        is_new.into_iter().map(|is_new| if is_new { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    Ok(vec![node.reshape(&x, &shape)?])
});

register_onnx!("Transpose", |node| {
    let x = node.input(0)?;
    let dims = match node.ints("perm") {
        Some(perm) => perm.into_iter().map(|axis| node.axis(axis, x.rank())).collect::<Result<Vec<_>>>()?,
        None => (0..x.rank()).rev().collect(),
    };
    Ok(vec![node.permute(&x, &dims)?])
});

register_onnx!("Concat", |node| {
    let all = node.all_inputs()?;
    let axis = node.axis(node.int("axis").unwrap_or(1), all[0].rank())?;
    // In some files an empty constant stands for nothing.
    let parts: Vec<&Value> =
        all.iter().filter(|value| value.shape().extents() != [0] || all[0].rank() == 1).collect();
    Ok(vec![match parts[..] {
        [one] => one.clone(),
        _ => node.push(ops::Concat { dim: axis as isize }, &parts)?,
    }])
});

register_onnx!("Split", |node| {
    let x = node.input(0)?;
    let axis = node.axis(node.int("axis").unwrap_or(0), x.rank())?;
    let extent = x.shape()[axis];
    let sizes = match node.integers_of("split", 1)? {
        Some(sizes) => sizes
            .iter()
            .map(|&size| usize::try_from(size).map_err(|_| Error::format(format!("the sizes are {sizes:?}"))))
            .collect::<Result<Vec<usize>>>()?,
        None => {
            let count = node.int("num_outputs").and_then(|count| usize::try_from(count).ok());
            let count = count.unwrap_or(node.output_count()).clamp(1, node.output_count().max(1));
            let size = extent.div_ceil(count);
            (0..count).map(|i| size.min(extent.saturating_sub(i * size))).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if total != Some(extent) {
        return Err(Error::shape(format!(
            "the sizes {sizes:?} do not add up to axis {axis} of {}",
            x.shape()
        )));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(node.narrow(&x, axis, start, size)?);
        start += size;
    }
    Ok(parts)
});

register_onnx!("Expand", |node| {
    let x = node.input(0)?;
    let wanted = extents(node, 1, "the shape")?;
    let shape = super::elementwise::broadcast(x.shape().to_vec(), &wanted)?;
    Ok(vec![node.expand(&x, &shape)?])
});

register_onnx!("Tile", |node| {
    let mut x = node.input(0)?;
    let repeats = extents(node, 1, "the number of repeats")?;
    if repeats.len() != x.rank() {
        return Err(Error::shape(format!("the repeats {repeats:?} are not those of {}", x.shape())));
    }
    for (axis, times) in repeats.into_iter().enumerate().filter(|(_, times)| *times != 1) {
        let extent = x.shape()[axis];
        let is_valid = extent.checked_mul(times).is_some_and(|count| count <= 1 << 28);
        if !is_valid {
            return Err(Error::shape(format!("{extent} positions repeated {times} times are too many")));
        }
        let indices: Vec<usize> = (0..times).flat_map(|_| 0..extent).collect();
        x = select(node, &x, axis, indices)?;
    }
    Ok(vec![x])
});

/// Returns an input of sizes, which must be known.
fn extents(node: &mut Node<'_>, position: usize, what: &str) -> Result<Vec<usize>> {
    let given =
        node.known_integers(position, what)?.ok_or_else(|| Error::format(format!("{what} is missing")))?;
    let sizes: Option<Vec<usize>> = given.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    sizes.ok_or_else(|| Error::shape(format!("{what} is {given:?}, it must not be negative")))
}

register_onnx!("Shape", |node| {
    let x = node.input(0)?;
    let rank = x.rank() as i64;
    let limit = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize;
    let (start, end) = (limit(node.int("start").unwrap_or(0)), limit(node.int("end").unwrap_or(rank)));
    let values: Vec<f64> = x.shape()[start..end.max(start)].iter().map(|&extent| extent as f64).collect();
    Ok(vec![node.constant(&[values.len()], &values, DataType::Int64)?])
});

register_onnx!("Size", |node| {
    let x = node.input(0)?;
    Ok(vec![node.constant(&[], &[x.shape().elements() as f64], DataType::Int64)?])
});

register_onnx!("Constant", |node| {
    if let Some(value) = node.tensor("value")? {
        return Ok(vec![value]);
    }
    let list = |values: Vec<i64>| values.into_iter().map(|value| value as f64).collect::<Vec<_>>();
    let constant = if let Some(value) = node.float("value_float") {
        node.constant(&[], &[value], DataType::Float)
    } else if let Some(value) = node.int("value_int") {
        node.constant(&[], &[value as f64], DataType::Int64)
    } else if let Some(values) = node.floats("value_floats") {
        node.constant(&[values.len()], &values, DataType::Float)
    } else if let Some(values) = node.ints("value_ints").map(list) {
        node.constant(&[values.len()], &values, DataType::Int64)
    } else {
        Err(Error::format("the value is missing, or is a text or sparse, which is not supported"))
    };
    Ok(vec![constant?])
});

register_onnx!("ConstantOfShape", |node| {
    let shape = extents(node, 0, "the shape")?;
    let value = node.tensor("value")?;
    let (number, data_type) = match &value {
        Some(value) => {
            let first = value.tensor().map(Tensor::to_f64).transpose()?.and_then(|all| all.first().copied());
            (first.unwrap_or(0.0), value.data_type)
        }
        None => (0.0, DataType::Float),
    };
    Ok(vec![node.full(&shape, number, data_type)?])
});

register_onnx!("Range", |node| {
    let first = node.input(0)?;
    let mut number = |position: usize| -> Result<f64> {
        let values = node.known_numbers(position, "the range")?;
        values
            .and_then(|values| values.first().copied())
            .ok_or_else(|| Error::format("the range is not complete"))
    };
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if delta == 0.0 || !count.is_finite() || count > f64::from(1 << 28) {
        return Err(Error::format(format!(
            "a range from {start} to {limit} in steps of {delta} is not valid"
        )));
    }
    let values: Vec<f64> = (0..count as usize).map(|i| start + i as f64 * delta).collect();
    Ok(vec![node.constant(&[values.len()], &values, first.data_type)?])
});

register_onnx!("DepthToSpace", |node| {
    let x = node.input(0)?;
    let [n, c, h, w] = x.shape().nchw()?;
    let block = block(node)?;
    if !c.is_multiple_of(block * block) {
        return Err(Error::shape(format!("blocks of {block} x {block} do not divide the {c} channels")));
    }
    let rest = c / (block * block);
    let (shape, dims) = match node.text("mode").as_deref() {
        None | Some("DCR") => ([n, block, block, rest, h, w], [0, 3, 4, 1, 5, 2]),
        Some("CRD") => ([n, rest, block, block, h, w], [0, 1, 4, 2, 5, 3]),
        Some(other) => return Err(Error::format(format!("mode is {other}, it must be DCR or CRD"))),
    };
    let cut = node.reshape(&x, &shape)?;
    let moved = node.permute(&cut, &dims)?;
    Ok(vec![node.reshape(&moved, &[n, rest, h * block, w * block])?])
});

register_onnx!("SpaceToDepth", |node| {
    let x = node.input(0)?;
    let [n, c, h, w] = x.shape().nchw()?;
    let block = block(node)?;
    if !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return Err(Error::shape(format!("blocks of {block} x {block} do not divide {h} x {w} pixels")));
    }
    let cut = node.reshape(&x, &[n, c, h / block, block, w / block, block])?;
    let dims = match node.text("mode").as_deref() {
        None | Some("DCR") => [0, 3, 5, 1, 2, 4],
        Some("CRD") => [0, 1, 3, 5, 2, 4],
        Some(other) => return Err(Error::format(format!("mode is {other}, it must be DCR or CRD"))),
    };
    let moved = node.permute(&cut, &dims)?;
    Ok(vec![node.reshape(&moved, &[n, c * block * block, h / block, w / block])?])
});

fn block(node: &Node<'_>) -> Result<usize> {
    let block = node.int("blocksize").unwrap_or(0);
    let valid = usize::try_from(block).ok().filter(|block| (1..=1 << 15).contains(block));
    valid.ok_or_else(|| Error::format(format!("blocksize is {block}")))
}
