//! Normalizations and softmax.

use neocog_base::{Error, Result};
use neocog_tensor::ops;

use super::elementwise::scale;
use crate::import::{Node, Value};
use crate::register_onnx;

register_onnx!("BatchNormalization", |node| {
    let x = node.input(0)?;
    let [weight, bias, mean, var] = [node.input(1)?, node.input(2)?, node.input(3)?, node.input(4)?];
    let eps = node.float("epsilon").unwrap_or(1e-5);
    if node.int("spatial") == Some(0) {
        return Err(Error::invalid_argument("spatial = 0 is not supported"));
    }
    let shape = x.shape().to_vec();
    let flat = match shape[..] {
        [_, _] | [_, _, _] | [_, _, _, _] => x,
        [n] => node.reshape(&x, &[n, 1])?,
        [n, c, ..] => node.reshape(&x, &[n, c, shape[2..].iter().product()])?,
        [] => return Err(Error::shape("the input is a scalar")),
    };
    if node.int("training_mode").unwrap_or(0) == 0 {
        let op = ops::BatchNormEval { eps, activation: None };
        let y = node.push(op, &[&flat, &mean, &var, &weight, &bias])?;
        return Ok(vec![node.reshape(&y, &shape)?]);
    }
    let momentum = node.float("momentum").unwrap_or(0.9);
    let op = ops::BatchNormTrain { eps, activation: None };
    let outputs = node.push_all(std::sync::Arc::new(op), &[&flat, &weight, &bias])?;
    let mut results = vec![node.reshape(&outputs[0], &shape)?];
    for (old, new) in [(mean, &outputs[1]), (var, &outputs[2])] {
        let (old, new) = (scale(node, &old, momentum)?, scale(node, new, 1.0 - momentum)?);
        results.push(node.push(ops::Add, &[&old, &new])?);
    }
    Ok(results)
});

register_onnx!("InstanceNormalization", |node| {
    let (x, weight, bias) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let (n, c) = channels(&x)?;
    let [y, ..] = normalize(node, &x, n * c, node.float("epsilon").unwrap_or(1e-5))?;
    Ok(vec![per_channel(node, &y, &weight, &bias)?])
});

register_onnx!("GroupNormalization", |node| {
    let (x, weight, bias) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let (n, c) = channels(&x)?;
    let groups = node.int("num_groups").and_then(|groups| usize::try_from(groups).ok()).unwrap_or(0);
    if groups == 0 || !c.is_multiple_of(groups) {
        return Err(Error::format(format!("num_groups must divide the {c} channels, it is {groups}")));
    }
    let [y, ..] = normalize(node, &x, n * groups, node.float("epsilon").unwrap_or(1e-5))?;
    if weight.shape().extents() == [c] {
        return Ok(vec![per_channel(node, &y, &weight, &bias)?]);
    }
    // In opset 18, there is one number for each group.
    let rest = x.shape().elements() / (n * groups).max(1);
    let grouped = node.reshape(&y, &[n, groups, rest])?;
    let y = per_channel(node, &grouped, &weight, &bias)?;
    let shape = *x.shape();
    Ok(vec![node.reshape(&y, &shape)?])
});

register_onnx!("LayerNormalization", |node| {
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let axis = node.axis(node.int("axis").unwrap_or(-1), x.rank())?;
    let groups: usize = x.shape()[..axis].iter().product();
    let eps = node.float("epsilon").unwrap_or(1e-5);
    let [y, mean, var] = normalize(node, &x, groups, eps)?;
    let mut y = node.push(ops::Mul, &[&y, &weight])?;
    if let Some(bias) = node.optional(2) {
        y = node.push(ops::Add, &[&y, &bias])?;
    }
    if node.output_count() < 2 {
        return Ok(vec![y]);
    }
    let mut shape = x.shape().to_vec();
    shape[axis..].fill(1);
    let mean = node.reshape(&mean, &shape)?;
    let eps = node.scalar(eps, &var)?;
    let sum = node.push(ops::Add, &[&var, &eps])?;
    let deviation = node.push(ops::Sqrt, &[&sum])?;
    let inverse = node.push(ops::Reciprocal, &[&deviation])?;
    Ok(vec![y, mean, node.reshape(&inverse, &shape)?])
});

register_onnx!("MeanVarianceNormalization", |node| {
    let x = node.input(0)?;
    let axes = node.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let mut reduced = vec![false; x.rank()];
    for axis in axes {
        let axis = node.axis(axis, x.rank())?;
        reduced[axis] = true;
    }
    let (kept, last): (Vec<usize>, Vec<usize>) = (0..x.rank()).partition(|axis| !reduced[*axis]);
    let dims = [kept.clone(), last].concat();
    let moved = node.permute(&x, &dims)?;
    let groups = kept.iter().map(|&axis| x.shape()[axis]).product();
    let [y, ..] = normalize(node, &moved, groups, 1e-9)?;
    let mut inverse = vec![0; dims.len()];
    dims.iter().enumerate().for_each(|(to, from)| inverse[*from] = to);
    Ok(vec![node.permute(&y, &inverse)?])
});

