//! Fuses an activation into the operation before it, which saves a pass over memory.

use std::sync::Arc;

use neocog_base::Result;
use neocog_tensor::ops::{Add, BatchNormTrain, Concat, Conv2d, Linear, Relu, Sigmoid, Tanh};
use neocog_tensor::{Device, Op, Shape};

use super::{push, random};
use crate::graph::Graph;
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!("fuse_activation", order 400, |_| true, fuse, cases);

fn fuse(graph: &mut Graph, target: &Target<'_>) -> Result<()> {
    graph.merge_pairs(|graph, before, node| {
        if node.inputs.len() != 1 {
            return Ok(None);
        }
        let fused = before.op.absorb(&*node.op, target.pass);
        // The fused operation may not broadcast.
        let accepts = |op: &Arc<dyn Op>| op.infer(&graph.input_shapes(before)).is_ok();
        Ok(fused.filter(accepts).map(|op| (op, before.inputs.clone())))
    })
}

fn cases() -> Vec<Case> {
    let conv = |device: &Device| {
        let mut graph = Graph::new([[2, 3, 5, 5].into()]);
        let weights = [random([4, 3, 3, 3], 2, device)?, random([4], 3, device)?];
        let y = push(&mut graph, Conv2d::default(), 0, &weights)?;
        let z = push(&mut graph, Relu, y, &[])?;
        graph.set_outputs([z])?;
        Ok(graph)
    };
    let linear = |device: &Device| {
        let mut graph = Graph::new([[2, 6].into()]);
        let y = push(&mut graph, Linear::default(), 0, &[random([4, 6], 9, device)?])?;
        let y = push(&mut graph, Tanh, y, &[])?;
        let y = push(&mut graph, Sigmoid, y, &[])?;
        graph.set_outputs([y])?;
        Ok(graph)
    };
    let norm = |_: &Device| {
        let mut graph = Graph::new([[4, 3, 2, 2].into()]);
        let y = push(&mut graph, BatchNormTrain { eps: 1e-5, activation: None }, 0, &[])?;
        let z = push(&mut graph, Sigmoid, y, &[])?;
        graph.set_outputs([z, y + 1, y + 2])?;
        Ok(graph)
    };
    let sum = |terms: Shape, device: &Device| {
        let mut graph = Graph::new([[2, 3, 5, 5].into()]);
        let y = push(&mut graph, Add, 0, &[random(terms, 5, device)?])?;
        let z = push(&mut graph, Relu, y, &[])?;
        graph.set_outputs([z])?;
        Ok(graph)
    };
    vec![
        Case::new("a sum", move |device| sum([2, 3, 5, 5].into(), device), ["add_relu"]),
        Case::new("a sum with broadcasting", move |device| sum([3, 1, 1].into(), device), ["add", "relu"]),
        Case::new("a convolution", conv, ["conv2d"]),
        Case::new(
            "the value before the activation is used twice",
            move |device| {
                let mut graph = conv(device)?;
                graph.set_outputs([1, 2])?;
                Ok(graph)
            },
            ["conv2d", "relu"],
        ),
        Case::new("a second activation", linear, ["linear", "sigmoid"]),
        Case::new("an operation with several outputs", norm, ["batch_norm_train"]),
        Case::new(
            "an operation without fusion",
            |_| {
                let mut graph = Graph::new([[2, 3].into()]);
                let y = push(&mut graph, Concat { dim: 0 }, 0, &[])?;
                let z = push(&mut graph, Relu, y, &[])?;
                graph.set_outputs([z])?;
                Ok(graph)
            },
            ["concat", "relu"],
        ),
    ]
}
