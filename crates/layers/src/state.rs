//! The state of a network by name: parameters, buffers and counters, in the order of PyTorch's `state_dict`.

use neocog_autograd::Param;

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
}

/// All entries of a network with their dotted names, in the order in which they are declared.
pub fn entries(network: &dyn Layer) -> Vec<(String, Entry<'_>)> {
    let mut collector = Collector { prefix: String::new(), entries: Vec::new() };
    network.visit(&mut collector);
    collector.entries
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
