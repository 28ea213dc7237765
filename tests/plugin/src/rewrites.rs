//! A rewrite of graphs: `pixel_unshuffle` followed by its inverse is a reshape, which costs nothing.

use std::any::Any;
use std::sync::Arc;

use neocog_graph::{Case, Graph, Source, Target, register_rewrite};
use neocog_tensor::profile::Scope;
use neocog_tensor::{Op, Result, ops};

use crate::ops::{PixelShuffle, PixelUnshuffle};

// Between the activations of neocog, at 400, and the packing of weights, at 500. It holds in inference and in training.
register_rewrite!("cancel_pixel_unshuffle", order 450, |_| true, cancel, cases);

fn cancel(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    graph.merge_pairs(|graph, before, node| {
        if !are_inverse(&*before.op, &*node.op) {
            return Ok(None);
        }
        let reshape: Arc<dyn Op> = Arc::new(ops::Reshape { shape: *graph.shape(node.outputs[0]) });
        Ok(Some((reshape, before.inputs.clone())))
    })
}

fn are_inverse(first: &dyn Op, second: &dyn Op) -> bool {
    let (first, second): (&dyn Any, &dyn Any) = (first, second);
    match (first.downcast_ref::<PixelUnshuffle>(), second.downcast_ref::<PixelShuffle>()) {
        (Some(first), Some(second)) => first.downscale_factor == second.upscale_factor,
        _ => false,
    }
}

fn cases() -> Vec<Case> {
    let graph = |downscale_factor, upscale_factor| {
        move |_: &_| {
            let mut graph = Graph::new([[2, 4, 12, 12].into()]);
            let y = graph.push(PixelUnshuffle { downscale_factor }, [Source::Value(0)], Scope::default())?;
            let z = graph.push(PixelShuffle { upscale_factor }, [Source::Value(y)], Scope::default())?;
            let relu = graph.push(ops::Relu, [Source::Value(z)], Scope::default())?;
            graph.set_outputs([relu])?;
            Ok(graph)
        }
    };
    vec![
        Case::new("the inverse", graph(2, 2), ["reshape", "relu"]),
        Case::new("another factor", graph(2, 4), ["pixel_unshuffle", "pixel_shuffle", "relu"]),
    ]
}
