//! The state of a network by name: parameters, buffers and counters, in the order of PyTorch's `state_dict`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use neocog_autograd::Param;
use neocog_tensor::{Error, Result};

use crate::layer::{Buffer, Counter, Layer, Visitor};

/// One entry of a network's state.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A parameter.
    Param(&'a Param),
    /// A tensor that is no parameter.
    Buffer(&'a Buffer),
    /// A number that counts.
    Counter(&'a Counter),
}

impl<'a> Entry<'a> {
    /// The entry's tensor, if it is one.
    pub fn tensor(&self) -> Option<&'a Param> {
        match self {
            Entry::Param(param) => Some(param),
            Entry::Buffer(buffer) => Some(buffer.value()),
            Entry::Counter(_) => None,
        }
    }

    /// What it is, for people, and for [`differences`]: its extents, or "a count".
    pub fn describe(&self) -> String {
        self.tensor().map_or(COUNT.to_string(), |tensor| describe_tensor(&tensor.shape()))
    }
}

/// What a counter is called in [`differences`].
pub const COUNT: &str = "a count";

/// What a tensor is called in [`differences`]: its extents.
pub fn describe_tensor(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// All entries of a network with their dotted names, in the order in which they are declared.
pub fn entries(network: &dyn Layer) -> Vec<(String, Entry<'_>)> {
    let mut collector = Collector { prefix: String::new(), entries: Vec::new() };
    network.visit(&mut collector);
    collector.entries
}

/// The entries that PyTorch's `state_dict` holds: all but the buffers that are not persistent.
pub fn state_dict(network: &dyn Layer) -> Vec<(String, Entry<'_>)> {
    let mut all = entries(network);
    all.retain(|(_, entry)| !matches!(entry, Entry::Buffer(buffer) if !buffer.is_persistent()));
    all
}

/// Something by which stored tensors and those of a network differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The dotted name.
    pub name: String,
    /// What is wrong with it, to be read after the name: "[6, 1, 5, 5] is missing".
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.what)
    }
}

/// Checks that each name is there once only: in a file, two would be one.
///
/// # Errors
/// Names the one that is there twice.
pub fn check_names(entries: &[(String, Entry<'_>)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match entries.iter().find(|(name, _)| !seen.insert(name)) {
        Some((name, _)) => {
            Err(Error::invalid_argument(format!("the network has two tensors of the name {name}")))
        }
        None => Ok(()),
    }
}

/// All by which stored tensors, given by name and description, differ from the entries of a network: in the
/// network's order, then what is stored too much.
///
/// # Errors
/// As [`check_names`].
pub fn differences(stored: &[(&str, String)], network: &[(String, Entry<'_>)]) -> Result<Vec<Difference>> {
    check_names(network)?;
    let mut left: BTreeMap<&str, &String> = stored.iter().map(|(name, what)| (*name, what)).collect();
    let mut all = Vec::new();
    for (name, entry) in network {
        let want = entry.describe();
        let what = match left.remove(name.as_str()) {
            Some(have) if *have == want => continue,
            Some(have) => format!("is {have}, the network has {want}"),
            None => format!("{want} is missing"),
        };
        all.push(Difference { name: name.clone(), what });
    }
    let unknown = left.into_iter().map(|(name, have)| Difference {
        name: name.to_string(),
        what: format!("{have} is not in the network"),
    });
    all.extend(unknown);
    Ok(all)
}

/// All parameters of a network with their dotted names.
pub fn params(network: &dyn Layer) -> Vec<(String, &Param)> {
    entries(network)
        .into_iter()
        .filter_map(|(name, entry)| match entry {
            Entry::Param(param) => Some((name, param)),
            _ => None,
        })
        .collect()
}

/// How many numbers a network learns.
pub fn param_count(network: &dyn Layer) -> usize {
    params(network).iter().map(|(_, p)| p.shape().elements()).sum()
}

/// Whether a layer holds others.
pub fn has_children(layer: &dyn Layer) -> bool {
    struct Any(bool);
    impl<'a> Visitor<'a> for Any {
        fn param(&mut self, _name: &str, _param: &'a Param) {}
        fn buffer(&mut self, _name: &str, _buffer: &'a Buffer) {}
        fn counter(&mut self, _name: &str, _counter: &'a Counter) {}
        fn child(&mut self, _name: Option<&str>, _layer: &'a dyn Layer) {
            self.0 = true;
        }
    }
    let mut any = Any(false);
    layer.visit(&mut any);
    any.0
}

struct Collector<'a> {
    prefix: String,
    entries: Vec<(String, Entry<'a>)>,
}

impl<'a> Collector<'a> {
    fn push(&mut self, name: &str, entry: Entry<'a>) {
        self.entries.push((format!("{}{name}", self.prefix), entry));
    }
}

impl<'a> Visitor<'a> for Collector<'a> {
    fn param(&mut self, name: &str, param: &'a Param) {
        self.push(name, Entry::Param(param));
    }
    fn buffer(&mut self, name: &str, buffer: &'a Buffer) {
        self.push(name, Entry::Buffer(buffer));
    }
    fn counter(&mut self, name: &str, counter: &'a Counter) {
        self.push(name, Entry::Counter(counter));
    }
    fn child(&mut self, name: Option<&str>, layer: &'a dyn Layer) {
        let outer = self.prefix.len();
        if let Some(name) = name {
            self.prefix.push_str(name);
            self.prefix.push('.');
        }
        layer.visit(self);
        self.prefix.truncate(outer);
    }
}
