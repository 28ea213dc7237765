//! Operators and methods on tensors, as those on the values of a tape; with broadcasting as in NumPy.
//!
//! All return a `Result`: shapes that do not fit are an error, not a panic.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{Abs, Clamp, Exp, Log, Mean, Pow, Scale, Sqrt, Sum};
use crate::core::run::run_single;
use crate::core::tensor::Tensor;
use neocog_base::Result;

/// Implements a binary operator for tensors and numbers.
macro_rules! operator {
    ($($operator:ident $method:ident)*) => {$(
        impl $operator<&Tensor> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: &Tensor) -> Result<Tensor> {
                run_single(&super::$operator, &[self, other])
            }
        }

        impl $operator<f64> for &Tensor {
            type Output = Result<Tensor>;
            fn $method(self, other: f64) -> Result<Tensor> {
                run_single(&super::$operator, &[self, &Tensor::full([], other, &self.device())?])
            }
        }

        impl $operator<&Tensor> for f64 {
            type Output = Result<Tensor>;
            fn $method(self, other: &Tensor) -> Result<Tensor> {
                run_single(&super::$operator, &[&Tensor::full([], self, &other.device())?, other])
            }
        }
    )*};
}
operator!(Add add Sub sub Mul mul Div div);

impl Neg for &Tensor {
    type Output = Result<Tensor>;
    fn neg(self) -> Result<Tensor> {
        run_single(&Scale { factor: -1.0 }, &[self])
    }
}

/// Defines a method for an operation of one input.
macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $op:expr;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the device fails.
            pub fn $method(&self) -> Result<Tensor> {
                run_single(&$op, &[self])
            }
        )*}
    };
}

unary! {
    /// `e^x`.
    exp = Exp;
    /// The natural logarithm.
    log = Log;
    /// The square root.
    sqrt = Sqrt;
    /// The absolute value.
    abs = Abs;
    /// The square.
    square = Pow { exponent: 2.0 };
    /// The sum of all elements, a scalar.
    sum = Sum;
    /// The mean of all elements, a scalar.
    mean = Mean;
}

/// Defines a method for an operation of two inputs that are broadcast.
macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident = $op:ident;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast, or the device fails.
            pub fn $method(&self, other: &Tensor) -> Result<Tensor> {
                run_single(&super::$op, &[self, other])
            }
        )*}
    };
}

binary! {
    /// The larger of two numbers; NaN if either is.
    maximum = Maximum;
    /// The smaller of two numbers; NaN if either is.
    minimum = Minimum;
    /// 1 where this is larger, else 0.
    gt = Gt;
    /// 1 where this is larger or equal, else 0.
    ge = Ge;
    /// 1 where both are equal, else 0.
    eq_to = Eq;
}

impl Tensor {
    /// `x^exponent`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn pow(&self, exponent: f64) -> Result<Tensor> {
        run_single(&Pow { exponent }, &[self])
    }

    /// `min(max(x, min), max)`.
    ///
    /// # Errors
    /// If `min` is larger than `max`, or the device fails.
    pub fn clamp(&self, min: f64, max: f64) -> Result<Tensor> {
        run_single(&Clamp { min, max }, &[self])
    }

    /// The matrix product `[m, k] x [k, n]`.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device fails.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        run_single(&super::MatMul::default(), &[self, other])
    }
}
