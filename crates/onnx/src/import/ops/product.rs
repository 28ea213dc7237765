//! Matrix products.

use neocog_base::{Error, Result};
use neocog_tensor::ops;

use super::elementwise::{broadcast, scale};
use crate::import::{Node, Value};
use crate::register_onnx;

register_onnx!("Gemm", |node| {
    let (a, b) = (node.input(0)?, node.input(1)?);
    if a.rank() != 2 || b.rank() != 2 {
        return Err(Error::shape(format!("expected two matrices, found {} and {}", a.shape(), b.shape())));
    }
    let is_set = |name: &str| node.int(name).unwrap_or(0) != 0;
    let (transpose_a, transpose_b) = (is_set("transA"), is_set("transB"));
    let (alpha, beta) = (node.float("alpha").unwrap_or(1.0), node.float("beta").unwrap_or(1.0));
    let c = node.optional(2).filter(|_| beta != 0.0);
    let c = match c {
        Some(c) => Some(scale(node, &c, beta)?),
        None => None,
    };
    if b.tensor().is_some() && !transpose_a {
        // A linear layer: its weight is [out, in], and scaled once.
        let weight = if transpose_b { b } else { node.permute(&b, &[1, 0])? };
        let weight = scale(node, &weight, alpha)?;
        let out = weight.shape()[0];
        let bias = match &c {
            Some(c)
                if c.tensor().is_some() && c.shape().elements() == out && c.shape().last() == Some(&out) =>
            {
                Some(node.reshape(c, &[out])?)
            }
            _ => None,
        };
        if let Some(bias) = bias {
            return Ok(vec![node.push(ops::Linear::default(), &[&a, &weight, &bias])?]);
        }
        let y = node.push(ops::Linear::default(), &[&a, &weight])?;
        return Ok(vec![match c {
            Some(c) => node.push(ops::Add, &[&y, &c])?,
            None => y,
        }]);
    }
    let y = node.push(ops::MatMul { transpose_a, transpose_b }, &[&a, &b])?;
    let y = scale(node, &y, alpha)?;
    Ok(vec![match c {
        Some(c) => node.push(ops::Add, &[&y, &c])?,
        None => y,
    }])
});

register_onnx!("MatMul", |node| {
    let (a, b) = (node.input(0)?, node.input(1)?);
    Ok(vec![matmul(node, a, b)?])
});

fn matmul(node: &mut Node<'_>, a: Value, b: Value) -> Result<Value> {
    if a.rank() == 0 || b.rank() == 0 {
        return Err(Error::shape("a matrix product of a scalar is not defined"));
    }
    // Vectors are matrices with one row or one column, which the result does not have.
    let (is_row, is_column) = (a.rank() == 1, b.rank() == 1);
    let a = if is_row { node.reshape(&a, &[1, a.shape()[0]])? } else { a };
    let b = if is_column { node.reshape(&b, &[b.shape()[0], 1])? } else { b };
    let (m, k) = (a.shape()[a.rank() - 2], a.shape()[a.rank() - 1]);
    let n = b.shape()[b.rank() - 1];
    if b.shape()[b.rank() - 2] != k {
        return Err(Error::shape(format!("the inner extents differ: {} and {}", a.shape(), b.shape())));
    }
    let outer = broadcast(a.shape()[..a.rank() - 2].to_vec(), &b.shape()[..b.rank() - 2])?;
    let y = if b.rank() == 2 && b.tensor().is_some() {
        let weight = node.permute(&b, &[1, 0])?;
        node.push(ops::Linear::default(), &[&a, &weight])?
    } else if b.rank() == 2 {
        let rows = a.shape().elements() / k.max(1);
        let flat = node.reshape(&a, &[rows, k])?;
        node.push(ops::MatMul::default(), &[&flat, &b])?
    } else {
        let count: usize = outer.iter().product();
        let a = node.expand(&a, &[&outer[..], &[m, k]].concat())?;
        let b = node.expand(&b, &[&outer[..], &[k, n]].concat())?;
        let (a, b) = (node.reshape(&a, &[count, m, k])?, node.reshape(&b, &[count, k, n])?);
        node.push(ops::BatchMatMul, &[&a, &b])?
    };
    let mut shape = outer;
    shape.extend((!is_row).then_some(m));
    shape.extend((!is_column).then_some(n));
    node.reshape(&y, &shape)
}
