//! Deserialization with error paths, for values that hold layers.

use std::cell::RefCell;

use neocog_tensor::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

thread_local! {
    /// The last error of a nested layer. Serde reduces errors to text, which would lose the path to that layer;
    /// [`read`] restores it from here.
    static NESTED: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Converts the error of a nested layer to one of serde; [`read`] restores the original.
pub(crate) fn nested_error<E: serde::de::Error>(error: Error) -> E {
    let text = E::custom(&error);
    NESTED.set(Some(error));
    text
}

/// Deserializes a value that may hold layers, at any depth.
///
/// # Errors
/// `Format`; the error of a nested layer has the path to it, any other names the field.
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

/// Returns the beginning of a text that may be long.
pub(crate) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_string(),
    }
}
