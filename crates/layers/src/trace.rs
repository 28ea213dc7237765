//! Traces of networks: the forward pass as a graph.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use neocog_autograd::{Param, ParamId, Tape, Var};
use neocog_graph::{Graph, Source};
use neocog_tensor::profile::Naming;
use neocog_tensor::{Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::layer::{Buffer, Context, Counter, Layer, StateUpdate, Visitor};

/// The reason why a network cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable(String);

impl fmt::Display for Untraceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The result of a trace: errors are those of the network.
pub(crate) type Traced<T> = Result<Result<T, Untraceable>>;

fn untraceable<T>(reason: impl Into<String>) -> Traced<T> {
    Ok(Err(Untraceable(reason.into())))
}

/// The forward pass of a network in training mode.
#[derive(Debug)]
pub(crate) struct TrainGraph {
    /// Its inputs are the input of the network, and `tensors`. Its outputs are the output of the network, and the values of
    /// `updates`, one after the other.
    pub graph: Graph,
    /// The parameters and buffers that are inputs, as positions in [`tensors`].
    pub tensors: Vec<usize>,
    /// Changes of the state of layers, with the number of values that they use.
    pub updates: Vec<(Arc<dyn StateUpdate>, usize)>,
    /// What a trace of another step must have as well.
    pub recorded: Recorded,
    /// Number of runs.
    pub runs: AtomicU64,
}

/// What a trace must have in common with later ones: its operations with attributes, sources and constants, outputs and updates.
#[derive(Debug)]
pub(crate) struct Recorded {
    steps: Vec<Step>,
    /// The state tensors that are inputs, and the outputs.
    ends: [Vec<usize>; 2],
    /// Hashes of the updates with their attributes.
    updates: Vec<u64>,
}

/// An operation of a trace.
#[derive(Debug)]
struct Step {
    op: &'static str,
    layer: Option<String>,
    /// Hash of the operation with its attributes.
    attributes: u64,
    /// The values that it uses, `None` for constants.
    sources: Vec<Option<usize>>,
    constants: Vec<Tensor>,
}

fn hash_of(value: &dyn fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

impl Recorded {
    fn of(graph: &Graph, tensors: &[usize], updates: &[(Arc<dyn StateUpdate>, usize)]) -> Self {
        let steps = graph.nodes().iter().map(|node| {
            let constants = node.inputs.iter().filter_map(|source| match source {
                Source::Constant(tensor) => Some(tensor.clone()),
                Source::Value(_) => None,
            });
            Step {
                op: node.op.name(),
                layer: node.scope.name().map(str::to_string),
                attributes: hash_of(&node.op),
                sources: node.inputs.iter().map(Source::value).collect(),
                constants: constants.collect(),
            }
        });
        Recorded {
            steps: steps.collect(),
            ends: [tensors.to_vec(), graph.outputs().to_vec()],
            updates: updates.iter().map(|(update, _)| hash_of(update)).collect(),
        }
    }

    /// Returns the reason why a graph that was traced before cannot be used for later steps, if a later trace differs.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn difference(&self, later: &Recorded) -> Result<Option<Untraceable>> {
        let reason = |step: &Step, what: &str| {
            let of = step.layer.as_ref().map_or(String::new(), |layer| format!(" of the layer {layer}"));
            Some(Untraceable(format!(
                "{what} of the operation {}{of} changes from step to step: it is computed without the tape",
                step.op
            )))
        };
        for (step, other) in self.steps.iter().zip(&later.steps) {
            if step.attributes != other.attributes {
                return Ok(reason(step, "an attribute"));
            }
            if step.sources != other.sources {
                return Ok(reason(step, "an input"));
            }
            for (a, b) in step.constants.iter().zip(&other.constants) {
                if !a.is_same(b) && (a.shape() != b.shape() || bits(a)? != bits(b)?) {
                    return Ok(reason(step, "a constant"));
                }
            }
        }
        let what = if self.steps.len() != later.steps.len() {
            "the number of operations"
        } else if self.ends != later.ends {
            "which parameters are used, or what is the output,"
        } else if self.updates != later.updates {
            "an attribute of an update of state"
        } else {
            return Ok(None);
        };
        Ok(Some(Untraceable(format!("{what} changes from step to step"))))
    }
}

fn bits(tensor: &Tensor) -> Result<Vec<u64>> {
    Ok(tensor.to_f64()?.into_iter().map(f64::to_bits).collect())
}

/// A parameter or a buffer of a network.
#[derive(Clone, Copy)]
pub(crate) enum StateTensor<'a> {
    Param(&'a Param),
    Buffer(&'a Buffer),
}

impl<'a> StateTensor<'a> {
    pub(crate) fn param(self) -> &'a Param {
        match self {
            StateTensor::Param(param) => param,
            StateTensor::Buffer(buffer) => buffer.value(),
        }
    }
}

/// Returns all parameters and buffers of a network, in the order in which they are declared.
pub(crate) fn tensors(network: &dyn Layer) -> Vec<StateTensor<'_>> {
    struct Collector<'a>(Vec<StateTensor<'a>>);
    impl<'a> Visitor<'a> for Collector<'a> {
        fn param(&mut self, _name: &str, param: &'a Param) {
            self.0.push(StateTensor::Param(param));
        }
        fn buffer(&mut self, _name: &str, buffer: &'a Buffer) {
            self.0.push(StateTensor::Buffer(buffer));
        }
        fn counter(&mut self, _name: &str, _counter: &'a Counter) {}
        fn child(&mut self, _name: Option<&str>, layer: &'a dyn Layer) {
            layer.visit(self);
        }
    }
    let mut collector = Collector(Vec::new());
    network.visit(&mut collector);
    collector.0
}

