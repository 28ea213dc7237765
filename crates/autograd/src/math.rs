//! Operators and methods on values: each records one or a few operations, and broadcasts as NumPy does.
//!
//! All return a `Result`: shapes that do not fit are an error, not a panic.

use std::ops::{Add, Div, Mul, Neg, Sub};

use neocog_tensor::ops;
use neocog_tensor::{Device, Error, Result, Shape, Tensor};

use crate::tape::Var;

/// A number as a value on the device of another one. Beside values without elements it keeps its own, for a trace.
fn scalar(number: f64, like: &Var) -> Result<Var> {
    let device = match like.tensor().device() {
        Device::Meta => Device::Reference,
        device => device,
    };
    Tensor::full([], number, &device).map(Var::constant)
}

/// Implements a binary operator for values and numbers.
macro_rules! operator {
    ($($operator:ident $method:ident)*) => {$(
        impl $operator<&Var> for &Var {
            type Output = Result<Var>;
            fn $method(self, other: &Var) -> Result<Var> {
                Var::apply(ops::$operator, &[self, other])
            }
        }

        impl $operator<f64> for &Var {
            type Output = Result<Var>;
            fn $method(self, other: f64) -> Result<Var> {
                Var::apply(ops::$operator, &[self, &scalar(other, self)?])
            }
        }

        impl $operator<&Var> for f64 {
            type Output = Result<Var>;
            fn $method(self, other: &Var) -> Result<Var> {
                Var::apply(ops::$operator, &[&scalar(self, other)?, other])
            }
        }
    )*};
}
operator!(Add add Sub sub Mul mul Div div);

impl Neg for &Var {
    type Output = Result<Var>;
    fn neg(self) -> Result<Var> {
        Var::apply(ops::Scale { factor: -1.0 }, &[self])
    }
}

/// Defines a method for an operation of one input.
macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $op:expr;)*) => {
        impl Var {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// When the device fails.
            pub fn $method(&self) -> Result<Var> {
                Var::apply($op, &[self])
            }
        )*}
    };
}

unary! {
    /// `e^x`.
    exp = ops::Exp;
    /// The natural logarithm.
    log = ops::Log;
    /// The square root.
    sqrt = ops::Sqrt;
    /// The absolute value.
    abs = ops::Abs;
    /// The square.
    square = ops::Pow { exponent: 2.0 };
    /// `max(x, 0)`.
    relu = ops::Relu;
    /// The logistic sigmoid.
    sigmoid = ops::Sigmoid;
    /// The hyperbolic tangent.
    tanh = ops::Tanh;
    /// The sum of all elements, a scalar.
    sum = ops::Sum;
    /// The mean of all elements, a scalar.
    mean = ops::Mean;
}

/// Defines a method for an operation of two inputs that are broadcast.
macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $op:ident;)*) => {
        impl Var {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// When the shapes do not broadcast, or the device fails.
            pub fn $method(&self, other: &Var) -> Result<Var> {
                Var::apply(ops::$op, &[self, other])
            }
        )*}
    };
}

binary! {
    /// The larger of two numbers; NaN if either is.
    maximum = Maximum;
    /// The smaller of two numbers; NaN if either is.
    minimum = Minimum;
    /// 1 where this is larger, else 0; not differentiable.
    gt = Gt;
    /// 1 where this is larger or equal, else 0; not differentiable.
    ge = Ge;
    /// 1 where both are equal, else 0; not differentiable.
    eq_to = Eq;
}

impl Var {
    /// 1 where this is smaller, else 0; not differentiable.
    ///
    /// # Errors
    /// When the shapes do not broadcast, or the device fails.
    pub fn lt(&self, other: &Var) -> Result<Var> {
        other.gt(self)
    }

    /// 1 where this is smaller or equal, else 0; not differentiable.
    ///
    /// # Errors
    /// When the shapes do not broadcast, or the device fails.
    pub fn le(&self, other: &Var) -> Result<Var> {
        other.ge(self)
    }

