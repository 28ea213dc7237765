//! Reading specs from JSON: the kind is looked up in the registry.

use neocog_tensor::{Context as _, Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::json::{nested_error, shortened};
use crate::registry::registry;
use crate::spec::LayerSpec;

impl LayerSpec {
    /// Reads a spec from JSON text.
    ///
    /// # Errors
    /// When the text is not JSON or nested too deeply, a kind is not registered, or a field is missing, misspelled or
    /// out of range. The error has the path to the layer: `block / conv1 (Conv2d): missing field ...`.
    pub fn from_json(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|e| Error::format("not the spec of a network").with_source(e))?;
        Self::from_value(value)
    }

    /// Reads a spec from a JSON value.
    ///
    /// # Errors
    /// As [`LayerSpec::from_json`].
    pub fn from_value(value: Value) -> Result<Self> {
        let kind = kind_in(&value).map(str::to_string);
        Self::parse(value).map_err(|e| match kind {
            // The outermost layer has no name: its kind stands in the path only for errors of its own.
            Some(kind) if e.path().next().is_none() => e.context(kind),
            _ => e,
        })
    }

    /// Reads a spec from a JSON value; the path of an error starts within it.
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
                Err(Error::format(format!("the field \"kind\" of a layer is a string, found {found}")))
            }
            None => Err(Error::format("a layer without the field \"kind\"")),
        }
    }
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawSpec(value) = RawSpec::deserialize(deserializer)?;
        let kind = kind_in(&value).unwrap_or("a layer").to_string();
        Self::parse(value).context(|| kind).map_err(nested_error)
    }
}

/// A spec as it is stored, before its kind is looked up.
pub(crate) struct RawSpec(pub(crate) Value);

impl<'de> Deserialize<'de> for RawSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Value::deserialize(deserializer).map(RawSpec)
        } else {
            serde_json::from_str(&String::deserialize(deserializer)?).map(RawSpec).map_err(D::Error::custom)
        }
    }
}

/// Returns the kind that a stored spec names.
pub(crate) fn kind_in(value: &Value) -> Option<&str> {
    value.get("kind").and_then(Value::as_str)
}
