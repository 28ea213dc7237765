//! Splits the graph of a batch into stages: parts of the graph that run for a few images at a time, a micro-batch.
//!
//! A network computes each image of a batch by itself. To compute layer after layer for the whole batch writes all feature maps to memory
//! and reads them again; to compute image after image keeps them in a cache, but reads the weights for each image. The first is
//! better for the last layers, with many weights and small maps, the second for the first layers. [`stages`] therefore chooses
//! a number of images for each operation, from what it moves between the second-level cache and memory, and operations with the same
//! number form a stage. The numbers depend on shapes only, so results do not depend on the number of threads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use neocog_base::{Error, Result};
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
    /// Its operations, for a micro-batch.
    pub graph: Graph,
    /// How many micro-batches it computes.
    pub micro_batches: usize,
    /// The values of the whole graph that are its inputs.
    pub inputs: Vec<usize>,
    /// The values of the whole graph that are its outputs.
    pub outputs: Vec<usize>,
}

impl Stage {
    /// Returns the only stage of a graph that is not split.
    pub(crate) fn whole(graph: Graph) -> Self {
        let (inputs, outputs) = ((0..graph.input_count()).collect(), graph.outputs().to_vec());
        Stage { graph, micro_batches: 1, inputs, outputs }
    }
}

/// Splits a graph. The batch is the first axis of the first input.
///
/// # Errors
/// When an operation does not accept a part of its inputs although it says so.
pub(crate) fn stages(graph: Graph) -> Result<Vec<Stage>> {
    let images = if graph.input_count() == 0 { 0 } else { graph.shape(0).first().copied().unwrap_or(0) };
    let choices: Vec<usize> = (1..=images).filter(|micro| images.is_multiple_of(*micro)).collect();
    if choices.len() < 2 || graph.nodes().is_empty() {
        return Ok(vec![Stage::whole(graph)]);
    }
    let batch = Batch { graph: &graph, images };
    let sizes = batch.choose(&choices);
    if sizes.iter().all(|micro| *micro == images) {
        return Ok(vec![Stage::whole(graph)]);
    }
    batch.stages(&sizes)
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

    /// Returns the shape of a value for a micro-batch.
    fn micro_shape(&self, value: usize, micro: usize) -> Result<Shape> {
        let shape = self.graph.shape(value);
        if self.has_images(value) { shape.with_extent(0, micro) } else { Ok(*shape) }
    }

    /// Returns the operation of a node for a micro-batch; `None` if it cannot be split.
    fn split(&self, node: &Node, micro: usize) -> Option<Arc<dyn Op>> {
        if micro == self.images {
            return Some(node.op.clone());
        }
        let batched: SmallVec<[bool; 4]> = node
            .inputs
            .iter()
            .map(|source| source.value().is_some_and(|value| self.has_images(value)))
            .collect();
        let op = node.op.split_batch(&self.graph.input_shapes(node), &batched, micro)?;
        let shapes: Shapes = node
            .inputs
            .iter()
            .map(|source| match source {
                Source::Value(value) => self.micro_shape(*value, micro).ok(),
                Source::Constant(tensor) => Some(*tensor.shape()),
            })
            .collect::<Option<_>>()?;
        let expected = node.outputs.iter().map(|value| self.micro_shape(*value, micro).ok());
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
            let previous = (0..choices.len()).map(|k| if costs[k] <= change { k } else { best });
            let previous: Vec<usize> = previous.collect();
            for (k, &micro) in choices.iter().enumerate() {
                costs[k] = costs[previous[k]].min(change) + self.cost(node, micro, weights);
            }
            from.push(previous);
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
    /// micro-batch at a time; `weight` is what a byte of a weight costs.
    fn cost(&self, node: &Node, micro: usize, weight: f64) -> f64 {
        if self.split(node, micro).is_none() {
            return f64::INFINITY;
        }
        if node.reshaped().is_some() {
            return 0.0;
        }
        let runs = (self.images / micro) as f64;
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

    /// Returns the stages of operations that run for micro-batches of these sizes.
    fn stages(&self, sizes: &[usize]) -> Result<Vec<Stage>> {
        let last_uses = self.graph.last_uses();
        let mut stages = Vec::new();
        let mut start = 0;
        for run in sizes.chunk_by(|a, b| a == b) {
            stages.push(self.stage(start..start + run.len(), run[0], &last_uses)?);
            start += run.len();
        }
        Ok(stages)
    }

    /// Returns the stage of some neighboring operations.
    fn stage(&self, range: Range<usize>, micro: usize, last_uses: &[Option<usize>]) -> Result<Stage> {
        let nodes = &self.graph.nodes()[range.clone()];
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
        let shapes: Vec<Shape> = inputs.iter().map(|v| self.micro_shape(*v, micro)).collect::<Result<_>>()?;
        let mut graph = Graph::new(shapes);
        let mut numbers: HashMap<usize, usize> = inputs.iter().copied().zip(0..).collect();
        for node in nodes {
            let no_split = || Error::invalid_argument(format!("{} cannot be split", node.op.name()));
            let op = self.split(node, micro).ok_or_else(no_split)?;
            let sources = node.inputs.iter().map(|source| match source {
                Source::Value(value) => Source::Value(numbers[value]),
                constant @ Source::Constant(_) => constant.clone(),
            });
            let sources: SmallVec<[Source; 4]> = sources.collect();
            let first = graph.push_shared(op, sources, node.scope.clone())?;
            numbers.extend(node.outputs.iter().copied().zip(first..));
        }
        graph.set_outputs(outputs.iter().map(|value| numbers[value]))?;
        Ok(Stage { graph, micro_batches: self.images / micro, inputs, outputs })
    }
}

/// Returns what a byte costs of something that is used again after so many bytes.
fn far(bytes: f64) -> f64 {
    if bytes > FAR { MEMORY } else { 1.0 }
}

fn bytes(shape: &Shape) -> f64 {
    (shape.elements() * size_of::<f32>()) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use neocog_base::random::Random;
    use neocog_tensor::ops::{
        Activation, Add, Concat, Conv2d, Conv2dGeometry, Flatten, Linear, MaxPool2d, Mul, Reshape, Softmax,
        Sum, SumTo,
    };
    use neocog_tensor::profile::Scope;
    use neocog_tensor::{Device, Tensor};

    use super::*;
    use crate::plan::Plan;

    fn tensor(shape: impl Into<Shape>, random: &mut Random) -> Tensor {
        let shape = shape.into();
        let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
        Tensor::from_f32(shape, &values, &Device::Cpu).unwrap()
    }

    fn push(graph: &mut Graph, op: impl Op, inputs: &[usize], constants: &[Tensor]) -> usize {
        let constants = constants.iter().cloned().map(Source::Constant);
        let inputs = inputs.iter().map(|v| Source::Value(*v)).chain(constants);
        graph.push(op, inputs, Scope::default()).unwrap()
    }

    /// A network of six images and of a second input that all share, with two outputs, of which one is used by others.
    fn network() -> (Graph, Vec<Tensor>) {
        let mut random = Random::new(1);
        let inputs = vec![tensor([6, 3, 8, 8], &mut random), tensor([1, 4, 8, 8], &mut random)];
        let mut graph = Graph::new(inputs.iter().map(|input| *input.shape()));
        let g = &mut graph;
        let geometry = Conv2dGeometry { padding: [1, 1], ..Default::default() };
        let weight = tensor([4, 3, 3, 3], &mut random);
        let a = push(g, Conv2d::new(geometry, Some(Activation::Relu)), &[0], &[weight]);
        let gated = push(g, Mul, &[a, 1], &[]);
        let sums = push(g, SumTo { shape: [6, 4, 1, 1].into() }, &[gated], &[]);
        let b = push(g, Add, &[gated, sums], &[]);
        let joined = push(g, Concat { dim: 1 }, &[a, b], &[]);
        let pool = MaxPool2d {
            kernel_size: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
            return_indices: true,
        };
        let pooled = push(g, pool, &[joined], &[]);
        // It depends on all images.
        let mixed = push(g, Softmax { dim: 0 }, &[pooled], &[]);
        let c = push(g, Add, &[mixed, pooled + 1], &[]);
        let flat = push(g, Reshape { shape: [6, 128].into() }, &[c], &[]);
        let y = push(g, Linear::default(), &[flat], &[tensor([5, 128], &mut random)]);
        let flat = push(g, Flatten { start_dim: 1, end_dim: -1 }, &[joined], &[]);
        graph.set_outputs([flat, y, joined]).unwrap();
        (graph, inputs)
    }

    #[test]
    fn stages_of_any_parts_compute_what_the_graph_computes() {
        let (graph, inputs) = network();
        let expected = graph.run(&inputs).unwrap();
        let batch = Batch { graph: &graph, images: 6 };
        let mut random = Random::new(2);
        let mut seen = Vec::new();
        for _ in 0..100 {
            let sizes: Vec<usize> = graph
                .nodes()
                .iter()
                .map(|node| {
                    let micro = [1, 2, 3, 6][random.next_u32() as usize % 4];
                    if batch.split(node, micro).is_some() { micro } else { 6 }
                })
                .collect();
            seen.extend(
                graph
                    .nodes()
                    .iter()
                    .zip(&sizes)
                    .filter(|(_, micro)| **micro < 6)
                    .map(|(node, _)| node.op.name()),
            );
            let plan = Plan::of_stages(&graph, batch.stages(&sizes).unwrap(), &Device::Cpu).unwrap();
            assert_eq!(plan.micro_batches().count(), sizes.chunk_by(|a, b| a == b).count());
            for threads in [1, 2, 4] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| plan.run_all(&inputs)).unwrap();
                for (got, expected) in got.iter().zip(&expected) {
                    crate::check::compare(expected, got, 1e-5).unwrap();
                }
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            seen,
            ["add", "concat", "conv2d", "flatten", "linear", "max_pool2d", "mul", "reshape", "sum_to"],
            "all but the softmax over the batch"
        );
    }

    /// Scalars have no images.
    #[test]
    fn sums_over_the_batch_run_once() {
        let mut random = Random::new(4);
        let x = tensor([6, 3], &mut random);
        let mut graph = Graph::new([*x.shape()]);
        let sum = push(&mut graph, Sum, &[0], &[]);
        let y = push(&mut graph, Mul, &[sum, sum], &[]);
        let z = push(&mut graph, Add, &[0, y], &[]);
        graph.set_outputs([y, z]).unwrap();
        let expected = graph.run(std::slice::from_ref(&x)).unwrap();
        let got = graph.plan(&Device::Cpu).unwrap().run_all(&[x]).unwrap();
        for (got, expected) in got.iter().zip(&expected) {
            crate::check::compare(expected, got, 1e-6).unwrap();
        }
    }

    /// Large maps and few weights: image by image. Small ones: together.
    #[test]
    fn numbers_of_images_follow_from_sizes() {
        let choose = |size: usize, channels: usize| {
            let mut graph = Graph::new([[8, channels, size, size].into()]);
            let mut random = Random::new(3);
            let geometry = Conv2dGeometry { padding: [1, 1], ..Default::default() };
            let weight = tensor([channels, channels, 3, 3], &mut random);
            let mut value = 0;
            for _ in 0..3 {
                value =
                    push(&mut graph, Conv2d::new(geometry, None), &[value], std::slice::from_ref(&weight));
            }
            graph.set_outputs([value]).unwrap();
            stages(graph).unwrap().iter().map(|stage| stage.micro_batches).collect::<Vec<_>>()
        };
        // 1 MiB for an input and as much for an output: there is no cache for them in any case, and starts cost, too.
        assert_eq!(choose(128, 16), [4]);
        // 256 KiB each.
        assert_eq!(choose(64, 16), [8]);
        assert_eq!(choose(8, 16), [1]);
        assert_eq!(choose(4, 256), [1]);
    }
}
