//! The spec: a layer as a value.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;

use neocog_tensor::{Context as _, Error, Result, Shape};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::builder::Builder;
use crate::layer::Layer;
use crate::registry::registry;

/// What a layer is, before it is built. A plain struct with serde's derives (with `deny_unknown_fields`, so that a
/// field that is misspelt is an error) and PyTorch's names for its fields.
pub trait Spec:
    Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The name under which it is registered and stored. It is forever: files hold it.
    const KIND: &'static str;

    /// Builds the layer for inputs like `input` (`[n, c, h, w]` or `[n, features]`; `n` may be any).
    ///
    /// # Errors
    /// When the parameters are not allowed, or do not fit the input.
    fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>>;

    /// Small examples, from which the layer's gradients are proved.
    fn examples() -> Vec<Example>;
}

/// A spec with the shape of an input for it.
#[derive(Clone, Debug)]
pub struct Example {
    /// The spec.
    pub spec: LayerSpec,
    /// The input's extents.
    pub input: Shape,
}

impl Example {
    /// A spec with the shape of an input for it.
    pub fn new(spec: impl Into<LayerSpec>, input: impl Into<Shape>) -> Self {
        Example { spec: spec.into(), input: input.into() }
    }
}

/// A spec of any registered kind.
///
/// As JSON it is an object with the kind beside the fields: `{"kind": "Conv2d", "in_channels": 1, …}`. In binary
/// formats it is that JSON as one string.
pub struct LayerSpec(Box<dyn AnySpec>);

/// [`Spec`] without its type; implemented for all.
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
    /// The registered name of its kind.
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The spec as its own type, if it is that.
    pub fn downcast<S: Spec>(&self) -> Option<&S> {
        self.0.as_any().downcast_ref()
    }

    pub(crate) fn build(&self, builder: &mut Builder, input: &Shape) -> Result<Box<dyn Layer>> {
        self.0.build(builder, input)
    }

    /// The spec as JSON text, for people to read and edit.
    ///
    /// # Errors
    /// When a field cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| {
            Error::format(format!("cannot write the spec of a {} as JSON", self.kind())).with_source(e)
        })
    }

    /// The spec that a JSON text describes.
    ///
    /// # Errors
    /// When the text is not JSON, is nested without end, names an unknown kind, or a field is missing, misspelt or
    /// not allowed. The error tells the way to the layer: `block / conv1 (Conv2d): missing field ...`.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|e| Error::format("this is not the spec of a network").with_source(e))?;
        Self::from_value(value)
    }

    /// The spec that a JSON value describes.
    ///
    /// # Errors
    /// As [`LayerSpec::from_json`].
    pub fn from_value(value: Value) -> Result<Self> {
        let kind = kind_in(&value).map(str::to_string);
        Self::parse(value).map_err(|e| match kind {
            // The network itself has no name: only what is wrong with itself is said with its kind.
            Some(kind) if e.path().next().is_none() => e.context(kind),
            _ => e,
        })
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        let fields = self.0.to_json()?;
        let Value::Object(fields) = fields else {
            let message = format!("the spec of a {} must be a struct", self.kind());
            return Err(<serde_json::Error as serde::ser::Error>::custom(message));
        };
        // The kind comes first, for the reader.
        let mut object = serde_json::Map::new();
        object.insert("kind".into(), self.kind().into());
        object.extend(fields);
        Ok(Value::Object(object))
    }

    /// The spec that a JSON value describes; the error's path starts within it.
    pub(crate) fn parse(value: Value) -> Result<Self> {
        let Value::Object(mut fields) = value else {
            return Err(Error::format(format!(
                "a layer is an object like {{\"kind\": \"ReLU\"}}, found {}",
                shortened(&value.to_string())
            )));
        };
        match fields.remove("kind") {
            Some(Value::String(kind)) => registry()?.get(&kind)?.parse(Value::Object(fields)),
            Some(other) => {
                let found = shortened(&other.to_string());
                Err(Error::format(format!("a layer's \"kind\" is a name in quotes, found {found}")))
            }
            None => Err(Error::format("a layer has no field \"kind\" that says what it is")),
        }
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

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Unread(value) = Unread::deserialize(deserializer)?;
        let kind = kind_in(&value).unwrap_or("a layer").to_string();
        Self::parse(value).context(|| kind).map_err(passed_on)
    }
}

/// A spec as it is stored, before its kind is looked up.
pub(crate) struct Unread(pub(crate) Value);

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Value::deserialize(deserializer).map(Unread)
        } else {
            serde_json::from_str(&String::deserialize(deserializer)?).map(Unread).map_err(D::Error::custom)
        }
    }
}

/// The kind that a stored spec names.
pub(crate) fn kind_in(value: &Value) -> Option<&str> {
    value.get("kind").and_then(Value::as_str)
}

thread_local! {
    /// The error of the layer within another that could not be read last. Serde passes errors on as text, which
    /// would lose the way to that layer; [`read`] finds it here again.
    static NESTED: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// The error of a layer within another, as serde passes it on.
pub(crate) fn passed_on<E: serde::de::Error>(error: Error) -> E {
    let text = E::custom(&error);
    NESTED.set(Some(error));
    text
}

/// Reads a value that may hold layers, at any depth.
///
/// # Errors
/// An error within one of the layers tells the way to it; any other tells the field.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let (field, text) = (e.path().to_string(), e.inner().to_string());
        let is_root = e.path().iter().next().is_none();
        match NESTED.take().filter(|nested| nested.to_string() == text) {
            Some(nested) => nested,
            None if is_root => Error::format(text),
            None => Error::format(format!("{field}: {text}")),
        }
    })
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_string(),
    }
}
