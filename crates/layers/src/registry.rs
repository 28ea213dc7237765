//! The registry of layers: all kinds that are linked in, by name.
//!
//! A crate that is not referenced is not linked, and registers nothing: write `use plugin as _;` once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use neocog_base::registry::{self, Registered};
use neocog_tensor::{Error, Result};
use serde_json::Value;

use crate::json;
use crate::spec::{Example, LayerSpec, Spec};

/// A registered kind of layer; created by [`register_layer!`](crate::register_layer).
#[derive(Clone, Copy)]
pub struct LayerEntry {
    /// Name of the kind.
    pub kind: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    parse: fn(Value) -> Result<LayerSpec>,
    examples: fn() -> Vec<Example>,
}

inventory::collect!(LayerEntry);

impl LayerEntry {
    /// Creates the entry for a spec; [`register_layer!`](crate::register_layer) calls it.
    pub const fn of<S: Spec>(crate_name: &'static str) -> Self {
        LayerEntry { kind: S::KIND, crate_name, parse: parse::<S>, examples: S::examples }
    }

    /// Reads a spec of this kind from its fields.
    ///
    /// # Errors
    /// `Format` when a field is missing, unknown or out of range.
    pub fn parse(&self, fields: Value) -> Result<LayerSpec> {
        (self.parse)(fields)
    }

    /// Returns small examples of the layer.
    pub fn examples(&self) -> Vec<Example> {
        (self.examples)()
    }

    /// Returns the fields of the spec with their values in the first example.
    pub fn fields(&self) -> Vec<(String, String)> {
        let example = self.examples().into_iter().next().and_then(|e| serde_json::to_value(&e.spec).ok());
        let Some(Value::Object(fields)) = example else { return Vec::new() };
        fields
            .into_iter()
            .filter(|(name, _)| name != "kind")
            .map(|(name, value)| (name, value.to_string()))
            .collect()
    }
}

impl fmt::Debug for LayerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.crate_name)
    }
}

fn parse<S: Spec>(fields: Value) -> Result<LayerSpec> {
    json::read::<S>(fields).map(LayerSpec::from)
}

/// Registers a kind of layer: `register_layer!(Conv2d);`.
#[macro_export]
macro_rules! register_layer {
    ($spec:ty) => {
        $crate::inventory::submit! { $crate::LayerEntry::of::<$spec>(env!("CARGO_PKG_NAME")) }
    };
}

impl Registered for LayerEntry {
    const NOUN: &'static str = "layer kind";
    fn name(&self) -> &'static str {
        self.kind
    }
    fn crate_name(&self) -> &'static str {
        self.crate_name
    }
}

/// The registered kinds, sorted by name.
#[derive(Debug)]
pub struct Registry(BTreeMap<&'static str, LayerEntry>);

impl Registry {
    /// Creates a registry of the given entries.
    ///
    /// # Errors
    /// When two entries have the same kind; the message names both crates.
    pub fn from_entries(entries: impl IntoIterator<Item = LayerEntry>) -> Result<Self> {
        Ok(Registry(registry::by_name(entries)?))
    }

    /// Returns the entry of a kind.
    ///
    /// # Errors
    /// `NotFound` when there is none; the message suggests similar names.
    pub fn get(&self, kind: &str) -> Result<&LayerEntry> {
        self.0.get(kind).ok_or_else(|| Error::not_found("layer", kind, self.0.keys().copied()))
    }

    /// Iterates over all entries, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &LayerEntry> {
        self.0.values()
    }
}

/// Returns the registry of all kinds of layers that are linked in.
///
/// # Errors
/// When two crates register the same kind.
pub fn registry() -> Result<&'static Registry> {
    static REGISTRY: OnceLock<Result<Registry, String>> = OnceLock::new();
    REGISTRY
        .get_or_init(|| {
            Registry::from_entries(inventory::iter::<LayerEntry>.into_iter().copied())
                .map_err(|e| e.to_string())
        })
        .as_ref()
        .map_err(|message| Error::invalid_argument(message.clone()))
}
