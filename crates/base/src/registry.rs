//! Registries: what crates register by name.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Something that a crate registers under a name of its own.
pub trait Registered {
    /// What it is in a message, such as `network`.
    const NOUN: &'static str;

    /// Returns the name.
    fn name(&self) -> &'static str;

    /// Returns the name of the crate that registers it.
    fn crate_name(&self) -> &'static str;
}

/// Returns the entries by name.
///
/// # Errors
/// `InvalidArgument` if two have the same name; the message names both crates.
pub fn by_name<T: Registered>(entries: impl IntoIterator<Item = T>) -> Result<BTreeMap<&'static str, T>> {
    let mut map = BTreeMap::<&'static str, T>::new();
    for entry in entries {
        let (name, crate_name) = (entry.name(), entry.crate_name());
        if let Some(other) = map.insert(name, entry) {
            let mut crates = [other.crate_name(), crate_name];
            crates.sort_unstable();
            return Err(Error::invalid_argument(format!(
                "the {} {name} is registered twice, by the crates {} and {}; one of them must be renamed",
                T::NOUN,
                crates[0],
                crates[1]
            )));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Entry(&'static str, &'static str);

    impl Registered for Entry {
        const NOUN: &'static str = "thing";
        fn name(&self) -> &'static str {
            self.0
        }
        fn crate_name(&self) -> &'static str {
            self.1
        }
    }

    #[test]
    fn equal_names_are_an_error() {
        let sorted = by_name([Entry("b", "one"), Entry("a", "two")]).unwrap();
        assert_eq!(sorted.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        let e = by_name([Entry("b", "two"), Entry("a", "x"), Entry("b", "one")]).unwrap_err();
        let expected =
            "the thing b is registered twice, by the crates one and two; one of them must be renamed";
        assert_eq!(e.to_string(), expected);
    }
}
