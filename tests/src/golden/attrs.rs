//! Attributes of a golden case. An attribute that is not used is an error.

use std::cell::RefCell;
use std::collections::BTreeSet;

use neocog_tensor::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The attributes of a case, and which of them were used.
#[derive(Debug)]
pub struct Attrs<'a> {
    all: &'a Map<String, Value>,
    used: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Attrs<'a> {
    /// Wraps the attributes of a case.
    pub fn new(all: &'a Map<String, Value>) -> Self {
        Attrs { all, used: RefCell::default() }
    }

    fn value(&self, name: &'static str) -> Option<&'a Value> {
        self.used.borrow_mut().insert(name);
        self.all.get(name)
    }

    /// Returns a required attribute.
    ///
    /// # Errors
    /// When it is missing or has another type.
    pub fn get<T: DeserializeOwned>(&self, name: &'static str) -> Result<T> {
        let value =
            self.value(name).ok_or_else(|| Error::format(format!("the attribute {name} is missing")))?;
        parse(name, value)
    }

    /// Returns an optional attribute.
    ///
    /// # Errors
    /// When it has another type.
    pub fn get_or<T: DeserializeOwned>(&self, name: &'static str, default: T) -> Result<T> {
        self.value(name).map_or(Ok(default), |value| parse(name, value))
    }

    /// Returns a pair `[h, w]`, which can also be one number for both.
    ///
    /// # Errors
    /// When it has another type.
    pub fn pair_or(&self, name: &'static str, default: [usize; 2]) -> Result<[usize; 2]> {
        match self.value(name) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Number(n)) => parse(name, &Value::Number(n.clone())).map(|n| [n, n]),
            Some(other) => parse(name, other),
        }
    }

    /// Checks that all attributes were used.
    ///
    /// # Errors
    /// Names those that were not.
    pub fn finish(&self) -> Result<()> {
        let used = self.used.borrow();
        let unknown: Vec<&str> = self.all.keys().map(String::as_str).filter(|k| !used.contains(k)).collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(Error::format(format!("unknown attributes: {}", unknown.join(", "))))
        }
    }
}

fn parse<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T> {
    T::deserialize(value)
        .map_err(|e| Error::format(format!("the attribute {name} cannot be {value}")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_must_be_used() {
        let Value::Object(map) = serde_json::json!({"stride": 2, "padding": [0, 1], "extra": 1}) else {
            unreachable!()
        };
        let attrs = Attrs::new(&map);
        assert_eq!(attrs.pair_or("stride", [1, 1]).unwrap(), [2, 2]);
        assert_eq!(attrs.pair_or("padding", [0, 0]).unwrap(), [0, 1]);
        assert_eq!(attrs.get_or("groups", 1usize).unwrap(), 1);
        assert!(attrs.get::<usize>("absent").is_err());
        assert!(attrs.finish().unwrap_err().to_string().contains("extra"));
    }
}
