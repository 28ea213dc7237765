//! All kinds of layers that were linked in, by name.
//!
//! A crate that nothing names is not linked, and then registers nothing: write `use plugin as _;` once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use neocog_tensor::{Error, Result};
use serde_json::Value;

use crate::spec::{self, Example, LayerSpec, Spec};

/// A kind of layer; made by [`register_layer!`](crate::register_layer).
#[derive(Clone, Copy)]
pub struct LayerEntry {
    /// The name of the kind.
    pub kind: &'static str,
    /// The crate that registered it.
    pub crate_name: &'static str,
    parse: fn(Value) -> Result<LayerSpec>,
    examples: fn() -> Vec<Example>,
}

inventory::collect!(LayerEntry);

impl LayerEntry {
    /// The entry for a spec; [`register_layer!`](crate::register_layer) calls it.
    pub const fn of<S: Spec>(crate_name: &'static str) -> Self {
        LayerEntry { kind: S::KIND, crate_name, parse: parse::<S>, examples: S::examples }
    }

    /// The spec that these fields describe.
    ///
    /// # Errors
    /// When a field is missing, unknown or not allowed.
    pub fn parse(&self, fields: Value) -> Result<LayerSpec> {
        (self.parse)(fields)
    }

    /// Small examples of the layer.
    pub fn examples(&self) -> Vec<Example> {
        (self.examples)()
    }

    /// The fields of the spec with the values that they have in the first example.
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
    spec::read::<S>(fields).map(LayerSpec::from)
}

/// Registers a kind of layer: `register_layer!(Conv2d);`.
#[macro_export]
macro_rules! register_layer {
    ($spec:ty) => {
        $crate::inventory::submit! { $crate::LayerEntry::of::<$spec>(env!("CARGO_PKG_NAME")) }
    };
}

/// The registered kinds, sorted by name.
#[derive(Debug)]
pub struct Registry(BTreeMap<&'static str, LayerEntry>);

impl Registry {
    /// Sorts entries by name.
    ///
    /// # Errors
    /// When two have the same name; both crates are named.
    pub fn from_entries(entries: impl IntoIterator<Item = LayerEntry>) -> Result<Self> {
        let mut map = BTreeMap::<&'static str, LayerEntry>::new();
        for entry in entries {
            if let Some(other) = map.insert(entry.kind, entry) {
                let mut crates = [other.crate_name, entry.crate_name];
                crates.sort_unstable();
                return Err(Error::invalid_argument(format!(
                    "the layer kind {} is registered twice, by the crates {} and {}; one of them must be renamed",
                    entry.kind, crates[0], crates[1]
                )));
            }
        }
        Ok(Registry(map))
    }

    /// The entry of a kind.
    ///
    /// # Errors
    /// When there is none; near names are offered.
    pub fn get(&self, kind: &str) -> Result<&LayerEntry> {
        self.0.get(kind).ok_or_else(|| Error::not_found("layer", kind, self.0.keys().copied()))
    }

    /// All entries, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &LayerEntry> {
        self.0.values()
    }
}

/// All kinds of layers that were linked in.
///
/// # Errors
/// When two crates have registered the same name.
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
