//! The rewrites of this crate, one in each file.

mod activation_behind_pooling;
mod channel_blocks;
mod fold_batch_norm;
mod fold_constants;
mod fuse_activation;
mod join_concat;
mod pack_weights;
mod prune;
mod self_gate;

use neocog_base::Result;
use neocog_base::random::Random;
use neocog_tensor::profile::Scope;
use neocog_tensor::{Device, Op, Shape, Tensor};

use crate::graph::{Graph, Source};

/// Returns random numbers from 0.5 to 1.5, for cases.
fn random(shape: impl Into<Shape>, seed: u64, device: &Device) -> Result<Tensor> {
    let (shape, mut random) = (shape.into(), Random::new(seed));
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(0.5, 1.5)).collect();
    Tensor::from_f32(shape, &values, device)
}

/// Appends an operation on a value and constants.
fn push(graph: &mut Graph, op: impl Op, value: usize, constants: &[Tensor]) -> Result<usize> {
    let constants = constants.iter().cloned().map(Source::Constant);
    graph.push(op, [Source::Value(value)].into_iter().chain(constants), Scope::default())
}
