//! Elementwise operators, casts, and activations.

use neocog_base::{Error, Result};
use neocog_tensor::{Device, Op, ops};

use crate::element::{check_type, f32_to_half, half_to_f32};
use crate::import::{Node, Value};
use crate::proto::DataType;
use crate::register_onnx;

/// Registers operators that are one operation on one input.
macro_rules! unary {
    ($($op_type:literal $op:ident,)*) => {$(
        register_onnx!($op_type, |node| {
            let x = node.input(0)?;
            Ok(vec![node.push(ops::$op, &[&x])?])
        });
    )*};
}

unary! {
    "Relu" Relu, "Sigmoid" Sigmoid, "Tanh" Tanh, "Erf" Erf, "Softplus" Softplus, "Mish" Mish, "Abs" Abs, "Exp" Exp, "Log" Log,
    "Sqrt" Sqrt, "Floor" Floor, "Ceil" Ceil, "Round" Round, "Reciprocal" Reciprocal, "HardSwish" Hardswish,
}

register_onnx!("Neg", |node| {
    let x = node.input(0)?;
    Ok(vec![scale(node, &x, -1.0)?])
});

register_onnx!("Identity", |node| Ok(vec![node.input(0)?]));

register_onnx!("Dropout", |node| {
    let x = node.input(0)?;
    let is_training = node.known_numbers(2, "training_mode")?.is_some_and(|mode| mode.first() != Some(&0.0));
    let ratio = match node.known_numbers(1, "ratio")? {
        Some(ratio) => ratio.first().copied().unwrap_or(0.0),
        None => node.float("ratio").unwrap_or(0.5),
    };
    if is_training && ratio != 0.0 {
        return Err(Error::invalid_argument("training_mode draws random numbers, which is not supported"));
    }
    let shape = *x.shape();
    let mask = node.constant(&[], &[1.0], DataType::Bool)?;
    let mask = node.expand(&mask, &shape)?;
    Ok(vec![x, mask])
});

register_onnx!("LeakyRelu", |node| {
    let x = node.input(0)?;
    Ok(vec![node.push(ops::LeakyRelu { negative_slope: node.float("alpha").unwrap_or(0.01) }, &[&x])?])
});

register_onnx!("Elu", |node| {
    let x = node.input(0)?;
    Ok(vec![node.push(ops::Elu { alpha: node.float("alpha").unwrap_or(1.0) }, &[&x])?])
});

register_onnx!("Selu", |node| {
    let x = node.input(0)?;
    let alpha = node.float("alpha").unwrap_or(1.673_263_192_176_818_8);
    let gamma = node.float("gamma").unwrap_or(1.050_701_022_148_132_3);
    let y = node.push(ops::Elu { alpha }, &[&x])?;
    Ok(vec![scale(node, &y, gamma)?])
});

register_onnx!("Celu", |node| {
    let x = node.input(0)?;
    let alpha = node.float("alpha").unwrap_or(1.0);
    let scaled = scale(node, &x, 1.0 / alpha)?;
    let y = node.push(ops::Elu { alpha: 1.0 }, &[&scaled])?;
    Ok(vec![scale(node, &y, alpha)?])
});

register_onnx!("PRelu", |node| {
    let (x, mut slope) = (node.input(0)?, node.input(1)?);
    // Before opset 7, one number for each channel.
    if node.opset() < 7 && slope.rank() == 1 && x.rank() > 2 {
        let mut shape = vec![1; x.rank() - 1];
        shape[0] = slope.shape()[0];
        slope = node.reshape(&slope, &shape)?;
    }
    Ok(vec![node.push(ops::PRelu, &[&x, &slope])?])
});

register_onnx!("ThresholdedRelu", |node| {
    let x = node.input(0)?;
    let alpha = node.scalar(node.float("alpha").unwrap_or(1.0), &x)?;
    let is_larger = node.push(ops::Gt, &[&x, &alpha])?;
    Ok(vec![node.push(ops::Mul, &[&x, &is_larger])?])
});

