//! Forms: how operations are written as ONNX nodes.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use neocog_base::{Error, Result};
use neocog_tensor::{Op, Tensor};

pub use super::dims::Dim;
use super::model::Model;
use crate::proto::{AttributeProto, AttributeType, NodeProto};

/// The ONNX form of an operation; created by [`register_onnx_form!`](crate::register_onnx_form).
#[derive(Clone, Copy)]
pub struct OnnxForm {
    /// The name of the operation.
    pub op: &'static str,
    /// The crate that registered the form.
    pub crate_name: &'static str,
    /// Whether the operation is written by the shape of its output alone, so that it may hold the size of the batch.
    pub by_shape: bool,
    /// Writes the nodes of an operation.
    pub write: fn(&dyn Op, &mut Form<'_>) -> Result<()>,
}

inventory::collect!(OnnxForm);

impl fmt::Debug for OnnxForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.op, self.crate_name)
    }
}

/// Registers how an operation is written as ONNX nodes: `register_onnx_form!("relu", Relu, |op, form| ...)` with the name and
/// the type of the operation. The function gets the operation and a [`Form`](crate::export::form::Form). For an operation
/// whose fields contain the size of the batch, `by shape` comes before the function, which must then use the dims of the output.
#[macro_export]
macro_rules! register_onnx_form {
    ($name:expr, $op:ty, by shape $write:expr) => {
        $crate::register_onnx_form!(@ $name, $op, true, $write);
    };
    ($name:expr, $op:ty, $write:expr) => {
        $crate::register_onnx_form!(@ $name, $op, false, $write);
    };
    (@ $name:expr, $op:ty, $by_shape:expr, $write:expr) => {
        $crate::inventory::submit! {
            $crate::export::form::OnnxForm {
                op: $name,
                crate_name: env!("CARGO_PKG_NAME"),
                by_shape: $by_shape,
                write: |op, form| {
                    let write: fn(&$op, &mut $crate::export::form::Form<'_>) -> neocog_base::Result<()> = $write;
                    write($crate::export::form::downcast::<$op>(op)?, form)
                },
            }
        }
    };
}

/// Returns the operation in its type.
///
/// # Errors
/// If it is of another type: two operations have the same name.
#[doc(hidden)]
pub fn downcast<T: Op>(op: &dyn Op) -> Result<&T> {
    (op as &dyn Any).downcast_ref().ok_or_else(|| {
        Error::invalid_argument(format!(
            "{} is not the operation that its ONNX form was registered for",
            op.name()
        ))
    })
}

/// Returns the form of an operation.
pub fn find(op: &str) -> Option<&'static OnnxForm> {
    static FORMS: LazyLock<HashMap<&str, &OnnxForm>> =
        LazyLock::new(|| inventory::iter::<OnnxForm>.into_iter().map(|form| (form.op, form)).collect());
    FORMS.get(op).copied()
}

/// An input of an operation.
#[derive(Clone, Debug)]
pub struct Input {
    name: String,
    dims: Vec<Dim>,
    constant: Option<Tensor>,
}

impl Input {
    pub(super) fn value(name: String, dims: Vec<Dim>) -> Self {
        Input { name, dims, constant: None }
    }

    pub(super) fn constant(name: String, tensor: Tensor) -> Self {
        let dims = tensor.shape().iter().map(|&extent| Dim::Fixed(extent)).collect();
        Input { name, dims, constant: Some(tensor) }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// A text.
    Text(&'static str),
    /// Integers.
    Ints(Vec<i64>),
}

impl From<usize> for Attribute {
    fn from(value: usize) -> Self {
        Attribute::Int(value as i64)
    }
}

impl<const N: usize> From<[usize; N]> for Attribute {
    fn from(values: [usize; N]) -> Self {
        Attribute::Ints(values.iter().map(|&value| value as i64).collect())
    }
}

/// Receives the nodes of one operation.
#[derive(Debug)]
pub struct Form<'a> {
    model: &'a mut Model,
    prefix: String,
    inputs: Vec<Input>,
    outputs: Vec<(String, Vec<Dim>)>,
}

impl<'a> Form<'a> {
    pub(super) fn new(
        model: &'a mut Model,
        prefix: String,
        inputs: Vec<Input>,
        outputs: Vec<(String, Vec<Dim>)>,
    ) -> Self {
        Form { model, prefix, inputs, outputs }
    }

    /// Returns the version of the operator set that is written.
    pub fn opset(&self) -> i64 {
        self.model.opset
    }

    /// Returns the number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the name of an input.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn input(&self, position: usize) -> String {
        self.inputs[position].name.clone()
    }

