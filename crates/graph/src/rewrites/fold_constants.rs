//! Computes operations on constants once, when the graph is rewritten, instead of in each run.

use neocog_base::Result;
use neocog_tensor::ops::{Add, Relu, Sigmoid};
use neocog_tensor::profile::Scope;
use neocog_tensor::{Tensor, run};

use super::{push, random};
use crate::graph::{Graph, Node, Source};
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

// Before all others, which then find more constants.
register_rewrite!("fold_constants", order 50, |_| true, fold, cases);

fn fold(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let mut known: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes().len());
    for mut node in graph.take_nodes() {
        for source in &mut node.inputs {
            if let Some(tensor) = source.value().and_then(|value| known[value].as_ref()) {
                *source = Source::Constant(tensor.clone());
            }
        }
        // What draws random numbers draws others in each run.
        if node.values().next().is_none() && !node.inputs.is_empty() && node.op.reseeded(0).is_none() {
            let inputs: Vec<&Tensor> = node.inputs.iter().filter_map(Source::constant).collect();
            for (value, tensor) in node.outputs.iter().zip(run(&*node.op, &inputs)?) {
                known[*value] = Some(tensor);
            }
            if !node.outputs.iter().any(|value| graph.outputs().contains(value)) {
                continue;
            }
        }
        nodes.push(node);
    }
    graph.set_nodes(nodes)
}

fn cases() -> Vec<Case> {
    let graph = |is_output: bool| {
        move |device: &_| {
            let mut graph = Graph::new([[2, 3].into()]);
            let constant = || Ok::<_, neocog_base::Error>(Source::Constant(random([2, 3], 1, device)?));
            let sum = graph.push(Add, [constant()?, constant()?], Scope::default())?;
            let bent = push(&mut graph, Sigmoid, sum, &[])?;
            let y = graph.push(Add, [Source::Value(0), Source::Value(bent)], Scope::default())?;
            let z = push(&mut graph, Relu, y, &[])?;
            graph.set_outputs(if is_output { vec![bent, z] } else { vec![z] })?;
            Ok(graph)
        }
    };
    vec![
        Case::new("two operations on constants", graph(false), ["add", "relu"]),
        Case::new("an output that is constant", graph(true), ["sigmoid", "add", "relu"]),
    ]
}
