//! Converters: how ONNX nodes become operations.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};

use neocog_base::{Error, Result};
use neocog_graph::{Graph, Source};
use neocog_tensor::ops;
use neocog_tensor::profile::Scope;
use neocog_tensor::{Device, Op, Shape, Tensor, run};

use super::constant::constant;
use super::names::domain_of;
use super::value::{Content, Value, integers};
use crate::proto::{AttributeProto, DataType, NodeProto};

/// The converter of an ONNX operator; created by [`register_onnx!`](crate::register_onnx).
#[derive(Clone, Copy)]
pub struct Converter {
    /// The domain of the operator; empty for the standard ones.
    pub domain: &'static str,
    /// The name of the operator.
    pub op_type: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    /// Returns the outputs of a node.
    pub convert: fn(&mut Node<'_>) -> Result<Vec<Value>>,
}

inventory::collect!(Converter);

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.op_type, self.crate_name)
    }
}

/// Registers how an ONNX operator becomes operations: `register_onnx!("Relu", |node| ...)` with a function that gets a
/// [`Node`](crate::import::Node) and returns its outputs. An operator of another domain has it before its name:
/// `register_onnx!("my.domain", "MyOp", |node| ...)`.
#[macro_export]
macro_rules! register_onnx {
    ($op_type:expr, $convert:expr) => {
        $crate::register_onnx!("", $op_type, $convert);
    };
    ($domain:expr, $op_type:expr, $convert:expr) => {
        $crate::inventory::submit! {
            $crate::import::Converter {
                domain: $domain,
                op_type: $op_type,
                crate_name: env!("CARGO_PKG_NAME"),
                convert: $convert,
            }
        }
    };
}

/// Returns the converter of an operator.
pub fn find(domain: &str, op_type: &str) -> Option<&'static Converter> {
    static CONVERTERS: LazyLock<HashMap<(&str, &str), &Converter>> = LazyLock::new(|| {
        let all = inventory::iter::<Converter>.into_iter();
        all.map(|converter| ((converter.domain, converter.op_type), converter)).collect()
    });
    CONVERTERS.get(&(domain_of(domain), op_type)).copied()
}

/// Returns the names of all operators with a converter, sorted.
pub fn operators() -> Vec<&'static str> {
    let mut all: Vec<_> =
        inventory::iter::<Converter>.into_iter().map(|converter| converter.op_type).collect();
    all.sort_unstable();
    all
}

/// Most elements of a value that is computed while a model is converted: a file of a few bytes must not fill the memory.
const MAX_ELEMENTS: usize = 1 << 28;

/// Checks that a value can be computed while a model is converted.
fn check_size(shape: &Shape) -> Result<()> {
    if shape.elements() <= MAX_ELEMENTS {
        return Ok(());
    }
    Err(Error::shape(format!(
        "a constant of shape {shape} is too large; it can have {MAX_ELEMENTS} elements"
    )))
}

/// The graph while it is built.
#[derive(Debug)]
pub(super) struct GraphBuilder {
    pub graph: Graph,
    pub device: Device,
    /// Inputs whose values must be known.
    pub wanted: BTreeSet<usize>,
}

/// A node that is converted: its attributes and inputs, and the graph that receives its operations.
#[derive(Debug)]
pub struct Node<'a> {
    pub(super) proto: &'a NodeProto,
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<Value>>,
    pub(super) builder: &'a mut GraphBuilder,
    pub(super) folder: Option<&'a std::path::Path>,
}