register_onnx!("Softsign", |node| {
    let x = node.input(0)?;
    let magnitude = node.push(ops::Abs, &[&x])?;
    let one = node.scalar(1.0, &x)?;
    let sum = node.push(ops::Add, &[&magnitude, &one])?;
    Ok(vec![node.push(ops::Div, &[&x, &sum])?])
});

register_onnx!("Sign", |node| {
    let x = node.input(0)?;
    let zero = node.scalar(0.0, &x)?;
    let (positive, negative) = (node.push(ops::Gt, &[&x, &zero])?, node.push(ops::Gt, &[&zero, &x])?);
    Ok(vec![node.push(ops::Sub, &[&positive, &negative])?])
});

register_onnx!("HardSigmoid", |node| {
    let x = node.input(0)?;
    let (alpha, beta) = (node.float("alpha").unwrap_or(0.2), node.float("beta").unwrap_or(0.5));
    if (alpha - 1.0 / 6.0).abs() < 1e-7 && beta == 0.5 {
        return Ok(vec![node.push(ops::Hardsigmoid, &[&x])?]);
    }
    let scaled = scale(node, &x, alpha)?;
    let beta = node.scalar(beta, &x)?;
    let y = node.push(ops::Add, &[&scaled, &beta])?;
    Ok(vec![clip(node, y, Some(0.0), Some(1.0))?])
});

register_onnx!("Gelu", |node| {
    let x = node.input(0)?;
    match node.text("approximate").as_deref() {
        None | Some("none") => Ok(vec![node.push(ops::Gelu, &[&x])?]),
        Some("tanh") => Ok(vec![node.push(ops::GeluTanh, &[&x])?]),
        Some(other) => Err(Error::format(format!("approximate is {other}, it must be none or tanh"))),
    }
});

register_onnx!("Swish", |node| {
    let x = node.input(0)?;
    let alpha = node.float("alpha").unwrap_or(1.0);
    if alpha == 1.0 {
        return Ok(vec![node.push(ops::Silu, &[&x])?]);
    }
    let scaled = scale(node, &x, alpha)?;
    let sigmoid = node.push(ops::Sigmoid, &[&scaled])?;
    Ok(vec![node.push(ops::Mul, &[&x, &sigmoid])?])
});

register_onnx!("Clip", |node| {
    let x = node.input(0)?;
    let mut limits = [node.float("min"), node.float("max")];
    for (i, limit) in limits.iter_mut().enumerate() {
        if let Some(value) = node.optional(i + 1) {
            match value.tensor() {
                Some(tensor) => *limit = tensor.to_f64()?.first().copied(),
                None => return clip_by_values(node, x),
            }
        }
    }
    Ok(vec![clip(node, x, limits[0], limits[1])?])
});

/// Limits values by ones that are computed.
fn clip_by_values(node: &mut Node<'_>, x: Value) -> Result<Vec<Value>> {
    let mut y = x;
    if let Some(low) = node.optional(1) {
        y = node.push(ops::Maximum, &[&y, &low])?;
    }
    if let Some(high) = node.optional(2) {
        y = node.push(ops::Minimum, &[&y, &high])?;
    }
    Ok(vec![y])
}

/// Limits values to a range.
pub(super) fn clip(node: &mut Node<'_>, x: Value, low: Option<f64>, high: Option<f64>) -> Result<Value> {
    match (low, high) {
        (Some(0.0), Some(6.0)) => return node.push(ops::Relu6, &[&x]),
        (Some(0.0), None) => return node.push(ops::Relu, &[&x]),
        _ => {}
    }
    let mut y = x;
    if let Some(low) = low.filter(|low| *low > f64::from(f32::MIN)) {
        let low = node.scalar(low, &y)?;
        y = node.push(ops::Maximum, &[&y, &low])?;
    }
    if let Some(high) = high.filter(|high| *high < f64::from(f32::MAX)) {
        let high = node.scalar(high, &y)?;
        y = node.push(ops::Minimum, &[&y, &high])?;
    }
    Ok(y)
}

/// Multiplies values by a number.
pub(super) fn scale(node: &mut Node<'_>, x: &Value, factor: f64) -> Result<Value> {
    if factor == 1.0 {
        return Ok(x.clone());
    }
    node.push(ops::Scale { factor }, &[x])
}

