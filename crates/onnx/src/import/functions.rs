//! Functions of a model's own: the nodes of a function take the place of each node that calls it.

use std::collections::HashMap;
use std::ops::Deref;

use neocog_base::{Context as _, Error, Result};
use prost::Message as _;

use super::names::{describe, domain_of, name_of};
use super::node::find;
use crate::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};

/// Most nodes of a model after its functions took the place of calls. A function that calls another twice, and that one another,
/// makes a file of a few bytes grow without end.
const MAX_NODES: usize = 100_000;
/// Most bytes of the nodes that take the place of calls.
const MAX_BYTES: usize = 256 << 20;

/// A node with the version of the standard operators that it is written for: that of the model, or of the function it comes from.
#[derive(Debug)]
pub(super) struct ModelNode {
    pub proto: NodeProto,
    pub opset: i64,
}

impl Deref for ModelNode {
    type Target = NodeProto;

    fn deref(&self) -> &NodeProto {
        &self.proto
    }
}

/// Returns the version of the standard operators among operator sets.
pub(super) fn standard_opset(sets: &[OperatorSetIdProto]) -> Option<i64> {
    sets.iter().find(|set| domain_of(&set.domain).is_empty()).map(|set| set.version)
}

/// Returns the nodes of a model, of opset `opset`, with the nodes of functions in place of those that call them. An operator with a
/// converter is not replaced.
///
/// # Errors
/// When a function calls itself, is given too many inputs or outputs, or the nodes become too many.
pub(super) fn inline(
    nodes: Vec<NodeProto>,
    opset: i64,
    functions: &[FunctionProto],
) -> Result<Vec<ModelNode>> {
    let mut inliner = Inliner::default();
    for function in functions {
        if inliner
            .functions
            .insert(key(&function.domain, &function.name, &function.overload), function)
            .is_some()
        {
            return Err(Error::format(format!("there are two functions {}", title(function))));
        }
    }
    for node in nodes {
        inliner.push(node, opset)?;
    }
    Ok(inliner.nodes)
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn key<'a>(domain: &'a str, name: &'a str, overload: &'a str) -> Key<'a> {
    (domain_of(domain), name, overload)
}

fn title(function: &FunctionProto) -> String {
    if function.domain.is_empty() {
        function.name.clone()
    } else {
        format!("{}.{}", function.domain, function.name)
    }
}

fn too_many() -> Error {
    Error::format(format!("the functions of the model make more than {MAX_NODES} nodes"))
}

#[derive(Default)]
struct Inliner<'a> {
    functions: HashMap<Key<'a>, &'a FunctionProto>,
    nodes: Vec<ModelNode>,
    /// The functions that are being put in place, from the outermost.
    open: Vec<&'a FunctionProto>,
    calls: usize,
    bytes: usize,
}

impl<'a> Inliner<'a> {
    fn push(&mut self, node: NodeProto, opset: i64) -> Result<()> {
        let function = self.functions.get(&key(&node.domain, &node.op_type, &node.overload)).copied();
        match function.filter(|_| find(&node.domain, &node.op_type).is_none()) {
            Some(function) => self.call(function, &node, opset).context(|| describe(&node)),
            None if self.nodes.len() >= MAX_NODES && !self.open.is_empty() => Err(too_many()),
            None => {
                self.nodes.push(ModelNode { proto: node, opset });
                Ok(())
            }
        }
    }

    fn call(&mut self, function: &'a FunctionProto, node: &NodeProto, opset: i64) -> Result<()> {
        if self.open.iter().any(|open| std::ptr::eq(*open, function)) {
            return Err(Error::format(format!("the function {} calls itself", title(function))));
        }
        for (kind, given, declared) in
            [("inputs", &node.input, &function.input), ("outputs", &node.output, &function.output)]
        {
            if given.len() > declared.len() {
                let (given, declared) = (given.len(), declared.len());
                return Err(Error::format(format!(
                    "the function {} has {declared} {kind}, the node {given}",
                    title(function)
                )));
            }
        }
        self.bytes += function.encoded_len();
        if self.bytes > MAX_BYTES {
            return Err(Error::format(format!(
                "the functions of the model make more than {MAX_BYTES} bytes"
            )));
        }
        if self.calls == MAX_NODES {
            return Err(too_many());
        }
        self.calls += 1;
        let call = Call::new(function, node, self.calls);
        let opset = standard_opset(&function.opset_import).unwrap_or(opset);
        self.open.push(function);
        for inner in function.node.iter().map(|inner| call.node(inner)).chain(call.copies()) {
            self.push(inner, opset)?;
        }
        self.open.pop();
        Ok(())
    }
}

/// A call of a function: what its names and attributes are outside.
struct Call<'a> {
    function: &'a FunctionProto,
    caller: &'a NodeProto,
    number: usize,
    names: HashMap<&'a str, String>,
}

impl<'a> Call<'a> {
    fn new(function: &'a FunctionProto, caller: &'a NodeProto, number: usize) -> Self {
        let given = |names: &'a [String], i: usize| names.get(i).filter(|name| !name.is_empty()).cloned();
        let mut names = HashMap::new();
        // An output that the caller leaves out has a name of its own, as inner values have.
        for (i, output) in function.output.iter().enumerate() {
            names.extend(given(&caller.output, i).map(|name| (output.as_str(), name)));
        }
        for (i, input) in function.input.iter().enumerate() {
            names.insert(input, given(&caller.input, i).unwrap_or_default());
        }
        Call { function, caller, number, names }
    }

    /// Returns the name outside of a value of the function.
    fn value(&self, name: &String) -> String {
        match self.names.get(name.as_str()) {
            Some(outside) => outside.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{}/{name} of call {}", name_of(self.caller), self.number),
        }
    }

    fn node(&self, inner: &NodeProto) -> NodeProto {
        NodeProto {
            input: inner.input.iter().map(|name| self.value(name)).collect(),
            output: inner.output.iter().map(|name| self.value(name)).collect(),
            name: format!("{}/{}", name_of(self.caller), name_of(inner)),
            attribute: inner.attribute.iter().filter_map(|attribute| self.attribute(attribute)).collect(),
            ..inner.clone()
        }
    }

    /// Returns an attribute with the value that the caller gives it, or else the default; `None` without both.
    fn attribute(&self, inner: &AttributeProto) -> Option<AttributeProto> {
        if inner.ref_attr_name.is_empty() {
            return Some(inner.clone());
        }
        let mut all = self.caller.attribute.iter().chain(&self.function.attribute_proto);
        let value = all.find(|attribute| attribute.name == inner.ref_attr_name)?;
        Some(AttributeProto { name: inner.name.clone(), ..value.clone() })
    }

    /// Returns nodes for the outputs of the function that are its inputs.
    fn copies(&self) -> impl Iterator<Item = NodeProto> {
        let outputs = self.function.output.iter().zip(&self.caller.output);
        let passed =
            outputs.filter(|(output, outside)| !outside.is_empty() && self.function.input.contains(output));
        passed.map(|(output, outside)| NodeProto {
            op_type: "Identity".to_string(),
            name: format!("{}/{output}", name_of(self.caller)),
            input: vec![self.value(output)],
            output: vec![outside.clone()],
            ..NodeProto::default()
        })
    }
}