    /// `x^exponent`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pow(&self, exponent: f64) -> Result<Var> {
        Var::apply(ops::Pow { exponent }, &[self])
    }

    /// `min(max(x, min), max)`.
    ///
    /// # Errors
    /// When `min` is larger than `max`, or the device fails.
    pub fn clamp(&self, min: f64, max: f64) -> Result<Var> {
        Var::apply(ops::Clamp { min, max }, &[self])
    }

    /// `x` where this is not 0, else `y`; all three are broadcast.
    ///
    /// # Errors
    /// When the shapes do not broadcast, or the device fails.
    pub fn where_else(&self, x: &Var, y: &Var) -> Result<Var> {
        // The shape of the sum is the one that all three broadcast to.
        let shapes = [self, x, y].map(|var| *var.shape());
        let shape = shapes.iter().skip(1).try_fold(shapes[0], |a, b| broadcast(&a, b))?;
        let [condition, x, y] = [self.expand(shape)?, x.expand(shape)?, y.expand(shape)?];
        Var::apply(ops::Where, &[&condition, &x, &y])
    }

    /// Broadcasts to a shape.
    ///
    /// # Errors
    /// When it does not broadcast to it, or the device fails.
    pub fn expand(&self, shape: Shape) -> Result<Var> {
        if *self.shape() == shape { Ok(self.clone()) } else { Var::apply(ops::Expand { shape }, &[self]) }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&self, shape: impl neocog_tensor::IntoShape) -> Result<Var> {
        self.reshaped(shape.into_shape()?)
    }

    /// The sum along axes, which stay with extent 1 if `keep` is set.
    ///
    /// # Errors
    /// When an axis does not exist or is named twice, or the device fails.
    pub fn sum_over(&self, axes: &[usize], keep: bool) -> Result<Var> {
        let shape = *self.shape();
        let mut reduced = shape;
        for (i, &axis) in axes.iter().enumerate() {
            if axis >= shape.rank() || axes[..i].contains(&axis) {
                return Err(Error::shape(format!("{axes:?} are not different axes of {shape}")));
            }
            reduced = reduced.with_extent(axis, 1)?;
        }
        let sum = Var::apply(ops::SumTo { shape: reduced }, &[self])?;
        if keep {
            return Ok(sum);
        }
        let left: Vec<usize> =
            (0..shape.rank()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
        sum.reshaped(Shape::new(&left)?)
    }

    /// The mean along axes, which stay with extent 1 if `keep` is set; NaN if they are empty.
    ///
    /// # Errors
    /// As [`Var::sum_over`].
    pub fn mean_over(&self, axes: &[usize], keep: bool) -> Result<Var> {
        let sum = self.sum_over(axes, keep)?;
        let count: usize = axes.iter().map(|&axis| self.shape()[axis]).product();
        Var::apply(ops::Scale { factor: 1.0 / count as f64 }, &[&sum])
    }

    /// Exchanges two axes.
    ///
    /// # Errors
    /// When one does not exist, or the device fails.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Var> {
        let rank = self.shape().rank();
        if a >= rank || b >= rank {
            return Err(Error::shape(format!("{a} and {b} are not axes of {}", self.shape())));
        }
        let mut dims: Vec<usize> = (0..rank).collect();
        dims.swap(a, b);
        Var::apply(ops::Permute::new(&dims), &[self])
    }

    /// Elements along an axis, as PyTorch's `gather`; see [`Gather`](ops::Gather).
    ///
    /// # Errors
    /// When the index does not fit, or the device fails.
    pub fn gather(&self, dim: usize, index: &Var) -> Result<Var> {
        Var::apply(ops::Gather { dim }, &[self, index])
    }

    /// The matrix product `[m, k] x [k, n]`; of several pairs, `[.., m, k] x [.., k, n]`, whose leading axes are broadcast.
    ///
    /// # Errors
    /// When the shapes do not fit, or the device fails.
    pub fn matmul(&self, other: &Var) -> Result<Var> {
        let (a, b) = (*self.shape(), *other.shape());
        if a.rank() == 2 && b.rank() == 2 {
            return Var::apply(ops::MatMul::default(), &[self, other]);
        }
        if a.rank() < 2 || b.rank() < 2 {
            return Err(Error::shape(format!("matmul expects matrices, found {a} and {b}")));
        }
        let split = |shape: &Shape| {
            let at = shape.rank() - 2;
            (shape[..at].to_vec(), shape[at..].to_vec())
        };
        let ((outer_a, inner_a), (outer_b, inner_b)) = (split(&a), split(&b));
        let outer = broadcast(&Shape::new(&outer_a)?, &Shape::new(&outer_b)?)?;
        let full = |inner: &[usize]| Shape::new(&[&outer[..], inner].concat());
        let flat = |inner: &[usize]| Shape::new(&[&[outer.elements()], inner].concat());
        let left = self.expand(full(&inner_a)?)?.reshaped(flat(&inner_a)?)?;
        let right = other.expand(full(&inner_b)?)?.reshaped(flat(&inner_b)?)?;
        let product = Var::apply(ops::BatchMatMul, &[&left, &right])?;
        product.reshaped(full(&[inner_a[0], inner_b[1]])?)
    }

    /// The softmax along an axis.
    ///
    /// # Errors
    /// When the axis does not exist, or the device fails.
    pub fn softmax(&self, dim: isize) -> Result<Var> {
        Var::apply(ops::Softmax { dim }, &[self])
    }

    /// The logarithm of the softmax along an axis.
    ///
    /// # Errors
    /// When the axis does not exist, or the device fails.
    pub fn log_softmax(&self, dim: isize) -> Result<Var> {
        Var::apply(ops::LogSoftmax { dim }, &[self])
    }

    fn reshaped(&self, shape: Shape) -> Result<Var> {
        Var::apply(ops::Reshape { shape }, &[self])
    }
}

/// Returns the shape that both broadcast to.
fn broadcast(a: &Shape, b: &Shape) -> Result<Shape> {
    let [x, y] = [a, b].map(|shape| Tensor::zeros(*shape, &Device::Meta));
    Ok(*neocog_tensor::run_single(&ops::Add, &[&x?, &y?])?.shape())
}