/// Returns a number that grows whenever a parameter, a buffer or a counter of a network changes.
pub(crate) fn version(network: &dyn Layer) -> u64 {
    struct Sum(u64);
    impl<'a> Visitor<'a> for Sum {
        fn param(&mut self, _name: &str, param: &'a Param) {
            self.0 = self.0.wrapping_add(param.version());
        }
        fn buffer(&mut self, _name: &str, buffer: &'a Buffer) {
            self.0 = self.0.wrapping_add(buffer.value().version());
        }
        fn counter(&mut self, _name: &str, counter: &'a Counter) {
            self.0 = self.0.wrapping_add(counter.version());
        }
        fn child(&mut self, _name: Option<&str>, layer: &'a dyn Layer) {
            layer.visit(self);
        }
    }
    let mut sum = Sum(0);
    network.visit(&mut sum);
    sum.0
}

/// Records the inference of a network for inputs of shape `input` as a graph without rewrites. Parameters and buffers are constants
/// of the graph: their tensors, not copies.
///
/// # Errors
/// When the network does not accept such an input, or cannot be traced.
pub fn inference_graph(network: &dyn Layer, input: &Shape) -> Result<Graph> {
    let device = tensors(network).first().map_or(Device::Cpu, |tensor| tensor.param().value().device());
    inference(network, input, &device)?
        .map_err(|reason| Error::invalid_argument(format!("the network cannot be traced: {reason}")))
}