register_onnx!("Add", |node| binary(node, ops::Add));
register_onnx!("Sub", |node| binary(node, ops::Sub));

register_onnx!("Mul", |node| binary(node, ops::Mul));

register_onnx!("Pow", |node| {
    let (x, exponent) = (node.input(0)?, node.input(1)?);
    // By far the most frequent exponent.
    let is_two = exponent
        .tensor()
        .filter(|tensor| tensor.shape().elements() == 1 && tensor.shape().rank() <= x.rank());
    if let Some(tensor) = is_two
        && tensor.item()? == 2.0
    {
        return Ok(vec![node.push(ops::Mul, &[&x, &x])?]);
    }
    let y = node.push(ops::PowTensor, &[&x, &exponent])?;
    let y = if x.data_type.is_integer() && !exponent.data_type.is_integer() {
        node.push(ops::Trunc, &[&y])?
    } else {
        y
    };
    Ok(vec![y])
});

register_onnx!("Div", |node| {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let y = node.push(ops::Div, &[&a, &b])?;
    // Integers are divided without a rest.
    Ok(vec![if a.data_type.is_integer() { node.push(ops::Trunc, &[&y])? } else { y }])
});

register_onnx!("Mod", |node| {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let quotient = node.push(ops::Div, &[&a, &b])?;
    // The sign is that of the dividend with fmod, else that of the divisor.
    let is_fmod = node.int("fmod").unwrap_or(0) != 0;
    let whole =
        if is_fmod { node.push(ops::Trunc, &[&quotient])? } else { node.push(ops::Floor, &[&quotient])? };
    let product = node.push(ops::Mul, &[&b, &whole])?;
    Ok(vec![node.push(ops::Sub, &[&a, &product])?])
});

fn binary(node: &mut Node<'_>, op: impl Op) -> Result<Vec<Value>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (a, b) = old_broadcast(node, a, b)?;
    Ok(vec![node.push(op, &[&a, &b])?])
}

/// Before opset 7, the second input was broadcast from an axis on; the attributes may remain in later files.
fn old_broadcast(node: &mut Node<'_>, a: Value, b: Value) -> Result<(Value, Value)> {
    match node.int("axis") {
        Some(axis) if node.opset() < 7 && b.rank() < a.rank() => {
            let axis = node.axis(axis, a.rank())?;
            let mut shape = b.shape().to_vec();
            shape.resize(a.rank() - axis, 1);
            let b = node.reshape(&b, &shape)?;
            Ok((a, b))
        }
        _ => Ok((a, b)),
    }
}

/// Registers operators that combine any number of inputs.
macro_rules! variadic {
    ($($op_type:literal $op:ident,)*) => {$(
        register_onnx!($op_type, |node| {
            let all = node.all_inputs()?;
            Ok(vec![fold(node, all, ops::$op)?])
        });
    )*};
}

variadic! { "Sum" Add, "Max" Maximum, "Min" Minimum, }

register_onnx!("Mean", |node| {
    let all = node.all_inputs()?;
    let count = all.len() as f64;
    let sum = fold(node, all, ops::Add)?;
    Ok(vec![scale(node, &sum, 1.0 / count)?])
});

fn fold(node: &mut Node<'_>, all: Vec<Value>, op: impl Op + Copy) -> Result<Value> {
    let mut all = all.into_iter();
    let mut result = all.next().ok_or_else(|| Error::format("the node has no input"))?;
    for value in all {
        result = node.push(op, &[&result, &value])?;
    }
    Ok(result)
}

/// Registers comparisons and logical operators.
macro_rules! logical {
    ($($op_type:literal ($node:ident, $a:ident, $b:ident) $value:expr;)*) => {$(
        register_onnx!($op_type, |$node| {
            let ($a, $b) = ($node.input(0)?, $node.input(1)?);
            Ok(vec![$value.with_type(DataType::Bool)])
        });
    )*};
}

