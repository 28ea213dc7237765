//! The state of a network: parameters, buffers and counters by name, in the order of PyTorch's `state_dict`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use neocog_autograd::Param;
use neocog_tensor::{Error, Result};

use crate::layer::{Buffer, Counter, Layer, Visitor};

/// An entry of the state of a network.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A parameter.
    Param(&'a Param),
    /// A tensor that is not a parameter.
    Buffer(&'a Buffer),
    /// An integer that is incremented.
    Counter(&'a Counter),
}

impl<'a> Entry<'a> {
    /// Returns the tensor; `None` for a counter.
    pub fn tensor(&self) -> Option<&'a Param> {
        match self {
            Entry::Param(param) => Some(param),
            Entry::Buffer(buffer) => Some(buffer.value()),
            Entry::Counter(_) => None,
        }
    }

    /// Returns the description that [`differences`] compares: the shape, or [`COUNT`].
    pub fn describe(&self) -> String {
        self.tensor().map_or(COUNT.to_string(), |tensor| describe_tensor(&tensor.shape()))
    }
}

/// The description of a counter in [`differences`].
pub const COUNT: &str = "a count";

/// Returns the description of a tensor in [`differences`]: its shape.
pub fn describe_tensor(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// Returns all entries of a network with their dotted names, in the order in which they are declared.
pub fn entries(network: &dyn Layer) -> Vec<(String, Entry<'_>)> {
    let mut collector = Collector { prefix: String::new(), entries: Vec::new() };
    network.visit(&mut collector);
    collector.entries
}

/// Returns the entries of PyTorch's `state_dict`: all but the buffers that are not persistent.
pub fn state_dict(network: &dyn Layer) -> Vec<(String, Entry<'_>)> {
    let mut all = entries(network);
    all.retain(|(_, entry)| !matches!(entry, Entry::Buffer(buffer) if !buffer.is_persistent()));
    all
}

/// A difference between stored tensors and those of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted name.
    pub name: String,
    /// What differs.
    pub kind: DifferenceKind,
    /// The difference, which continues the name to a sentence: "[6, 1, 5, 5] is missing".
    pub what: String,
}

impl Difference {
    /// Whether the tensor has another shape in the network.
    pub fn is_other_shape(&self) -> bool {
        self.kind == DifferenceKind::Shape && self.what.contains(", the network has [")
    }
}

/// What differs between a stored tensor and that of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The network has the tensor, the stored state does not.
    Missing,
    /// The stored state has the tensor, the network does not.
    Unexpected,
    /// The shapes differ, or one is a tensor and the other a count.
    Shape,
    /// The stored value cannot be used: its type is not supported, it is not finite, or it is a negative count.
    Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.what)
    }
}

/// Checks that all names are unique.
///
/// # Errors
/// `InvalidArgument` with the duplicate name.
pub fn check_names(entries: &[(String, Entry<'_>)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match entries.iter().find(|(name, _)| !seen.insert(name)) {
        Some((name, _)) => {
            Err(Error::invalid_argument(format!("the network has two tensors with the name {name}")))
        }
        None => Ok(()),
    }
}

/// Returns the differences between stored tensors, given by name and description, and the entries of a network: in the order
/// of the network, followed by unexpected tensors.
///
/// # Errors
/// As [`check_names`].
pub fn differences(stored: &[(&str, String)], network: &[(String, Entry<'_>)]) -> Result<Vec<Difference>> {
    check_names(network)?;
    let mut unmatched: BTreeMap<&str, &String> = stored.iter().map(|(name, what)| (*name, what)).collect();
    let mut all = Vec::new();
    for (name, entry) in network {
        let expected = entry.describe();
        let (kind, what) = match unmatched.remove(name.as_str()) {
            Some(found) if *found == expected => continue,
            Some(found) => (DifferenceKind::Shape, format!("is {found}, the network has {expected}")),
            None => (DifferenceKind::Missing, format!("{expected} is missing")),
        };
        all.push(Difference { name: name.clone(), kind, what });
    }
    let unexpected = unmatched.into_iter().map(|(name, found)| Difference {
        name: name.to_string(),
        kind: DifferenceKind::Unexpected,
        what: format!("{found} is not in the network"),
    });
    all.extend(unexpected);
    Ok(all)
}

/// Returns all parameters of a network with their dotted names. A parameter that several layers share is one parameter, under the
/// first of its names, as in PyTorch's `named_parameters`; [`state_dict`] has all names.
pub fn params(network: &dyn Layer) -> Vec<(String, &Param)> {
    let mut seen = HashSet::new();
    entries(network)
        .into_iter()
        .filter_map(|(name, entry)| match entry {
            Entry::Param(param) if seen.insert(param.id()) => Some((name, param)),
            _ => None,
        })
        .collect()
}

/// Returns the dotted name of the head of a network: the last layer with parameters, which computes the classes. `None` for a network
/// without parameters, or one that is a single layer.
pub fn head(network: &dyn Layer) -> Option<String> {
    let params = params(network);
    let (name, _) = params.last()?;
    Some(name.rsplit_once('.')?.0.to_string())
}

/// Returns the number of elements of all parameters of a network.
pub fn param_count(network: &dyn Layer) -> usize {
    params(network).iter().fold(0, |sum: usize, (_, p)| sum.saturating_add(p.shape().elements()))
}

/// Whether a layer has children.
pub fn has_children(layer: &dyn Layer) -> bool {
    !children(layer).is_empty()
}

/// Whether the result of a network for an image depends on the others of the batch, in evaluation too: one of its layers
/// [says so](Layer::uses_batch_statistics).
pub fn uses_batch_statistics(network: &dyn Layer) -> bool {
    network.uses_batch_statistics() || children(network).into_iter().any(uses_batch_statistics)
}

/// Returns the children of a layer.
fn children(layer: &dyn Layer) -> Vec<&dyn Layer> {
    struct Children<'a>(Vec<&'a dyn Layer>);
    impl<'a> Visitor<'a> for Children<'a> {
        fn param(&mut self, _name: &str, _param: &'a Param) {}
        fn buffer(&mut self, _name: &str, _buffer: &'a Buffer) {}
        fn counter(&mut self, _name: &str, _counter: &'a Counter) {}
        fn child(&mut self, _name: Option<&str>, layer: &'a dyn Layer) {
            self.0.push(layer);
        }
    }
    let mut children = Children(Vec::new());
    layer.visit(&mut children);
    children.0
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
