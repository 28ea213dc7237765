//! Simplifies a graph without changing its results.

use std::any::Any;

use smallvec::smallvec;

use super::graph::{Graph, Source, Step};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::core::tensor::Tensor;
use crate::ops::{Activation, BatchNormEval, Conv2d, Linear, PackedConv2d, Relu, Sigmoid, Tanh};
use neocog_base::Result;

/// Removes steps that `output` does not depend on, and fuses batch norms and activations into the operations before them.
pub(super) fn simplify(graph: &mut Graph, output: usize) -> Result<()> {
    prune(graph, output);
    let uses = uses(graph, output);
    let mut producers: Vec<Option<usize>> = vec![None; graph.shapes.len()];
    let mut steps: Vec<Step> = Vec::with_capacity(graph.steps.len());
    for step in std::mem::take(&mut graph.steps) {
        let producer = match step.inputs.first() {
            Some(Source::Value(value)) if uses[*value] == 1 => producers[*value].map(|at| &mut steps[at]),
            _ => None,
        };
        if let Some(producer) = producer
            && let Some((op, inputs)) = fuse(producer, &step, &graph.shapes)?
        {
            // The fused step takes the place of the producer, where all inputs are available.
            let at = producers[producer.first_output];
            producer.op = op;
            producer.inputs = inputs;
            producer.first_output = step.first_output;
            producers[step.first_output] = at;
            continue;
        }
        step.outputs().for_each(|value| producers[value] = Some(steps.len()));
        steps.push(step);
    }
    graph.steps = steps;
    Ok(())
}

/// Packs the constant weights of convolutions for their device.
pub(super) fn pack_weights(graph: &mut Graph) -> Result<()> {
    for step in &mut graph.steps {
        let op: &dyn Any = &*step.op;
        if let (Some(op), [Source::Value(x), Source::Constant(weight), ..]) =
            (op.downcast_ref::<Conv2d>(), &step.inputs[..])
        {
            step.op = Box::new(PackedConv2d::new(*op, graph.shapes[*x], weight)?);
        }
    }
    Ok(())
}

/// Returns the number of uses of each value; the output counts as a use.
fn uses(graph: &Graph, output: usize) -> Vec<usize> {
    let mut uses = vec![0; graph.shapes.len()];
    graph.steps.iter().flat_map(Step::values).for_each(|value| uses[value] += 1);
    uses[output] += 1;
    uses
}

/// Removes steps without used outputs.
fn prune(graph: &mut Graph, output: usize) {
    let mut needed = vec![false; graph.shapes.len()];
    needed[output] = true;
    let mut kept: Vec<Step> = Vec::with_capacity(graph.steps.len());
    for step in std::mem::take(&mut graph.steps).into_iter().rev() {
        if step.outputs().any(|value| needed[value]) {
            step.values().for_each(|value| needed[value] = true);
            kept.push(step);
        }
    }
    kept.reverse();
    graph.steps = kept;
}

type Fused = (Box<dyn Op>, smallvec::SmallVec<[Source; 4]>);

/// Returns one operation that computes two consecutive ones, if there is one.
fn fuse(producer: &Step, step: &Step, shapes: &[Shape]) -> Result<Option<Fused>> {
    let op: &dyn Any = &*step.op;
    if let Some(norm) = op.downcast_ref::<BatchNormEval>() {
        return fold_batch_norm(producer, norm, &step.inputs, &shapes[step.first_output]);
    }
    let activated = activation(op).and_then(|activation| with_activation(&*producer.op, Some(activation)));
    Ok(activated.map(|op| (op, producer.inputs.clone())))
}

/// Returns the activation that an operation computes.
fn activation(op: &dyn Any) -> Option<Activation> {
    if op.is::<Relu>() {
        Some(Activation::Relu)
    } else if op.is::<Sigmoid>() {
        Some(Activation::Sigmoid)
    } else if op.is::<Tanh>() {
        Some(Activation::Tanh)
    } else {
        None
    }
}

/// Returns the operation with an activation fused into it, if it supports one and has none.
fn with_activation(op: &dyn Op, activation: Option<Activation>) -> Option<Box<dyn Op>> {
    let op: &dyn Any = op;
    if let Some(op) = op.downcast_ref::<Conv2d>().filter(|op| op.activation.is_none()) {
        Some(Box::new(Conv2d { activation, ..*op }))
    } else if let Some(Linear { activation: None }) = op.downcast_ref() {
        Some(Box::new(Linear { activation }))
    } else if let Some(op) = op.downcast_ref::<BatchNormEval>().filter(|op| op.activation.is_none()) {
        Some(Box::new(BatchNormEval { activation, ..*op }))
    } else {
        None
    }
}

/// Folds a batch norm into the convolution or linear layer before it: `scale (w x + b - mean) + shift` has the weight
/// `scale w` and the bias `scale (b - mean) + shift`, where `scale` is `weight / sqrt(var + eps)`.
fn fold_batch_norm(
    producer: &Step,
    norm: &BatchNormEval,
    statistics: &[Source],
    output: &Shape,
) -> Result<Option<Fused>> {
    let op: &dyn Any = &*producer.op;
    // The channels of a batch norm are axis 1.
    if !(op.is::<Conv2d>() || op.is::<Linear>() && output.rank() == 2) {
        return Ok(None);
    }
    let Some(op) = with_activation(&*producer.op, norm.activation) else {
        return Ok(None);
    };
    let (Some(weights), Some(statistics)) = (constants(&producer.inputs[1..]), constants(&statistics[1..]))
    else {
        return Ok(None);
    };
    let (weight, bias) = (weights[0], weights.get(1));
    let device = weight.device();
    let statistics = statistics.iter().map(|tensor| tensor.to_f64()).collect::<Result<Vec<_>>>()?;
    let (mean, var) = (&statistics[0], &statistics[1]);
    let (gain, shift) = (statistics.get(2), statistics.get(3));
    let scale: Vec<f64> = var
        .iter()
        .enumerate()
        .map(|(c, var)| gain.map_or(1.0, |gain| gain[c]) / (var + norm.eps).sqrt())
        .collect();
    let mut scaled = weight.to_f64()?;
    let row = scaled.len() / scale.len().max(1);
    for (row, scale) in scaled.chunks_exact_mut(row.max(1)).zip(&scale) {
        row.iter_mut().for_each(|w| *w *= scale);
    }
    let mut sum = bias.map_or_else(|| Ok(vec![0.0; scale.len()]), |bias| bias.to_f64())?;
    for (c, b) in sum.iter_mut().enumerate() {
        *b = scale[c] * (*b - mean[c]) + shift.map_or(0.0, |shift| shift[c]);
    }
    let inputs = smallvec![
        producer.inputs[0].clone(),
        Source::Constant(Tensor::from_f64(*weight.shape(), &scaled, &device)?),
        Source::Constant(Tensor::from_f64([sum.len()], &sum, &device)?),
    ];
    Ok(Some((op, inputs)))
}

/// Returns the tensors of inputs that are all constants.
fn constants(inputs: &[Source]) -> Option<Vec<&Tensor>> {
    inputs
        .iter()
        .map(|source| match source {
            Source::Constant(tensor) => Some(tensor),
            Source::Value(_) => None,
        })
        .collect()
}
