//! Folds a map of channels, as batch normalization with constant statistics, into the convolution or linear layer before it:
//! `scale (w x + b - mean) + shift` is a product with the weight `scale w` and the bias `scale (b - mean) + shift`.

use neocog_base::Result;
use neocog_tensor::ops::{BatchNormEval, Conv2d, Linear};
use neocog_tensor::{Device, Pass, Tensor};

use super::{push, random};
use crate::graph::{Graph, Source, with_constants};
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!("fold_batch_norm", order 200, |target| target.pass == Pass::Inference, fold, cases);

fn fold(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    graph.merge_pairs(|graph, before, node| {
        let (Some(Source::Value(first)), true) = (before.inputs.first(), before.outputs.len() == 1) else {
            return Ok(None);
        };
        let Some(map) = node.op.channel_affine(&node.constants())? else { return Ok(None) };
        let folded = before.op.absorb_affine(&map, &graph.input_shapes(before), &before.constants())?;
        Ok(folded.map(|(op, constants)| (op, with_constants(Source::Value(*first), constants))))
    })
}

fn cases() -> Vec<Case> {
    let norm = BatchNormEval { eps: 1e-3, activation: None };
    let statistics = |channels: usize, count: u64, device: &Device| -> Result<Vec<Tensor>> {
        (0..count).map(|i| random([channels], 4 + i, device)).collect()
    };
    let conv = move |bias: bool, count: u64| {
        move |device: &Device| {
            let mut graph = Graph::new([[2, 3, 5, 5].into()]);
            let mut weights = vec![random([4, 3, 3, 3], 2, device)?];
            if bias {
                weights.push(random([4], 3, device)?);
            }
            let y = push(&mut graph, Conv2d::default(), 0, &weights)?;
            let z = push(&mut graph, norm, y, &statistics(4, count, device)?)?;
            graph.set_outputs([z])?;
            Ok(graph)
        }
    };
    let linear = move |shape: &'static [usize]| {
        move |device: &Device| {
            let mut graph = Graph::new([neocog_tensor::Shape::new(shape)?]);
            let y = push(&mut graph, Linear::default(), 0, &[random([4, 6], 9, device)?])?;
            let z = push(&mut graph, norm, y, &statistics(4, 4, device)?)?;
            graph.set_outputs([z])?;
            Ok(graph)
        }
    };
    vec![
        Case::new("a convolution with bias", conv(true, 4), ["conv2d"]),
        Case::new("a convolution without bias", conv(false, 4), ["conv2d"]),
        Case::new("a norm without weight", conv(true, 2), ["conv2d"]),
        Case::new("a linear layer", linear(&[2, 6]), ["linear"]),
        Case::new("axis 1 is not the features", linear(&[2, 4, 6]), ["linear", "batch_norm_eval"]),
        Case::new(
            "the value before the norm is used twice",
            move |device| {
                let mut graph = conv(true, 4)(device)?;
                graph.set_outputs([1, 2])?;
                Ok(graph)
            },
            ["conv2d", "batch_norm_eval"],
        ),
    ]
}
