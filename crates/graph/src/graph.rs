//! Graphs: operations on values.

use std::sync::Arc;

use neocog_base::{Context as _, Error, Result};
use neocog_tensor::memory::ShortLived;
use neocog_tensor::profile::Scope;
use neocog_tensor::{Op, Shape, Shapes, Tensor, run};
use smallvec::{SmallVec, smallvec};

/// The source of an operation's input.
#[derive(Clone, Debug)]
pub enum Source {
    /// A value of the graph, by its number.
    Value(usize),
    /// A tensor that is the same in each run.
    Constant(Tensor),
}

impl Source {
    /// Returns the number of the value; `None` for a constant.
    pub fn value(&self) -> Option<usize> {
        match self {
            Source::Value(value) => Some(*value),
            Source::Constant(_) => None,
        }
    }

    /// Returns the tensor of a constant.
    pub fn constant(&self) -> Option<&Tensor> {
        match self {
            Source::Value(_) => None,
            Source::Constant(tensor) => Some(tensor),
        }
    }
}

/// An operation of a graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: SmallVec<[Source; 4]>,
    /// The values that are its outputs.
    pub outputs: SmallVec<[usize; 2]>,
    /// The layer that it belongs to.
    pub scope: Scope,
}

impl Node {
    /// Returns the values among its inputs.
    pub fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(Source::value)
    }

    /// Returns its constant inputs, `None` for each that is not constant.
    pub fn constants(&self) -> SmallVec<[Option<&Tensor>; 4]> {
        self.inputs.iter().map(Source::constant).collect()
    }

    /// Returns the value that its output is in another shape, if it does nothing else.
    pub fn reshaped(&self) -> Option<usize> {
        match self.inputs[..] {
            [Source::Value(value)] if self.op.reshapes() => Some(value),
            _ => None,
        }
    }
}

/// A value that is stored within another one: an input of a concatenation along axis 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The value that contains it.
    pub of: usize,
    /// Position of its first element in a row of that value.
    pub offset: usize,
}

/// Operations on values in the order in which they run. The first values are the inputs.
#[derive(Clone, Debug)]
pub struct Graph {
    shapes: Vec<Shape>,
    inputs: usize,
    nodes: Vec<Node>,
    outputs: Vec<usize>,
    /// Values that are stored within others, by number.
    parts: Vec<Option<Part>>,
}

impl Graph {
    /// Creates a graph without operations, with inputs of these shapes: values 0, 1, ..
    pub fn new(inputs: impl IntoIterator<Item = Shape>) -> Self {
        let shapes: Vec<Shape> = inputs.into_iter().collect();
        Graph {
            inputs: shapes.len(),
            parts: vec![None; shapes.len()],
            nodes: Vec::new(),
            outputs: Vec::new(),
            shapes,
        }
    }

    /// Appends an operation; returns the number of its first output, which the others follow.
    ///
    /// # Errors
    /// As [`Graph::push_shared`].
    pub fn push(
        &mut self,
        op: impl Op,
        inputs: impl IntoIterator<Item = Source>,
        scope: Scope,
    ) -> Result<usize> {
        self.push_shared(Arc::new(op), inputs, scope)
    }

    /// As [`Graph::push`], for a shared operation.
    ///
    /// # Errors
    /// When the operation does not accept the inputs, an input does not exist, or the operation updates state.
    pub fn push_shared(
        &mut self,
        op: Arc<dyn Op>,
        inputs: impl IntoIterator<Item = Source>,
        scope: Scope,
    ) -> Result<usize> {
        let inputs: SmallVec<[Source; 4]> = inputs.into_iter().collect();
        let shapes = self.infer(&op, &inputs)?;
        let first = self.shapes.len();
        let outputs = shapes.into_iter().map(|shape| self.add_value(shape)).collect();
        self.nodes.push(Node { op, inputs, outputs, scope });
        Ok(first)
    }

    fn infer(&self, op: &Arc<dyn Op>, inputs: &[Source]) -> Result<Shapes> {
        if op.state_outputs() > 0 {
            return Err(Error::invalid_argument(format!(
                "{} updates state, which an operation of a graph cannot",
                op.name()
            )));
        }
        let shapes: Shapes = inputs.iter().map(|source| self.source_shape(source)).collect::<Result<_>>()?;
        op.infer(&shapes).context(|| op.name())
    }

