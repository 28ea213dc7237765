//! Applies an activation behind the pooling that follows it: that is less work in both passes, and the input of the pooling
//! need not be saved for the gradient. In inference, the activation is fused into the operation before it instead.

use neocog_base::Result;
use neocog_tensor::ops::{AvgPool2d, Conv2d, MaxPool2d, Relu, Sigmoid};
use neocog_tensor::{Device, Op, Pass};
use smallvec::smallvec;

use super::{push, random};
use crate::graph::{Graph, Node, Source};
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!(
    "activation_behind_pooling",
    order 300,
    |target| target.pass == Pass::Training,
    exchange,
    cases
);

fn exchange(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let uses = graph.uses();
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes().len());
    for mut node in graph.take_nodes() {
        let activation = nodes.last().filter(|before| {
            let ([Source::Value(value)], [_], [output]) =
                (&node.inputs[..], &before.inputs[..], &before.outputs[..])
            else {
                return false;
            };
            // The other outputs, as the indices of the maxima, may change.
            let is_only_output = node.outputs[1..].iter().all(|other| uses[*other] == 0);
            value == output && uses[*output] == 1 && is_only_output && node.op.commutes_with(&*before.op)
        });
        if activation.is_none() {
            nodes.push(node);
            continue;
        }
        let mut activation = nodes.pop().expect("the last node was just looked at");
        let pooled = graph.add_value(*graph.shape(node.outputs[0]));
        node.inputs = activation.inputs;
        activation.inputs = smallvec![Source::Value(pooled)];
        activation.outputs = smallvec![std::mem::replace(&mut node.outputs[0], pooled)];
        nodes.push(node);
        nodes.push(activation);
    }
    graph.set_nodes(nodes)
}

fn cases() -> Vec<Case> {
    fn graph(
        activation: impl Op + Clone,
        pooling: impl Op + Clone,
    ) -> impl Fn(&Device) -> Result<Graph> + Send + Sync + 'static {
        move |device| {
            let mut graph = Graph::new([[2, 3, 7, 6].into()]);
            let y = push(&mut graph, Conv2d::default(), 0, &[random([2, 3, 2, 2], 1, device)?])?;
            let y = push(&mut graph, activation.clone(), y, &[])?;
            let y = push(&mut graph, pooling.clone(), y, &[])?;
            graph.set_outputs([y])?;
            Ok(graph)
        }
    }
    let max = MaxPool2d {
        kernel_size: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        dilation: [1, 1],
        ceil_mode: false,
        return_indices: true,
    };
    let mean = AvgPool2d {
        kernel_size: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        ceil_mode: false,
        count_include_pad: true,
        divisor_override: None,
    };
    vec![
        Case::new("max pooling", graph(Relu, max), ["conv2d", "max_pool2d", "relu"]),
        Case::new(
            "the indices of the maxima are used",
            move |device| {
                let mut graph = graph(Relu, max)(device)?;
                graph.set_outputs([3, 4])?;
                Ok(graph)
            },
            ["conv2d", "relu", "max_pool2d"],
        ),
        Case::new("mean pooling", graph(Relu, mean), ["conv2d", "relu", "avg_pool2d"]),
        Case::new("another activation", graph(Sigmoid, max), ["conv2d", "sigmoid", "max_pool2d"]),
        Case::new(
            "the output of the activation is used twice",
            move |device| {
                let mut graph = graph(Relu, max)(device)?;
                graph.set_outputs([2, 3])?;
                Ok(graph)
            },
            ["conv2d", "relu", "max_pool2d"],
        ),
    ]
}
