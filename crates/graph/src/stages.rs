//! Splits the graph of a batch into stages: parts of the graph that run for a few images at a time.
//!
//! A network computes each image of a batch by itself. To compute layer after layer for the whole batch writes all feature maps to memory
//! and reads them again; to compute image after image keeps them in a cache, but reads the weights for each image. The first is
//! better for the last layers, with many weights and small maps, the second for the first layers. [`stages`] therefore chooses
//! a number of images for each operation, from what it moves between the second-level cache and memory, and operations with the same
//! number form a stage. The numbers depend on shapes only, so results do not depend on the number of threads.

use std::collections::HashMap;
use std::sync::Arc;

use neocog_base::Result;
use neocog_tensor::{Op, Shape, Shapes};
use smallvec::SmallVec;

use crate::graph::{Graph, Node, Source};

/// The part of a level-two cache that holds feature maps, in bytes.
const NEAR: f64 = 768.0 * 1024.0;
/// The part of the last cache that holds what one thread uses, in bytes.
const FAR: f64 = 8e6;
/// How much more a byte costs from memory than from the last cache.
const MEMORY: f64 = 3.0;
/// What the start of an operation costs, in bytes from the last cache.
const START: f64 = 40e3;

/// How often values between two stages are moved: written and read, in a layout that both know.
const CUT: f64 = 4.0;

/// A part of a graph.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Its operations, for a part of the batch.
    pub graph: Graph,
    /// How often it runs for a batch.
    pub parts: usize,
    /// The values of the whole graph that are its inputs.
    pub inputs: Vec<usize>,
    /// The values of the whole graph that are its outputs.
    pub outputs: Vec<usize>,
}

impl Stage {
    /// Returns the only stage of a graph that is not split.
    pub(crate) fn whole(graph: Graph) -> Self {
        let (inputs, outputs) = ((0..graph.input_count()).collect(), graph.outputs().to_vec());
        Stage { graph, parts: 1, inputs, outputs }
    }
}

/// Splits a graph. The batch is the first axis of the first input.
///
/// # Errors
/// When an operation does not accept a part of its inputs although it says so.
pub(crate) fn stages(graph: Graph) -> Result<Vec<Stage>> {
    let images = if graph.input_count() == 0 { 0 } else { graph.shape(0).first().copied().unwrap_or(0) };
    let choices: Vec<usize> = (1..=images).filter(|part| images.is_multiple_of(*part)).collect();
    if choices.len() < 2 || graph.nodes().is_empty() {
        return Ok(vec![Stage::whole(graph)]);
    }
    let batch = Batch { graph: &graph, images };
    let parts = batch.choose(&choices);
    if parts.iter().all(|part| *part == images) {
        return Ok(vec![Stage::whole(graph)]);
    }
    let mut stages = Vec::new();
    let mut start = 0;
    for run in parts.chunk_by(|a, b| a == b) {
        stages.push(batch.stage(start..start + run.len(), run[0])?);
        start += run.len();
    }
    Ok(stages)
}

/// A graph and the number of images of its batch.
struct Batch<'a> {
    graph: &'a Graph,
    images: usize,
}

