//! Removes operations that no output depends on.

use neocog_base::Result;
use neocog_tensor::ops::{Relu, Sigmoid, Tanh};

use super::push;
use crate::graph::{Graph, Node};
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!("prune", order 100, |_| true, prune, cases);

fn prune(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let mut needed = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|value| needed[*value] = true);
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes().len());
    for node in graph.take_nodes().into_iter().rev() {
        if node.outputs.iter().any(|value| needed[*value]) {
            node.values().for_each(|value| needed[value] = true);
            nodes.push(node);
        }
    }
    nodes.reverse();
    graph.set_nodes(nodes)
}

fn cases() -> Vec<Case> {
    let graph = |_: &_| {
        let mut graph = Graph::new([[2, 3].into()]);
        let a = push(&mut graph, Relu, 0, &[])?;
        let b = push(&mut graph, Sigmoid, a, &[])?;
        push(&mut graph, Tanh, b, &[])?;
        graph.set_outputs([a])?;
        Ok(graph)
    };
    vec![Case::new("a chain that nothing uses", graph, ["relu"])]
}
