//! A model that is converted for inputs of given shapes.

use neocog_graph::Graph;
use neocog_tensor::Tensor;

use crate::proto::DataType;

/// Where an output of a model comes from.
#[derive(Clone, Debug)]
pub(super) enum OutputSource {
    /// Known before any run.
    Known(Tensor),
    /// The value of the graph.
    Computed(usize),
}

/// A model as a graph, with its outputs.
#[derive(Debug)]
pub(super) struct Converted {
    pub graph: Graph,
    /// The inputs of the model that are those of the graph.
    pub inputs: Vec<usize>,
    pub outputs: Vec<(OutputSource, DataType)>,
}