impl Batch<'_> {
    /// Whether positions of the first axis of a value are images.
    fn has_images(&self, value: usize) -> bool {
        self.graph.shape(value).first() == Some(&self.images)
    }

    /// Returns the shape of a value for a part of the batch.
    fn part_shape(&self, value: usize, part: usize) -> Result<Shape> {
        let shape = self.graph.shape(value);
        if self.has_images(value) { shape.with_extent(0, part) } else { Ok(*shape) }
    }

    /// Returns the operation of a node for a part of the batch; `None` if it cannot be split.
    fn split(&self, node: &Node, part: usize) -> Option<Arc<dyn Op>> {
        if part == self.images {
            return Some(node.op.clone());
        }
        let batched: SmallVec<[bool; 4]> = node
            .inputs
            .iter()
            .map(|source| source.value().is_some_and(|value| self.has_images(value)))
            .collect();
        let op = node.op.split_batch(&self.graph.input_shapes(node), &batched, part)?;
        let shapes: Shapes = node
            .inputs
            .iter()
            .map(|source| match source {
                Source::Value(value) => self.part_shape(*value, part).ok(),
                Source::Constant(tensor) => Some(*tensor.shape()),
            })
            .collect::<Option<_>>()?;
        let expected = node.outputs.iter().map(|value| self.part_shape(*value, part).ok());
        let all_images = node.outputs.iter().all(|value| self.has_images(*value));
        let fits = all_images && op.infer(&shapes).ok()?.into_iter().map(Some).eq(expected);
        fits.then_some(op)
    }

    /// Returns the number of images with which each operation moves the fewest bytes: a shortest path through the operations.
    fn choose(&self, choices: &[usize]) -> Vec<usize> {
        let nodes = self.graph.nodes();
        let crossing = self.crossing_bytes();
        let weights = far(self.weights());
        let mut costs: Vec<f64> = vec![0.0; choices.len()];
        let mut from: Vec<Vec<usize>> = Vec::with_capacity(nodes.len());
        for (node, crossing) in nodes.iter().zip(crossing) {
            let best = (0..choices.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
            let change = costs[best] + CUT * crossing * far(crossing) + 2.0 * START;
            let came = (0..choices.len()).map(|k| if costs[k] <= change { k } else { best });
            let came: Vec<usize> = came.collect();
            for (k, &part) in choices.iter().enumerate() {
                costs[k] = costs[came[k]].min(change) + self.cost(node, part, weights);
            }
            from.push(came);
        }
        let mut k = (0..choices.len()).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
        let mut chosen = vec![0; nodes.len()];
        for i in (0..nodes.len()).rev() {
            chosen[i] = choices[k];
            k = from[i][k];
        }
        chosen
    }

    /// Returns what an operation moves beyond the second-level cache for the batch, in bytes from the last cache, if it runs for a
    /// part of the batch at a time; `weight` is what a byte of a weight costs.
    fn cost(&self, node: &Node, part: usize, weight: f64) -> f64 {
        if self.split(node, part).is_none() {
            return f64::INFINITY;
        }
        if node.reshaped().is_some() {
            return 0.0;
        }
        let runs = (self.images / part) as f64;
        let weights: f64 = node.constants().into_iter().flatten().map(|tensor| bytes(tensor.shape())).sum();
        let maps: f64 =
            node.values().chain(node.outputs.iter().copied()).map(|v| bytes(self.graph.shape(v))).sum();
        let moved = if maps / runs > NEAR { maps * far(maps / runs) } else { 0.0 };
        runs * (weights * weight + START) + moved
    }

    /// Returns the bytes of all constants.
    fn weights(&self) -> f64 {
        let constants = self.graph.nodes().iter().flat_map(|node| node.constants().into_iter().flatten());
        constants.map(|tensor| bytes(tensor.shape())).sum()
    }

    /// Returns the bytes of the values that are computed before each operation and used from there on.
    fn crossing_bytes(&self) -> Vec<f64> {
        let mut changes = vec![0.0; self.graph.nodes().len() + 1];
        let last_uses = self.graph.last_uses();
        for (i, node) in self.graph.nodes().iter().enumerate() {
            for &value in &node.outputs {
                if let Some(last) = last_uses[value].filter(|last| *last > i) {
                    changes[i + 1] += bytes(self.graph.shape(value));
                    changes[last + 1] -= bytes(self.graph.shape(value));
                }
            }
        }
        let mut live = 0.0;
        changes.pop();
        changes
            .into_iter()
            .map(|change| {
                live += change;
                live
            })
            .collect()
    }

    /// Returns the stage of some neighboring operations.
    fn stage(&self, range: std::ops::Range<usize>, part: usize) -> Result<Stage> {
        let nodes = &self.graph.nodes()[range.clone()];
        let last_uses = self.graph.last_uses();
        let is_used_later = |value: &usize| {
            last_uses[*value].is_some_and(|last| last >= range.end) || self.graph.outputs().contains(value)
        };
        let outputs: Vec<usize> =
            nodes.iter().flat_map(|node| node.outputs.iter().copied()).filter(is_used_later).collect();
        let mut inputs: Vec<usize> = Vec::new();
        for value in nodes.iter().flat_map(Node::values) {
            let is_inner = nodes.iter().any(|node| node.outputs.contains(&value));
            if !is_inner && !inputs.contains(&value) {
                inputs.push(value);
            }
        }
        let shapes: Vec<Shape> = inputs.iter().map(|v| self.part_shape(*v, part)).collect::<Result<_>>()?;
        let mut graph = Graph::new(shapes);
        let mut numbers: HashMap<usize, usize> = inputs.iter().copied().zip(0..).collect();
        for node in nodes {
            let op = self.split(node, part).unwrap_or_else(|| node.op.clone());
            let sources = node.inputs.iter().map(|source| match source {
                Source::Value(value) => Source::Value(numbers[value]),
                constant @ Source::Constant(_) => constant.clone(),
            });
            let sources: SmallVec<[Source; 4]> = sources.collect();
            let first = graph.push_shared(op, sources, node.scope.clone())?;
            numbers.extend(node.outputs.iter().copied().zip(first..));
        }
        graph.set_outputs(outputs.iter().map(|value| numbers[value]))?;
        Ok(Stage { graph, parts: self.images / part, inputs, outputs })
    }
}

/// Returns what a byte costs of something that is used again after so many bytes.
fn far(bytes: f64) -> f64 {
    if bytes > FAR { MEMORY } else { 1.0 }
}

fn bytes(shape: &Shape) -> f64 {
    (shape.elements() * size_of::<f32>()) as f64
}
