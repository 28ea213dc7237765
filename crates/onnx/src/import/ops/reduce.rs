//! Reductions along axes.

use neocog_base::{Error, Result};
use neocog_tensor::ops::{self, RowReduction};

use super::elementwise::scale;
use crate::import::{Node, Value};
use crate::proto::DataType;
use crate::register_onnx;

register_onnx!("ReduceSum", |node| sums(node, |_, x| Ok(x), |_, sum, _| Ok(sum)));

register_onnx!("ReduceMean", |node| sums(
    node,
    |_, x| Ok(x),
    |node, sum, count| {
        let mean = scale(node, &sum, 1.0 / count as f64)?;
        if mean.data_type.is_integer() { node.push(ops::Trunc, &[&mean]) } else { Ok(mean) }
    }
));

register_onnx!("ReduceL1", |node| sums(node, |node, x| node.push(ops::Abs, &[&x]), |_, sum, _| Ok(sum)));

register_onnx!("ReduceL2", |node| sums(
    node,
    |node, x| node.push(ops::Mul, &[&x, &x]),
    |node, sum, _| node.push(ops::Sqrt, &[&sum])
));

register_onnx!("ReduceSumSquare", |node| sums(
    node,
    |node, x| node.push(ops::Mul, &[&x, &x]),
    |_, sum, _| Ok(sum)
));

register_onnx!("ReduceLogSum", |node| sums(node, |_, x| Ok(x), |node, sum, _| node.push(ops::Log, &[&sum])));

register_onnx!("ReduceMax", |node| rows(node, RowReduction::Max));
register_onnx!("ReduceMin", |node| rows(node, RowReduction::Min));
register_onnx!("ReduceProd", |node| rows(node, RowReduction::Prod));

register_onnx!("ArgMax", |node| {
    let last = node.int("select_last_index").unwrap_or(0) != 0;
    position(node, if last { RowReduction::LastArgMax } else { RowReduction::ArgMax })
});

register_onnx!("ArgMin", |node| {
    let last = node.int("select_last_index").unwrap_or(0) != 0;
    position(node, if last { RowReduction::LastArgMin } else { RowReduction::ArgMin })
});

/// Returns which axes are reduced, and the shapes of the result with and without them; `None` if the input is the result.
fn axes(node: &mut Node<'_>, rank: usize) -> Result<Option<Vec<bool>>> {
    let given = node.integers_of("axes", 1)?.unwrap_or_default();
    if given.is_empty() && node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(None);
    }
    let mut reduced = vec![given.is_empty(); rank];
    for axis in given {
        let axis = node.axis(axis, rank)?;
        reduced[axis] = true;
    }
    Ok(Some(reduced))
}

/// The extents with those of the reduced axes as 1, or without them.
fn result_shape(node: &Node<'_>, x: &Value, reduced: &[bool]) -> Vec<usize> {
    let keeps = node.int("keepdims").unwrap_or(1) != 0;
    let extents = x.shape().iter().zip(reduced);
    extents
        .filter(|(_, reduced)| keeps || !**reduced)
        .map(|(&e, reduced)| if *reduced { 1 } else { e })
        .collect()
}

/// Reduces by a sum, with a function before it and one after it, which gets the number of summed elements.
fn sums(
    node: &mut Node<'_>,
    before: impl Fn(&mut Node<'_>, Value) -> Result<Value>,
    after: impl Fn(&mut Node<'_>, Value, usize) -> Result<Value>,
) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let reduced = axes(node, x.rank())?;
    let x = before(node, x)?;
    let Some(reduced) = reduced else { return Ok(vec![after(node, x, 1)?]) };
    let count = x.shape().iter().zip(&reduced).filter(|(_, reduced)| **reduced).map(|(e, _)| e).product();
    let kept: Vec<usize> =
        x.shape().iter().zip(&reduced).map(|(&e, reduced)| if *reduced { 1 } else { e }).collect();
    let shape = result_shape(node, &x, &reduced);
    let sum = node.push(ops::SumTo { shape: neocog_tensor::Shape::new(&kept)? }, &[&x])?;
    let sum = node.reshape(&sum, &shape)?;
    Ok(vec![after(node, sum, count)?])
}

/// Reduces the last axis.
pub(super) fn reduce_rows(node: &mut Node<'_>, x: &Value, reduction: RowReduction) -> Result<Value> {
    node.push(ops::RowReduce { reduction }, &[x])
}

fn rows(node: &mut Node<'_>, reduction: RowReduction) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let Some(reduced) = axes(node, x.rank())? else { return Ok(vec![x]) };
    let shape = result_shape(node, &x, &reduced);
    let count: usize =
        x.shape().iter().zip(&reduced).filter(|(_, reduced)| **reduced).map(|(e, _)| e).product();
    if count == 0 {
        let neutral = match (reduction, x.data_type) {
            (RowReduction::Prod, _) => 1.0,
            (RowReduction::Max, DataType::Bool) => 0.0,
            (RowReduction::Min, DataType::Bool) => 1.0,
            (RowReduction::Max, _) => f64::NEG_INFINITY,
            _ => f64::INFINITY,
        };
        return Ok(vec![node.full(&shape, neutral, x.data_type)?]);
    }
    let (kept, last): (Vec<usize>, Vec<usize>) = (0..x.rank()).partition(|axis| !reduced[*axis]);
    let moved = node.permute(&x, &[kept.clone(), last].concat())?;
    let flat = node.reshape(&moved, &[kept.iter().map(|&axis| x.shape()[axis]).product(), count])?;
    let y = reduce_rows(node, &flat, reduction)?;
    Ok(vec![node.reshape(&y, &shape)?])
}

fn position(node: &mut Node<'_>, reduction: RowReduction) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.axis(node.int("axis").unwrap_or(0), x.rank())?;
    let mut reduced = vec![false; x.rank()];
    reduced[axis] = true;
    let shape = result_shape(node, &x, &reduced);
    if x.shape()[axis] == 0 {
        return Err(Error::shape(format!("axis {axis} of {} has no position", x.shape())));
    }
    let mut dims: Vec<usize> = (0..x.rank()).filter(|other| *other != axis).collect();
    dims.push(axis);
    let moved = node.permute(&x, &dims)?;
    let y = reduce_rows(node, &moved, reduction)?;
    Ok(vec![node.reshape(&y, &shape)?.with_type(DataType::Int64)])
}

register_onnx!("ReduceLogSumExp", |node| {
    // With the maximum subtracted, against overflow.
    let x = node.input(0)?;
    let Some(reduced) = axes(node, x.rank())? else { return Ok(vec![x]) };
    let shape = result_shape(node, &x, &reduced);
    let kept: Vec<usize> =
        x.shape().iter().zip(&reduced).map(|(&e, reduced)| if *reduced { 1 } else { e }).collect();
    let largest = rows(node, RowReduction::Max)?.remove(0);
    let largest = node.reshape(&largest, &kept)?;
    let shifted = node.push(ops::Sub, &[&x, &largest])?;
    let powers = node.push(ops::Exp, &[&shifted])?;
    let sum = node.push(ops::SumTo { shape: neocog_tensor::Shape::new(&kept)? }, &[&powers])?;
    let log = node.push(ops::Log, &[&sum])?;
    let y = node.push(ops::Add, &[&log, &largest])?;
    Ok(vec![node.reshape(&y, &shape)?])
});
