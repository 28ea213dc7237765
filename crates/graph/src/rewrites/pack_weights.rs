//! Packs constant weights once, in the layout of the device's kernel.

use neocog_base::Result;
use neocog_tensor::ops::Conv2d;
use neocog_tensor::{Device, Pass};

use super::{push, random};
use crate::graph::Graph;
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!("pack_weights", order 500, |target| target.pass == Pass::Inference, pack, cases);

fn pack(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let mut nodes = graph.take_nodes();
    for node in &mut nodes {
        let packed = node.op.pack(&graph.input_shapes(node), &node.constants())?;
        if let Some(op) = packed {
            node.op = op;
        }
    }
    graph.set_nodes(nodes)
}

fn cases() -> Vec<Case> {
    let conv = |out: usize, size: usize| {
        move |device: &Device| {
            let mut graph = Graph::new([[2, 16, 9, 8].into()]);
            let weights = [random([out, 16, size, size], 2, device)?, random([out], 3, device)?];
            let y = push(&mut graph, Conv2d::default(), 0, &weights)?;
            graph.set_outputs([y])?;
            Ok(graph)
        }
    };
    vec![
        Case::new("a 3x3 convolution", conv(32, 3), ["packed_conv2d"]),
        Case::new("a 1x1 convolution", conv(16, 1), ["packed_conv2d"]),
        Case::new("few channels", conv(3, 2), ["packed_conv2d"]),
    ]
}