/// Traces the inference of a network for inputs of shape `input` on `device`. Parameters and buffers are constants of the graph.
///
/// # Errors
/// When the network does not accept such an input, or its parameters are on another device.
pub(crate) fn inference(network: &dyn Layer, input: &Shape, device: &Device) -> Traced<Graph> {
    if *device == Device::Meta {
        return nothing_to_compute();
    }
    let tape = Tape::tracing();
    let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
    let naming = Naming::begin();
    let y = match Context::eval(&tape).run(network, &x) {
        Ok(y) => y,
        Err(error) => return reads_values(error),
    };
    drop(naming);
    let (Some(x), Some(y)) = (x.slot(), y.slot()) else { return bypassed() };
    if uses_hidden(&tape, &tensors(network)) {
        return hidden_parameter();
    }
    let mut graph = Graph::new([*input]);
    // The values of the graph by their slots on the tape. Values that depend on parameters only are constants.
    let mut values = HashMap::from([(x, 0)]);
    for entry in tape.into_entries() {
        if !entry.inputs.iter().flatten().any(|slot| values.contains_key(slot)) {
            continue;
        }
        let mut sources = Vec::with_capacity(entry.inputs.len());
        for (slot, tensor) in entry.inputs.iter().zip(entry.saved_inputs) {
            match (slot.and_then(|slot| values.get(&slot)), tensor) {
                (Some(&value), _) => sources.push(Source::Value(value)),
                (None, Some(tensor)) if tensor.device() != Device::Meta => {
                    sources.push(constant(tensor, device)?);
                }
                _ => return not_recorded(entry.op.name(), entry.scope.name()),
            }
        }
        let first = graph.push_shared(entry.op, sources, entry.scope)?;
        values.extend((0..entry.outputs).map(|i| (entry.first_output + i, first + i)));
    }
    match values.get(&y) {
        Some(output) => graph.set_outputs([*output])?,
        None => return bypassed(),
    }
    Ok(Ok(graph))
}

/// Traces the forward pass of a network in training mode. Parameters and buffers are inputs of the graph.
///
/// # Errors
/// When the network does not accept such an input, or its parameters are on different devices.
pub(crate) fn training(network: &dyn Layer, input: &Shape, device: &Device) -> Traced<TrainGraph> {
    if *device == Device::Meta {
        return nothing_to_compute();
    }
    // State is recognized by its memory, so that no other tensor may have the same.
    let state = tensors(network);
    state.iter().try_for_each(|tensor| tensor.param().unshare())?;
    let tape = Tape::tracing_gradients();
    let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
    let naming = Naming::begin();
    let context = Context::train(&tape, 0).tracing();
    let y = match context.run(network, &x) {
        Ok(y) => y,
        Err(error) => return reads_values(error),
    };
    drop(naming);
    let (draws, recorded) = context.into_trace();
    let (Some(x), Some(y)) = (x.slot(), y.slot()) else { return bypassed() };

    if uses_hidden(&tape, &state) {
        return hidden_parameter();
    }
    let positions: HashMap<ParamId, usize> =
        state.iter().enumerate().map(|(i, tensor)| (tensor.param().id(), i)).collect();
    let mut inputs = Inputs { shapes: vec![*input], values: HashMap::from([(x, 0)]), tensors: Vec::new() };
    for (id, slot) in tape.param_slots() {
        let Some(&position) = positions.get(&id) else { return hidden_parameter() };
        inputs.values.insert(slot, inputs.shapes.len());
        inputs.shapes.push(state[position].param().shape());
        inputs.tensors.push(position);
    }
    let entries: Vec<_> = tape.into_entries().collect();
    // Constants that are buffers are inputs.
    let mut buffers: HashMap<usize, usize> = HashMap::new();
    for tensor in entries.iter().flat_map(|entry| constants(&entry.inputs, &entry.saved_inputs)) {
        let same = |state: &StateTensor<'_>| state.param().value().is_same(tensor);
        if let Some(position) = state.iter().position(same)
            && !buffers.contains_key(&position)
        {
            buffers.insert(position, inputs.shapes.len());
            inputs.shapes.push(*tensor.shape());
            inputs.tensors.push(position);
        }
    }
    let Inputs { shapes, mut values, tensors } = inputs;
    let mut graph = Graph::new(shapes);
    for entry in entries {
        let mut sources = Vec::with_capacity(entry.inputs.len());
        for (slot, tensor) in entry.inputs.iter().zip(entry.saved_inputs) {
            let value = match (slot, &tensor) {
                (Some(slot), _) => values.get(slot),
                (None, Some(tensor)) => {
                    let is_buffer = |position: &usize| state[*position].param().value().is_same(tensor);
                    buffers.iter().find(|(position, _)| is_buffer(position)).map(|(_, value)| value)
                }
                (None, None) => None,
            };
            match (value, tensor) {
                (Some(&value), _) => sources.push(Source::Value(value)),
                (None, Some(tensor)) if slot.is_none() && tensor.device() != Device::Meta => {
                    sources.push(constant(tensor, device)?);
                }
                _ => return not_recorded(entry.op.name(), entry.scope.name()),
            }
        }
        let first = graph.push_shared(entry.op, sources, entry.scope)?;
        values.extend((0..entry.outputs).map(|i| (entry.first_output + i, first + i)));
    }
    let reseeded = graph.nodes().iter().filter(|node| node.op.reseeded(0).is_some()).count() as u64;
    if reseeded < draws {
        return untraceable(format!(
            "{draws} layers draw random numbers, but only {reseeded} operations implement Op::reseeded"
        ));
    }
    let mut outputs = match values.get(&y) {
        Some(output) => vec![*output],
        None => return bypassed(),
    };
    let mut updates = Vec::with_capacity(recorded.len());
    for (update, vars) in recorded {
        for var in &vars {
            match var.slot().and_then(|slot| values.get(&slot)) {
                Some(value) => outputs.push(*value),
                None => return untraceable("a layer updates its state with a value that is not recorded"),
            }
        }
        updates.push((update, vars.len()));
    }
    graph.set_outputs(outputs)?;
    let recorded = Recorded::of(&graph, &tensors, &updates);
    Ok(Ok(TrainGraph { graph, tensors, updates, recorded, runs: AtomicU64::new(0) }))
}