    fn source_shape(&self, source: &Source) -> Result<Shape> {
        match source {
            Source::Constant(tensor) => Ok(*tensor.shape()),
            Source::Value(value) => self.shapes.get(*value).copied().ok_or_else(|| self.no_value(*value)),
        }
    }

    fn no_value(&self, value: usize) -> Error {
        Error::invalid_argument(format!("there is no value {value}; the graph has {}", self.shapes.len()))
    }

    /// Adds a value that a node of [`Graph::set_nodes`] will compute; returns its number.
    pub fn add_value(&mut self, shape: Shape) -> usize {
        self.shapes.push(shape);
        self.parts.push(None);
        self.shapes.len() - 1
    }

    /// Sets the outputs.
    ///
    /// # Errors
    /// When a value does not exist.
    pub fn set_outputs(&mut self, outputs: impl IntoIterator<Item = usize>) -> Result<()> {
        let outputs: Vec<usize> = outputs.into_iter().collect();
        match outputs.iter().find(|value| **value >= self.shapes.len()) {
            Some(value) => Err(self.no_value(*value)),
            None => {
                self.outputs = outputs;
                Ok(())
            }
        }
    }

    /// Returns the number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs
    }

    /// Returns the outputs.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// Returns the operations.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the names of the operations.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.nodes.iter().map(|node| node.op.name())
    }

    /// Returns the number of values.
    pub fn value_count(&self) -> usize {
        self.shapes.len()
    }

    /// Returns the shape of a value.
    ///
    /// # Panics
    /// When there is no such value.
    pub fn shape(&self, value: usize) -> &Shape {
        &self.shapes[value]
    }

    /// Returns the shapes of the inputs of a node of this graph.
    pub fn input_shapes(&self, node: &Node) -> Shapes {
        node.inputs
            .iter()
            .map(|source| match source {
                Source::Value(value) => self.shapes[*value],
                Source::Constant(tensor) => *tensor.shape(),
            })
            .collect()
    }

    /// Returns how often each value is used; being an output counts as a use.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.shapes.len()];
        let inputs = self.nodes.iter().flat_map(Node::values);
        inputs.chain(self.outputs.iter().copied()).for_each(|value| uses[value] += 1);
        uses
    }

    /// Returns the position of the last operation that uses each value, `None` for values that no operation uses.
    pub fn last_uses(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.shapes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            node.values().for_each(|value| last[value] = Some(i));
        }
        last
    }

    /// Moves the operations out of the graph, for [`Graph::set_nodes`].
    pub fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes)
    }

    /// Replaces the operations.
    ///
    /// # Errors
    /// When an operation uses a value before it is computed, a value is computed twice, an operation does not accept its
    /// inputs or has outputs of other shapes, or an output of the graph is not computed.
    pub fn set_nodes(&mut self, nodes: Vec<Node>) -> Result<()> {
        let mut computed = vec![false; self.shapes.len()];
        computed[..self.inputs].fill(true);
        let wrong = |node: &Node, what: String| {
            Err(Error::invalid_argument(what)).context(|| node.op.name().to_string())
        };
        for node in &nodes {
            if let Some(value) = node.values().find(|value| computed.get(*value) != Some(&true)) {
                return wrong(node, format!("value {value} is used before it is computed"));
            }
            let shapes = self.infer(&node.op, &node.inputs)?;
            let outputs: Shapes = node.outputs.iter().filter_map(|v| self.shapes.get(*v).copied()).collect();
            if shapes != outputs || outputs.len() != node.outputs.len() {
                return wrong(node, format!("its outputs are {shapes:?}, those of the graph {outputs:?}"));
            }
            for value in &node.outputs {
                if std::mem::replace(&mut computed[*value], true) {
                    return wrong(node, format!("value {value} is computed twice"));
                }
            }
        }
        if let Some(value) = self.outputs.iter().find(|value| !computed[**value]) {
            return Err(Error::invalid_argument(format!("the output {value} is not computed")));
        }
        self.nodes = nodes;
        Ok(())
    }

    /// Replaces pairs of operations by one, from the first operation to the last. `merge` gets a node, the node that computes
    /// its first input, whose first output is used nowhere else, and the graph as it was before. It returns the operation that replaces both,
    /// with the outputs of the earlier one, the first of which is that of the later one.
    ///
    /// # Errors
    /// Those of `merge`, and those of [`Graph::set_nodes`].
    pub fn merge_pairs(
        &mut self,
        merge: impl Fn(&Graph, &Node, &Node) -> Result<Option<(Arc<dyn Op>, SmallVec<[Source; 4]>)>>,
    ) -> Result<()> {
        let uses = self.uses();
        let mut producers: Vec<Option<usize>> = vec![None; self.shapes.len()];
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.clone() {
            let producer = node.inputs.first().and_then(Source::value).filter(|value| uses[*value] == 1);
            let producer = producer.and_then(|value| producers[value]);
            if let Some(at) = producer
                && node.outputs.len() == 1
                && let Some((op, inputs)) = merge(self, &nodes[at], &node)?
            {
                // In the place of the earlier one, where all inputs are computed.
                nodes[at].op = op;
                nodes[at].inputs = inputs;
                nodes[at].outputs[0] = node.outputs[0];
                producers[node.outputs[0]] = Some(at);
                continue;
            }
            if let Some(first) = node.outputs.first() {
                producers[*first] = Some(nodes.len());
            }
            nodes.push(node);
        }
        self.set_nodes(nodes)
    }

    /// Whether a value is stored within another one.
    pub fn is_part(&self, value: usize) -> bool {
        self.parts[value].is_some()
    }

    /// Returns where a value is stored, if that is within another one.
    pub(crate) fn part(&self, value: usize) -> Option<Part> {
        self.parts[value]
    }

    /// Stores a value within another one.
    pub(crate) fn set_part(&mut self, value: usize, part: Part) {
        self.parts[value] = Some(part);
    }

    /// Stores a value in a place of its own.
    pub(crate) fn clear_part(&mut self, value: usize) {
        self.parts[value] = None;
    }

    /// Replaces the operations by some whose outputs are parts of other values; [`Graph::set_nodes`] would not accept them.
    pub(crate) fn set_nodes_with_parts(&mut self, nodes: Vec<Node>) {
        self.nodes = nodes;
    }

    /// Runs all operations one after the other and returns the outputs. A value is dropped after its last use.
    ///
    /// # Errors
    /// When the number, shape or device of an input is wrong, values are stored within others, or the device fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        if inputs.iter().map(Tensor::shape).ne(&self.shapes[..self.inputs]) {
            let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
            return Err(Error::shape(format!(
                "the graph is for inputs {:?}, found {shapes:?}",
                &self.shapes[..self.inputs]
            )));
        }
        if self.parts.iter().any(Option::is_some) {
            return Err(Error::invalid_argument("values within others need the memory of a plan"));
        }
        let mut values: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
        values.resize(self.shapes.len(), None);
        let last_uses = self.last_uses();
        for (i, node) in self.nodes.iter().enumerate() {
            let _scope = node.scope.enter();
            let outputs = {
                let inputs: SmallVec<[&Tensor; 6]> = node
                    .inputs
                    .iter()
                    .map(|source| match source {
                        Source::Constant(tensor) => tensor,
                        Source::Value(value) => {
                            values[*value].as_ref().expect("values are computed before they are used")
                        }
                    })
                    .collect();
                let _memory = ShortLived::begin();
                run(&*node.op, &inputs)?
            };
            for (value, tensor) in node.outputs.iter().zip(outputs) {
                values[*value] = Some(tensor);
            }
            for value in node.values() {
                if last_uses[value] == Some(i) && !self.outputs.contains(&value) {
                    values[value] = None;
                }
            }
        }
        let missing = || Error::invalid_argument("the graph has an output that no operation computes");
        self.outputs.iter().map(|value| values[*value].clone().ok_or_else(missing)).collect()
    }
}

/// Returns the inputs of an operation, of which the first is a value.
pub(crate) fn with_constants(first: Source, constants: Vec<Tensor>) -> SmallVec<[Source; 4]> {
    let mut inputs: SmallVec<[Source; 4]> = smallvec![first];
    inputs.extend(constants.into_iter().map(Source::Constant));
    inputs
}