impl Node<'_> {
    /// Returns the version of the operator set.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Returns the number of inputs, with those that are left out before the last.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the number of outputs.
    pub fn output_count(&self) -> usize {
        self.proto.output.len()
    }

    /// Returns an input; `None` if it is left out.
    pub fn optional(&self, position: usize) -> Option<Value> {
        self.inputs.get(position).cloned().flatten()
    }

    /// Returns an input.
    ///
    /// # Errors
    /// When it is left out.
    pub fn input(&self, position: usize) -> Result<Value> {
        self.optional(position).ok_or_else(|| Error::format(format!("input {position} is missing")))
    }

    /// Returns all inputs.
    ///
    /// # Errors
    /// When one is left out, or there is none.
    pub fn all_inputs(&self) -> Result<Vec<Value>> {
        if self.inputs.is_empty() {
            return Err(Error::format("the node has no input"));
        }
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// Returns the tensor of a value that must be known: because the shape of the result follows from it, for example.
    ///
    /// # Errors
    /// When it is not; the graph is then built again with the values of the inputs that it depends on.
    pub fn known(&mut self, value: &Value, what: &str) -> Result<Tensor> {
        match &value.content {
            Content::Constant(tensor) => Ok(tensor.clone()),
            Content::Computed { origins, .. } => {
                self.builder.wanted.extend(origins);
                Err(Error::invalid_argument(format!("{what} must be constant")))
            }
        }
    }

    /// Returns the integers of an input that must be known; `None` if it is left out.
    ///
    /// # Errors
    /// As [`Node::known`].
    pub fn known_integers(&mut self, position: usize, what: &str) -> Result<Option<Vec<i64>>> {
        match self.optional(position) {
            Some(value) => Ok(Some(integers(&self.known(&value, what)?)?)),
            None => Ok(None),
        }
    }

    /// Returns the numbers of an input that must be known; `None` if it is left out.
    ///
    /// # Errors
    /// As [`Node::known`].
    pub fn known_numbers(&mut self, position: usize, what: &str) -> Result<Option<Vec<f64>>> {
        match self.optional(position) {
            Some(value) => Ok(Some(self.known(&value, what)?.to_f64()?)),
            None => Ok(None),
        }
    }

    /// Returns integers that older operator sets have as an attribute and newer ones as an input.
    ///
    /// # Errors
    /// As [`Node::known`].
    pub fn integers_of(&mut self, name: &str, position: usize) -> Result<Option<Vec<i64>>> {
        match self.ints(name) {
            Some(values) => Ok(Some(values)),
            None => self.known_integers(position, name),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// Returns an attribute that is an integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i.unwrap_or(0))
    }

    /// Returns an attribute that is a number.
    pub fn float(&self, name: &str) -> Option<f64> {
        self.attribute(name).map(|attribute| f64::from(attribute.f.unwrap_or(0.0)))
    }

    /// Returns an attribute that is a list of integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|attribute| attribute.ints.clone())
    }

    /// Returns an attribute that is a list of numbers.
    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.attribute(name).map(|attribute| attribute.floats.iter().map(|&value| f64::from(value)).collect())
    }

    /// Returns an attribute that is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name)?.s.clone().unwrap_or_default();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns an attribute that is a tensor.
    ///
    /// # Errors
    /// When its type is not supported, or it is damaged.
    pub fn tensor(&self, name: &str) -> Result<Option<Value>> {
        let Some(proto) = self.attribute(name).and_then(|attribute| attribute.t.as_ref()) else {
            return Ok(None);
        };
        let (tensor, data_type) = constant(proto, self.folder)?;
        Ok(Some(Value::constant(tensor, data_type)))
    }

    /// Returns an axis of a shape, where negative numbers count from the end.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_start)
            .ok()
            .filter(|axis| *axis < rank)
            .ok_or_else(|| Error::shape(format!("there is no axis {axis} among {rank}")))
    }

    /// Returns a known value.
    ///
    /// # Errors
    /// When the number of values is not that of the shape.
    pub fn constant(&self, shape: &[usize], values: &[f64], data_type: DataType) -> Result<Value> {
        let tensor = Tensor::from_f64(Shape::new(shape)?, values, &Device::Reference)?;
        Ok(Value::constant(tensor, data_type))
    }

    /// Returns a known value with equal elements.
    ///
    /// # Errors
    /// When it has too many elements.
    pub fn full(&self, shape: &[usize], number: f64, data_type: DataType) -> Result<Value> {
        let shape = Shape::new(shape)?;
        check_size(&shape)?;
        Ok(Value::constant(Tensor::full(shape, number, &Device::Reference)?, data_type))
    }

    /// Returns a known number, of the type of another value.
    ///
    /// # Errors
    /// When memory cannot be allocated.
    pub fn scalar(&self, number: f64, like: &Value) -> Result<Value> {
        self.constant(&[], &[number], like.data_type)
    }

    /// Adds an operation with one output, whose type is that of the first input.
    ///
    /// # Errors
    /// When the operation does not accept the inputs.
    pub fn push(&mut self, op: impl Op, inputs: &[&Value]) -> Result<Value> {
        self.push_shared(Arc::new(op), inputs)
    }

    /// As [`Node::push`], for an operation that is shared.
    ///
    /// # Errors
    /// As [`Node::push`].
    pub fn push_shared(&mut self, op: Arc<dyn Op>, inputs: &[&Value]) -> Result<Value> {
        let first = self.push_all(op, inputs)?.into_iter().next();
        first.ok_or_else(|| Error::invalid_argument("the operation has no output"))
    }

    /// Adds an operation; returns all of its outputs. An operation on known values is computed at once.
    ///
    /// # Errors
    /// When the operation does not accept the inputs.
    pub fn push_all(&mut self, op: Arc<dyn Op>, inputs: &[&Value]) -> Result<Vec<Value>> {
        let data_type = inputs.first().map_or(DataType::Float, |value| value.data_type);
        let known: Option<Vec<Tensor>> = inputs.iter().map(|value| value.tensor().cloned()).collect();
        if let Some(known) = known {
            let known: Vec<Tensor> =
                known.iter().map(|tensor| tensor.to_device(&Device::Reference)).collect::<Result<_>>()?;
            let shapes: Vec<Shape> = known.iter().map(|tensor| *tensor.shape()).collect();
            op.infer(&shapes)?.iter().try_for_each(check_size)?;
            let outputs = run(&*op, &known.iter().collect::<Vec<_>>())?;
            return Ok(outputs.into_iter().map(|tensor| Value::constant(tensor, data_type)).collect());
        }
        let mut origins = BTreeSet::new();
        let mut sources = Vec::with_capacity(inputs.len());
        for value in inputs {
            sources.push(match &value.content {
                Content::Constant(tensor) => Source::Constant(tensor.to_device(&self.builder.device)?),
                Content::Computed { number, origins: own, .. } => {
                    origins.extend(own);
                    Source::Value(*number)
                }
            });
        }
        let graph = &mut self.builder.graph;
        let before = graph.value_count();
        graph.push_shared(op, sources, Scope::current())?;
        let value = |number: usize| Value {
            data_type,
            content: Content::Computed { number, shape: *graph.shape(number), origins: origins.clone() },
        };
        Ok((before..graph.value_count()).map(value).collect())
    }

    /// Returns a value in another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&mut self, value: &Value, shape: &[usize]) -> Result<Value> {
        if value.shape().extents() == shape {
            return Ok(value.clone());
        }
        if let Some(tensor) = value.tensor() {
            return Ok(Value::constant(tensor.reshape(shape)?, value.data_type));
        }
        self.push(ops::Reshape { shape: Shape::new(shape)? }, &[value])
    }

    /// Returns a value with its axes in another order.
    ///
    /// # Errors
    /// When `dims` does not have each axis once.
    pub fn permute(&mut self, value: &Value, dims: &[usize]) -> Result<Value> {
        if dims.len() == value.rank() && dims.iter().enumerate().all(|(i, dim)| i == *dim) {
            return Ok(value.clone());
        }
        self.push(ops::Permute::new(dims), &[value])
    }

    /// Returns a value, broadcast to a shape.
    ///
    /// # Errors
    /// When it does not broadcast.
    pub fn expand(&mut self, value: &Value, shape: &[usize]) -> Result<Value> {
        if value.shape().extents() == shape {
            return Ok(value.clone());
        }
        self.push(ops::Expand { shape: Shape::new(shape)? }, &[value])
    }

    /// Adds elements with the value `fill` before and after the elements of an axis.
    ///
    /// # Errors
    /// When the extent overflows.
    pub fn pad_axis(
        &mut self,
        value: &Value,
        axis: usize,
        before: usize,
        after: usize,
        fill: f64,
    ) -> Result<Value> {
        let mut parts = Vec::new();
        for (count, is_value) in [(before, false), (0, true), (after, false)] {
            if is_value {
                parts.push(value.clone());
            } else if count > 0 {
                let shape = value.shape().with_extent(axis, count)?;
                parts.push(self.full(&shape, fill, value.data_type)?);
            }
        }
        if parts.len() == 1 {
            return Ok(value.clone());
        }
        let type_of_value = value.data_type;
        let padded = self.push(ops::Concat { dim: axis as isize }, &parts.iter().collect::<Vec<_>>())?;
        Ok(padded.with_type(type_of_value))
    }

    /// Returns the range `start .. start + len` of an axis.
    ///
    /// # Errors
    /// When it exceeds the axis.
    pub fn narrow(&mut self, value: &Value, axis: usize, start: usize, len: usize) -> Result<Value> {
        if start == 0 && value.shape().get(axis) == Some(&len) {
            return Ok(value.clone());
        }
        self.push(ops::Narrow { dim: axis as isize, start, len }, &[value])
    }
}