    /// Returns the names of all inputs.
    pub fn inputs(&self) -> Vec<String> {
        self.inputs.iter().map(|input| input.name.clone()).collect()
    }

    /// Returns the extents of an input.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn dims(&self, position: usize) -> &[Dim] {
        &self.inputs[position].dims
    }

    /// Returns the extents of an output.
    ///
    /// # Panics
    /// When there is no such output.
    pub fn output_dims(&self, position: usize) -> &[Dim] {
        &self.outputs[position].1
    }

    /// Returns an extent that does not depend on the batch.
    ///
    /// # Errors
    /// When it does.
    pub fn fixed(&self, dims: &[Dim], axis: usize) -> Result<usize> {
        dims.get(axis).and_then(|dim| dim.fixed()).ok_or_else(|| {
            Error::shape(format!(
                "axis {axis} depends on the size of the batch, which the ONNX form cannot express"
            ))
        })
    }

    /// Returns an input that is constant.
    ///
    /// # Errors
    /// When it is not.
    pub fn constant(&self, position: usize) -> Result<&Tensor> {
        self.inputs[position].constant.as_ref().ok_or_else(|| {
            Error::invalid_argument(format!("input {position} must be constant for the ONNX form"))
        })
    }

    /// Adds a constant of floats; returns its name.
    ///
    /// # Errors
    /// When the number of values is not that of the extents.
    pub fn floats(&mut self, name: &str, extents: &[usize], values: &[f32]) -> Result<String> {
        check_count(extents, values.len())?;
        Ok(self.model.floats(format!("{}.{name}", self.prefix), extents, values))
    }

    /// Adds a constant float; returns its name.
    ///
    /// # Errors
    /// As [`Form::floats`].
    pub fn scalar(&mut self, name: &str, value: f64) -> Result<String> {
        self.floats(name, &[], &[value as f32])
    }

    /// Adds a constant of integers along one axis; returns its name.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.model.ints(format!("{}.{name}", self.prefix), &[values.len()], values)
    }

    /// Adds a node with one output; returns the name of the output.
    pub fn node<S: AsRef<str>, const I: usize, const A: usize>(
        &mut self,
        op_type: &str,
        inputs: [S; I],
        attributes: [(&str, Attribute); A],
    ) -> String {
        let inputs = inputs.iter().map(|input| input.as_ref().to_string()).collect();
        self.node_of(op_type, inputs, attributes.into_iter().collect())
    }

    /// As [`Form::node`], for any number of inputs and attributes.
    pub fn node_of(
        &mut self,
        op_type: &str,
        inputs: Vec<String>,
        attributes: Vec<(&str, Attribute)>,
    ) -> String {
        let output = self.model.unique(format!("{}/{op_type}", self.prefix));
        self.add(op_type, inputs, attributes, output.clone());
        output
    }

    /// Adds the node that computes the first output.
    ///
    /// # Panics
    /// When there is no output.
    pub fn finish<S: AsRef<str>, const I: usize, const A: usize>(
        &mut self,
        op_type: &str,
        inputs: [S; I],
        attributes: [(&str, Attribute); A],
    ) {
        let inputs = inputs.iter().map(|input| input.as_ref().to_string()).collect();
        self.finish_of(op_type, inputs, attributes.into_iter().collect());
    }

    /// As [`Form::finish`], for any number of inputs and attributes.
    ///
    /// # Panics
    /// When there is no output.
    pub fn finish_of(&mut self, op_type: &str, inputs: Vec<String>, attributes: Vec<(&str, Attribute)>) {
        let output = self.outputs[0].0.clone();
        self.add(op_type, inputs, attributes, output);
    }

    fn add(
        &mut self,
        op_type: &str,
        inputs: Vec<String>,
        attributes: Vec<(&str, Attribute)>,
        output: String,
    ) {
        let node = NodeProto {
            name: output.clone(),
            input: inputs,
            output: vec![output],
            op_type: op_type.to_string(),
            attribute: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        };
        self.model.add(node);
    }
}

fn check_count(extents: &[usize], count: usize) -> Result<()> {
    if extents.iter().product::<usize>() == count {
        return Ok(());
    }
    Err(Error::shape(format!("{count} values for a constant of the extents {extents:?}")))
}

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Int(value) => {
            attribute.i = Some(value);
            AttributeType::Int
        }
        Attribute::Float(value) => {
            attribute.f = Some(value);
            AttributeType::Float
        }
        Attribute::Text(value) => {
            attribute.s = Some(bytes::Bytes::from_static(value.as_bytes()));
            AttributeType::String
        }
        Attribute::Ints(values) => {
            attribute.ints = values;
            AttributeType::Ints
        }
    };
    attribute.r#type = kind as i32;
    attribute
}