register_onnx!("LRN", |node| {
    let x = node.input(0)?;
    let (_, c) = channels(&x)?;
    let size = node.int("size").and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| Error::format("size must be at least 1"))?;
    let (alpha, beta, bias) = (
        node.float("alpha").unwrap_or(1e-4),
        node.float("beta").unwrap_or(0.75),
        node.float("bias").unwrap_or(1.0),
    );
    // The sum of the squares of channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).
    let windows: Vec<(usize, Vec<f64>)> = (0..c)
        .map(|channel| {
            let start = channel.saturating_sub((size - 1) / 2);
            let end = channel.saturating_add(size / 2).saturating_add(1).min(c);
            (start, vec![alpha / size as f64; end - start])
        })
        .collect();
    let square = node.push(ops::Mul, &[&x, &x])?;
    let map = ops::AxisMap::from_weights(c, &windows)?;
    let sum = node.push(ops::Resample { dim: 1, map, transposed: false }, &[&square])?;
    let (bias, exponent) = (node.scalar(bias, &x)?, node.scalar(-beta, &x)?);
    let sum = node.push(ops::Add, &[&sum, &bias])?;
    let factor = node.push(ops::PowTensor, &[&sum, &exponent])?;
    Ok(vec![node.push(ops::Mul, &[&x, &factor])?])
});

register_onnx!("Softmax", |node| softmax(node, false));
register_onnx!("LogSoftmax", |node| softmax(node, true));

fn softmax(node: &mut Node<'_>, is_log: bool) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axis = node.int("axis").unwrap_or(if node.opset() >= 13 { -1 } else { 1 });
    let shape = *x.shape();
    // Before opset 13, all axes from this one on were one.
    let (x, dim) = if node.opset() >= 13 {
        let axis = node.axis(axis, x.rank())?;
        (x, axis as isize)
    } else {
        let axis = if axis == x.rank() as i64 { x.rank() } else { node.axis(axis, x.rank())? };
        let outer = shape[..axis].iter().product();
        (node.reshape(&x, &[outer, shape[axis..].iter().product()])?, 1)
    };
    let y = if is_log {
        node.push(ops::LogSoftmax { dim }, &[&x])?
    } else {
        node.push(ops::Softmax { dim }, &[&x])?
    };
    Ok(vec![node.reshape(&y, &shape)?])
}

fn channels(x: &Value) -> Result<(usize, usize)> {
    match *x.shape().extents() {
        [n, c, _, ..] => Ok((n, c)),
        _ => Err(Error::shape(format!("expected an input [n, c, ..], found {}", x.shape()))),
    }
}

/// Normalizes each of `groups` groups of adjacent elements; returns the result, the means and the variances.
fn normalize(node: &mut Node<'_>, x: &Value, groups: usize, eps: f64) -> Result<[Value; 3]> {
    let elements = x.shape().elements();
    let shape = *x.shape();
    if elements == 0 || groups == 0 {
        return Err(Error::shape(format!("the input {shape} has no elements")));
    }
    if elements / groups == 1 {
        // A single element is its mean.
        let zeros = scale(node, x, 0.0)?;
        let mean = node.reshape(x, &[groups])?;
        let var = node.reshape(&zeros, &[groups])?;
        return Ok([zeros, mean, var]);
    }
    let rows = node.reshape(x, &[1, groups, elements / groups])?;
    let op = ops::BatchNormTrain { eps, activation: None };
    let outputs = node.push_all(std::sync::Arc::new(op), &[&rows])?;
    let y = node.reshape(&outputs[0], &shape)?;
    Ok([y, outputs[1].clone(), outputs[2].clone()])
}

/// Multiplies each channel by a weight and adds a bias.
fn per_channel(node: &mut Node<'_>, x: &Value, weight: &Value, bias: &Value) -> Result<Value> {
    let (_, c) = channels(x)?;
    let mut shape = vec![1; x.rank() - 1];
    shape[0] = c;
    let (weight, bias) = (node.reshape(weight, &shape)?, node.reshape(bias, &shape)?);
    let scaled = node.push(ops::Mul, &[x, &weight])?;
    node.push(ops::Add, &[&scaled, &bias])
}

register_onnx!("LpNormalization", |node| {
    let x = node.input(0)?;
    let axis = node.axis(node.int("axis").unwrap_or(-1), x.rank())?;
    let kept = x.shape().with_extent(axis, 1)?;
    let magnitude = match node.int("p").unwrap_or(2) {
        1 => {
            let magnitude = node.push(ops::Abs, &[&x])?;
            node.push(ops::SumTo { shape: kept }, &[&magnitude])?
        }
        2 => {
            let square = node.push(ops::Mul, &[&x, &x])?;
            let sum = node.push(ops::SumTo { shape: kept }, &[&square])?;
            node.push(ops::Sqrt, &[&sum])?
        }
        p => return Err(Error::format(format!("p is {p}, it must be 1 or 2"))),
    };
    // Zeros stay zeros.
    let least = node.scalar(f64::from(f32::MIN_POSITIVE), &x)?;
    let magnitude = node.push(ops::Maximum, &[&magnitude, &least])?;
    Ok(vec![node.push(ops::Div, &[&x, &magnitude])?])
});
