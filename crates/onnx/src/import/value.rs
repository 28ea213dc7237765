//! Values of a model while it is converted.

use std::collections::BTreeSet;

use neocog_base::Result;
use neocog_tensor::{Shape, Tensor};

use crate::proto::DataType;

/// A value: known, or computed in each run.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its type. Values that are computed are floats on the device, whatever their type.
    pub data_type: DataType,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Constant(Tensor),
    Computed {
        /// The number in the graph.
        number: usize,
        shape: Shape,
        /// The inputs of the model that it depends on.
        origins: BTreeSet<usize>,
    },
}

impl Value {
    /// Creates a value that is known.
    pub fn constant(tensor: Tensor, data_type: DataType) -> Self {
        Value { data_type, content: Content::Constant(tensor) }
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        match &self.content {
            Content::Constant(tensor) => tensor.shape(),
            Content::Computed { shape, .. } => shape,
        }
    }

    /// Returns the number of axes.
    pub fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// Returns the tensor of a value that is known.
    pub fn tensor(&self) -> Option<&Tensor> {
        match &self.content {
            Content::Constant(tensor) => Some(tensor),
            Content::Computed { .. } => None,
        }
    }

    /// Returns the same value with another type.
    #[must_use]
    pub fn with_type(mut self, data_type: DataType) -> Self {
        self.data_type = data_type;
        self
    }
}

/// Returns a number as an integer; numbers beyond its range are its limits.
pub(super) fn to_integer(value: f64) -> i64 {
    value as i64
}

/// Returns the elements of a tensor as integers.
pub(super) fn integers(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(tensor.to_f64()?.into_iter().map(to_integer).collect())
}