/// The inputs of a graph while it is created.
struct Inputs {
    shapes: Vec<Shape>,
    /// Values by their slots on the tape.
    values: HashMap<usize, usize>,
    tensors: Vec<usize>,
}

fn constants<'a>(
    slots: &'a [Option<usize>],
    tensors: &'a [Option<Tensor>],
) -> impl Iterator<Item = &'a Tensor> {
    slots.iter().zip(tensors).filter(|(slot, _)| slot.is_none()).filter_map(|(_, tensor)| tensor.as_ref())
}

/// Returns a constant of an operation. A number that is computed with is not on the device yet, as the values of a trace have none.
fn constant(tensor: Tensor, device: &Device) -> Result<Source> {
    let is_number = tensor.shape().rank() == 0 && tensor.device() == Device::Reference;
    Ok(Source::Constant(if is_number { tensor.to_device(device)? } else { tensor }))
}

/// Whether a pass used parameters, frozen or not, that are not among the state of the network.
fn uses_hidden(tape: &Tape, state: &[StateTensor<'_>]) -> bool {
    let known: HashSet<ParamId> = state.iter().map(|tensor| tensor.param().id()).collect();
    let used = tape.param_slots().into_iter().map(|(id, _)| id).chain(tape.frozen_params());
    used.into_iter().any(|id| !known.contains(&id))
}

fn hidden_parameter<T>() -> Traced<T> {
    untraceable("a layer uses a parameter that it does not pass to the visitor")
}

/// The values of a trace are on [`Device::Meta`]: a layer that reads them fails.
fn reads_values<T>(error: Error) -> Traced<T> {
    if error.kind() == ErrorKind::Device { untraceable(error.to_string()) } else { Err(error) }
}

fn nothing_to_compute<T>() -> Traced<T> {
    untraceable("there is nothing to compute on the meta device")
}

fn bypassed<T>() -> Traced<T> {
    untraceable("the output does not depend on the input: a layer runs operations without the tape")
}

fn not_recorded<T>(op: &str, layer: Option<&str>) -> Traced<T> {
    let of = layer.map_or(String::new(), |layer| format!(" of the layer {layer}"));
    untraceable(format!("an input of the operation {op}{of} was computed without the tape"))
}

/// Returns the value of a state tensor for a pass on `tape`: a leaf for a parameter, a constant for a buffer.
pub(crate) fn var(tape: &Tape, tensor: StateTensor<'_>) -> Var {
    match tensor {
        StateTensor::Param(param) => tape.param(param),
        StateTensor::Buffer(buffer) => Var::constant(buffer.value().value()),
    }
}
