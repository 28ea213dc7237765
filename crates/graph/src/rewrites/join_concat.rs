//! Concatenation without copies: inputs of a concatenation along axis 1 are computed in their place within its output.
//!
//! ```text
//!   output:    [ a: image 0 | b: image 0 | a: image 1 | b: image 1 | .. ]
//!   input b:                 [ image 0 ]   gap         [ image 1 ]
//! ```
//!
//! That needs operations that support batch strides ([`Op::supports_batch_stride`](neocog_tensor::Op::supports_batch_stride)).
//! An output can be an input of another concatenation: then all features of a dense block are stored in one place. What cannot
//! be computed in its place is copied there. Only the memory of a plan on the CPU has such values.

use neocog_base::Result;
use neocog_tensor::ops::{Concat, Conv2d, GlobalAvgPool2d, Relu};
use neocog_tensor::{Device, Pass};
use smallvec::smallvec;
use std::sync::Arc;

use super::{push, random};
use crate::graph::{Graph, Node, Part, Source};
use crate::layout::slots;
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!(
    "join_concat",
    order 1000,
    |target| target.pass == Pass::Inference && *target.device == Device::Cpu,
    join,
    cases
);

fn join(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    for (value, part) in placeable(graph) {
        graph.set_part(value, part);
    }
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.take_nodes() {
        if !joins(graph, &node) {
            nodes.push(node);
            continue;
        }
        for (source, part) in parts(graph, &node) {
            let shape = match &source {
                Source::Value(value) if graph.part(*value) == Some(part) => continue,
                Source::Value(value) => *graph.shape(*value),
                Source::Constant(tensor) => *tensor.shape(),
            };
            let copy = graph.add_value(shape);
            graph.set_part(copy, part);
            nodes.push(Node {
                op: Arc::new(Concat { dim: 1 }),
                inputs: smallvec![source],
                outputs: smallvec![copy],
                scope: node.scope.clone(),
            });
        }
    }
    graph.set_nodes_with_parts(nodes);
    Ok(())
}

/// Whether a node concatenates along axis 1 and supports batch strides.
fn joins(graph: &Graph, node: &Node) -> bool {
    node.op.concat_axis(graph.shape(node.outputs[0]).rank()) == Some(1) && node.op.supports_batch_stride()
}

/// Returns the inputs of a concatenation and their places in its output.
fn parts(graph: &Graph, concat: &Node) -> Vec<(Source, Part)> {
    let mut offset = 0;
    let mut all = Vec::with_capacity(concat.inputs.len());
    for (source, shape) in concat.inputs.iter().zip(graph.input_shapes(concat)) {
        all.push((source.clone(), Part { of: concat.outputs[0], offset }));
        offset += shape.row();
    }
    all
}

/// Returns the values that can be computed within the outputs of concatenations.
fn placeable(graph: &Graph) -> Vec<(usize, Part)> {
    let free = can_have_batch_stride(graph);
    let mut placed = graph.clone();
    let concats = || graph.nodes().iter().filter(|node| joins(graph, node));
    let candidates = concats().flat_map(|node| parts(graph, node)).filter_map(|(source, part)| {
        let value = source.value().filter(|value| free[*value])?;
        Some((value, part))
    });
    let mut candidates: Vec<(usize, Part)> = candidates.collect();
    candidates.iter().for_each(|(value, part)| placed.set_part(*value, *part));
    // A kernel must not write between the rows of what it reads.
    loop {
        let slots = slots(&placed);
        let wrong = placed
            .nodes()
            .iter()
            .filter(|node| !joins(graph, node) && node.reshaped().is_none())
            .find(|node| {
                let root = slots[node.outputs[0]].root;
                placed.part(node.outputs[0]).is_some() && node.values().any(|value| slots[value].root == root)
            });
        let Some(value) = wrong.map(|node| node.outputs[0]) else { return candidates };
        candidates.retain(|(other, _)| *other != value);
        placed.clear_part(value);
    }
}

/// Returns whether each value can have a batch stride: the operations that compute and use it support that, and one
/// concatenation uses it.
fn can_have_batch_stride(graph: &Graph) -> Vec<bool> {
    let mut free = vec![false; graph.value_count()];
    for node in graph.nodes().iter().filter(|node| node.outputs.len() == 1) {
        free[node.outputs[0]] = node.op.supports_batch_stride();
    }
    let mut joined = vec![0; graph.value_count()];
    for node in graph.nodes() {
        for (i, source) in node.inputs.iter().enumerate() {
            let Source::Value(value) = source else { continue };
            if joins(graph, node) {
                joined[*value] += 1;
            } else {
                free[*value] &= i == 0 && node.op.supports_batch_stride();
            }
        }
    }
    free.iter_mut().zip(joined).for_each(|(free, joined)| *free &= joined == 1);
    graph.outputs().iter().for_each(|value| free[*value] = false);
    free
}

fn cases() -> Vec<Case> {
    let conv = |graph: &mut Graph, value: usize, seed: u64, device: &Device| {
        let weight = random([2, graph.shape(value)[1], 1, 1], seed, device)?;
        push(graph, Conv2d::default(), value, &[weight])
    };
    let concat = |graph: &mut Graph, values: &[usize]| {
        graph.push(Concat { dim: 1 }, values.iter().map(|v| Source::Value(*v)), Default::default())
    };
    let branches = move |device: &Device| {
        let mut graph = Graph::new([[3, 3, 4, 5].into()]);
        let (a, b) = (conv(&mut graph, 0, 1, device)?, conv(&mut graph, 0, 2, device)?);
        let y = concat(&mut graph, &[a, b])?;
        let z = push(&mut graph, GlobalAvgPool2d, y, &[])?;
        graph.set_outputs([z])?;
        Ok(graph)
    };
    let dense = move |device: &Device| {
        let mut graph = Graph::new([[3, 3, 4, 5].into()]);
        let a = conv(&mut graph, 0, 1, device)?;
        let y = concat(&mut graph, &[0, a])?;
        let b = conv(&mut graph, y, 2, device)?;
        let z = concat(&mut graph, &[y, b])?;
        graph.set_outputs([z])?;
        Ok(graph)
    };
    let copied = move |device: &Device| {
        let mut graph = Graph::new([[3, 3, 4, 5].into()]);
        let a = conv(&mut graph, 0, 1, device)?;
        let b = push(&mut graph, Relu, a, &[])?;
        let y = concat(&mut graph, &[a, b])?;
        graph.set_outputs([y])?;
        Ok(graph)
    };
    vec![
        Case::new("two branches", branches, ["conv2d", "conv2d", "global_avg_pool2d"]),
        Case::new("a dense block", dense, ["conv2d", "concat", "conv2d", "concat"]),
        Case::new("operations without batch strides", copied, ["conv2d", "relu", "concat", "concat"]),
    ]
}