logical! {
    "Equal" (node, a, b) node.push(ops::Eq, &[&a, &b])?;
    "Less" (node, a, b) node.push(ops::Gt, &[&b, &a])?;
    "Greater" (node, a, b) node.push(ops::Gt, &[&a, &b])?;
    "LessOrEqual" (node, a, b) {
        let (less, equal) = (node.push(ops::Gt, &[&b, &a])?, node.push(ops::Eq, &[&a, &b])?);
        node.push(ops::Maximum, &[&less, &equal])?
    };
    "GreaterOrEqual" (node, a, b) {
        let (greater, equal) = (node.push(ops::Gt, &[&a, &b])?, node.push(ops::Eq, &[&a, &b])?);
        node.push(ops::Maximum, &[&greater, &equal])?
    };
    "And" (node, a, b) node.push(ops::Mul, &[&a, &b])?;
    "Or" (node, a, b) node.push(ops::Maximum, &[&a, &b])?;
    "Xor" (node, a, b) {
        let equal = node.push(ops::Eq, &[&a, &b])?;
        not(node, &equal)?
    };
}

register_onnx!("Not", |node| {
    let x = node.input(0)?;
    Ok(vec![not(node, &x)?])
});

fn not(node: &mut Node<'_>, x: &Value) -> Result<Value> {
    let one = node.scalar(1.0, x)?;
    node.push(ops::Sub, &[&one, x])
}

register_onnx!("IsNaN", |node| {
    let x = node.input(0)?;
    let equal = node.push(ops::Eq, &[&x, &x])?;
    Ok(vec![not(node, &equal)?.with_type(DataType::Bool)])
});

register_onnx!("Where", |node| {
    let (condition, x, y) = (node.input(0)?, node.input(1)?, node.input(2)?);
    // Its shape is what all three broadcast to.
    let shape = broadcast(broadcast(condition.shape().to_vec(), x.shape())?, y.shape())?;
    let data_type = x.data_type;
    let condition = node.expand(&condition, &shape)?;
    let (x, y) = (node.expand(&x, &shape)?, node.expand(&y, &shape)?);
    Ok(vec![node.push(ops::Where, &[&condition, &x, &y])?.with_type(data_type)])
});

/// Returns the extents that two shapes broadcast to.
pub(super) fn broadcast(a: Vec<usize>, b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|i| match (extent(&a, i), extent(b, i)) {
            (1, other) | (other, 1) => Ok(other),
            (one, other) if one == other => Ok(one),
            _ => Err(Error::shape(format!("the shapes {a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

register_onnx!("Cast", |node| {
    let x = node.input(0)?;
    let to = node.int("to").ok_or_else(|| Error::format("the attribute to is missing"))?;
    let to = check_type(i32::try_from(to).unwrap_or(0))?;
    Ok(vec![cast(node, x, to)?])
});

register_onnx!("CastLike", |node| {
    let (x, like) = (node.input(0)?, node.input(1)?);
    Ok(vec![cast(node, x, like.data_type)?])
});

/// Converts values to another type. On devices all values are floats.
fn cast(node: &mut Node<'_>, x: Value, to: DataType) -> Result<Value> {
    if x.data_type == to {
        return Ok(x);
    }
    if to == DataType::Bool {
        let zero = node.scalar(0.0, &x)?;
        let is_zero = node.push(ops::Eq, &[&x, &zero])?;
        return Ok(not(node, &is_zero)?.with_type(to));
    }
    if to.is_integer() && !x.data_type.is_integer() {
        return Ok(node.push(ops::Trunc, &[&x])?.with_type(to));
    }
    let rounded: Option<fn(f64) -> f64> = match to {
        DataType::Float16 => Some(|value| f64::from(half_to_f32(f32_to_half(value as f32)))),
        DataType::Float => Some(|value| f64::from(value as f32)),
        _ => None,
    };
    if let (Some(round), Some(tensor)) = (rounded, x.tensor()) {
        let values: Vec<f64> = tensor.to_f64()?.into_iter().map(round).collect();
        let tensor = neocog_tensor::Tensor::from_f64(*tensor.shape(), &values, &Device::Reference)?;
        return Ok(Value::constant(tensor, to));
    }
    Ok(x.with_type(to))
}
