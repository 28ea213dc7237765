//! Specs: the configuration of a layer as a value.

use std::any::Any;
use std::fmt;

use neocog_tensor::{Error, Result, Shape};
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::builder::Builder;
use crate::layer::Layer;

pub use crate::json::read;

/// The configuration of a layer. A plain struct with serde's derives and PyTorch's names for its fields; with
/// `deny_unknown_fields`, so that a misspelled field is an error.
pub trait Spec:
    Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The name under which it is registered and stored. Files hold it, so it must never change.
    const KIND: &'static str;

    /// Builds the layer for inputs of shape `input`, `[n, c, h, w]` or `[n, features]`; `n` is arbitrary.
    ///
    /// # Errors
    /// When a field is out of range or does not fit the input.
    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>>;

    /// Returns small examples, on which the gradients of the layer are checked.
    fn examples() -> Vec<Example>;
}

/// A spec with the shape of an input for it.
#[derive(Clone, Debug)]
pub struct Example {
    /// The spec.
    pub spec: LayerSpec,
    /// Shape of the input.
    pub input: Shape,
}

impl Example {
    /// Creates an example.
    pub fn new(spec: impl Into<LayerSpec>, input: impl Into<Shape>) -> Self {
        Example { spec: spec.into(), input: input.into() }
    }
}

/// A spec of any registered kind.
///
/// As JSON it is an object with the kind and the fields: `{"kind": "Conv2d", "in_channels": 1, …}`. In binary formats it
/// is that JSON as one string.
pub struct LayerSpec(Box<dyn AnySpec>);

/// Object-safe [`Spec`]; implemented for all.
trait AnySpec: fmt::Debug + Send + Sync {
    fn kind(&self) -> &'static str;
    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>>;
    fn to_json(&self) -> Result<Value, serde_json::Error>;
    fn clone_box(&self) -> Box<dyn AnySpec>;
    fn equals(&self, other: &dyn AnySpec) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<S: Spec> AnySpec for S {
    fn kind(&self) -> &'static str {
        S::KIND
    }
    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        Spec::build(self, builder, input)
    }
    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
    fn clone_box(&self) -> Box<dyn AnySpec> {
        Box::new(self.clone())
    }
    fn equals(&self, other: &dyn AnySpec) -> bool {
        other.as_any().downcast_ref::<S>() == Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<S: Spec> From<S> for LayerSpec {
    fn from(spec: S) -> Self {
        LayerSpec(Box::new(spec))
    }
}

impl LayerSpec {
    /// Returns the name of its kind.
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// Returns the spec as the type `S`, if it is of that type.
    pub fn downcast<S: Spec>(&self) -> Option<&S> {
        self.0.as_any().downcast_ref()
    }

    pub(crate) fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        self.0.build(builder, input)
    }

    /// Writes the spec as indented JSON.
    ///
    /// # Errors
    /// `Format` when a field cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| {
            Error::format(format!("cannot write the spec of a {} as JSON", self.kind())).with_source(e)
        })
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let fields = self.0.to_json()?;
        let Value::Object(fields) = fields else {
            let message = format!("the spec of a {} must be a struct", self.kind());
            return Err(serde_json::Error::custom(message));
        };
        // The kind comes first, for readability.
        let mut object = serde_json::Map::new();
        object.insert("kind".into(), self.kind().into());
        object.extend(fields);
        Ok(Value::Object(object))
    }
}

impl Clone for LayerSpec {
    fn clone(&self) -> Self {
        LayerSpec(self.0.clone_box())
    }
}

impl PartialEq for LayerSpec {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl fmt::Debug for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for LayerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.to_value().map_err(S::Error::custom)?;
        if serializer.is_human_readable() {
            value.serialize(serializer)
        } else {
            value.to_string().serialize(serializer)
        }
    }
}
