//! Makes a graph simpler without changing what it computes.

use std::any::Any;

use smallvec::smallvec;

use super::graph::{Graph, Source, Step};
use crate::core::op::Op;
use crate::core::shape::Shape;
use crate::core::tensor::Tensor;
use crate::ops::{Activation, BatchNormEval, Conv2d, Linear, PackedConv2d, Relu, Sigmoid, Tanh};
use neocog_base::Result;

/// Leaves out what `output` does not depend on, and folds batch norms and activations into the operations before them.
pub(super) fn simplify(graph: &mut Graph, output: usize) -> Result<()> {
    prune(graph, output);
    let uses = uses(graph, output);
    let mut maker: Vec<Option<usize>> = vec![None; graph.shapes.len()];
    let mut steps: Vec<Step> = Vec::with_capacity(graph.steps.len());
    for step in std::mem::take(&mut graph.steps) {
        let before = match step.inputs.first() {
            Some(Source::Value(value)) if uses[*value] == 1 => maker[*value].map(|at| &mut steps[at]),
            _ => None,
        };
        if let Some(before) = before
            && let Some((op, inputs)) = joined(before, &step, &graph.shapes)?
        {
            // In its place, where all inputs are there already; it makes the later one's output.
            let at = maker[before.first_output];
            before.op = op;
            before.inputs = inputs;
            before.first_output = step.first_output;
            maker[step.first_output] = at;
            continue;
        }
        step.outputs().for_each(|value| maker[value] = Some(steps.len()));
        steps.push(step);
    }
    graph.steps = steps;
    Ok(())
}

/// Packs the constant weights of convolutions, as their device wants them.
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

/// How often each value is used; the output counts once more.
fn uses(graph: &Graph, output: usize) -> Vec<usize> {
    let mut uses = vec![0; graph.shapes.len()];
    graph.steps.iter().flat_map(Step::values).for_each(|value| uses[value] += 1);
    uses[output] += 1;
    uses
}

/// Leaves out steps none of whose outputs is used.
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

type Joined = (Box<dyn Op>, smallvec::SmallVec<[Source; 4]>);

/// One operation for two that follow each other, if there is one.
fn joined(before: &Step, step: &Step, shapes: &[Shape]) -> Result<Option<Joined>> {
    let op: &dyn Any = &*step.op;
    if let Some(norm) = op.downcast_ref::<BatchNormEval>() {
        return folded(before, norm, &step.inputs, &shapes[step.first_output]);
    }
    let activated = activation(op).and_then(|activation| with_activation(&*before.op, Some(activation)));
    Ok(activated.map(|op| (op, before.inputs.clone())))
}

/// The activation that an operation is.
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

/// The same operation with this activation at its end, if it can have one and has none yet.
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

/// A convolution or a linear layer with the batch norm behind it: `scale (w x + b - mean) + shift` is a sum with the weight
/// `scale w` and the bias `scale (b - mean) + shift`, where `scale` is `weight / sqrt(var + eps)`.
fn folded(
    before: &Step,
    norm: &BatchNormEval,
    statistics: &[Source],
    output: &Shape,
) -> Result<Option<Joined>> {
    let op: &dyn Any = &*before.op;
    // The channels of a batch norm are axis 1.
    if !(op.is::<Conv2d>() || op.is::<Linear>() && output.rank() == 2) {
        return Ok(None);
    }
    let Some(op) = with_activation(&*before.op, norm.activation) else {
        return Ok(None);
    };
    let (Some(weights), Some(statistics)) = (constants(&before.inputs[1..]), constants(&statistics[1..]))
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
        before.inputs[0].clone(),
        Source::Constant(Tensor::from_f64(*weight.shape(), &scaled, &device)?),
        Source::Constant(Tensor::from_f64([sum.len()], &sum, &device)?),
    ];
    Ok(Some((op, inputs)))
}

/// The tensors of inputs that are all constant.
fn constants(inputs: &[Source]) -> Option<Vec<&Tensor>> {
    inputs
        .iter()
        .map(|source| match source {
            Source::Constant(tensor) => Some(tensor),
            Source::Value(_) => None,
        })
        .collect()
}
