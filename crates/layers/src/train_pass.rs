//! The forward pass of training, traced once and rewritten.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use neocog_autograd::{Tape, Var};
use neocog_graph::{Graph, Target, rewrite};
use neocog_tensor::{Device, Pass, Result, Shape, Tensor};

use crate::activation_memory::step_bytes;
use crate::layer::{Context, Layer};
use crate::trace::{self, TrainGraph, Untraceable};

/// Graphs by shape and device of the input, and by the positions of frozen parameters and buffers.
type Graphs = HashMap<(Shape, Device, Vec<usize>), Result<Arc<TrainGraph>, Untraceable>>;

/// Runs the forward pass of a network in training mode: dropout is active, and batch norm uses the statistics of the batch and
/// updates its running statistics.
///
/// For each shape of the input, the pass is traced at its first run, and its operations are fused by the registered rewrites
/// ([`neocog_graph`]). A network that cannot be traced runs layer by layer; [`TrainPass::reason`] tells why. Outputs, gradients
/// and updates are those of [`Context::train`].
///
/// What layers compute without the tape, such as an attribute of an operation, must be the same in each step. At the first runs, and at
/// ever fewer later ones, the pass is traced again and compared: if it differs, the network runs layer by layer from then on.
///
/// ```
/// use neocog_autograd::{Tape, Var};
/// use neocog_layers::{Builder, Linear, ReLU, Sequential, TrainPass};
/// use neocog_tensor::{Device, Tensor};
///
/// let spec = Sequential::new().then(Linear::new(3, 2)).then(ReLU {}).into();
/// let network = Builder::new(&Device::Cpu, 0).build(&spec, &[4, 3].into())?;
/// let pass = TrainPass::new(network);
/// for step in 0..2 {
///     let tape = Tape::new();
///     let x = Var::constant(Tensor::full([4, 3], 1.0, &Device::Cpu)?);
///     let output = pass.run(&tape, &x, step)?;
///     assert_eq!(output.shape().extents(), [4, 2]);
/// }
/// # Ok::<(), neocog_tensor::Error>(())
/// ```
#[derive(Debug)]
pub struct TrainPass {
    network: Arc<dyn Layer>,
    graphs: Mutex<Graphs>,
}

impl TrainPass {
    /// Creates the pass of a network.
    pub fn new(network: impl Into<Arc<dyn Layer>>) -> Self {
        TrainPass { network: network.into(), graphs: Mutex::default() }
    }

    /// Returns the network.
    pub fn network(&self) -> &dyn Layer {
        &*self.network
    }

    /// Returns the network, shared: for another pass or predictor.
    pub fn shared_network(&self) -> Arc<dyn Layer> {
        self.network.clone()
    }

    /// Computes the output for `input`, records the operations on `tape`, and updates the state of the layers. Use a different
    /// `seed` for each step.
    ///
    /// # Errors
    /// When the network does not accept the input, or the device fails.
    pub fn run(&self, tape: &Tape, input: &Var, seed: u64) -> Result<Var> {
        match self.traced(input.shape(), &input.tensor().device())? {
            Ok(traced) if self.is_current(&traced, input)? => self.run_traced(&traced, tape, input, seed),
            _ => Context::train(tape, seed).run(&*self.network, input),
        }
    }

    /// Counts a run. At the first ones, and after twice as many each time, compares the trace with a new one; if they differ, the
    /// network is not traced any more.
    fn is_current(&self, traced: &TrainGraph, input: &Var) -> Result<bool> {
        let runs = traced.runs.fetch_add(1, Ordering::Relaxed);
        if runs != 0 && !runs.is_power_of_two() {
            return Ok(true);
        }
        let (shape, device) = (input.shape(), input.tensor().device());
        let reason = match trace::training(&*self.network, shape, &device)? {
            Ok(again) => traced.recorded.difference(&again.recorded)?,
            Err(reason) => Some(reason),
        };
        let Some(reason) = reason else { return Ok(true) };
        let mut graphs = self.graphs.lock().unwrap_or_else(PoisonError::into_inner);
        graphs.insert(self.key(shape, &device), Err(reason));
        Ok(false)
    }

    fn run_traced(&self, traced: &TrainGraph, tape: &Tape, input: &Var, seed: u64) -> Result<Var> {
        let state = trace::tensors(&*self.network);
        let tensors = traced.tensors.iter().map(|position| trace::var(tape, state[*position]));
        let inputs = [input.clone()].into_iter().chain(tensors);
        let mut outputs = tape.run_graph(&traced.graph, inputs, seed)?.into_iter();
        let output = outputs.next().expect("the first output is that of the network");
        for (update, count) in &traced.updates {
            let values: Vec<Var> = outputs.by_ref().take(*count).collect();
            let tensors: Vec<&Tensor> = values.iter().map(Var::tensor).collect();
            update.update(&tensors)?;
        }
        Ok(output)
    }

    /// Returns the rewritten graph for inputs of a shape; `None` if the network cannot be traced.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn graph(&self, input: &Shape, device: &Device) -> Result<Option<Graph>> {
        Ok(self.traced(input, device)?.ok().map(|traced| traced.graph.clone()))
    }

    /// Returns the reason why the network cannot be traced for inputs of a shape and runs layer by layer, if that is so.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn reason(&self, input: &Shape, device: &Device) -> Result<Option<Untraceable>> {
        Ok(self.traced(input, device)?.err())
    }

    /// Estimates the bytes that a training step on inputs of a shape needs at the same time besides the parameters, in single
    /// precision: the input, activations, and gradients, those of the parameters included; without scratch memory of kernels.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn step_bytes(&self, input: &Shape, device: &Device) -> Result<usize> {
        let tape = Tape::new();
        let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
        let mut params = HashSet::new();
        match self.traced(input, device)? {
            Ok(traced) => {
                let state = trace::tensors(&*self.network);
                let mut inputs = vec![x];
                for position in &traced.tensors {
                    let tensor = state[*position];
                    let shape = tensor.param().shape();
                    inputs.push(match tensor {
                        trace::StateTensor::Param(_) => tape.leaf(Tensor::zeros(shape, &Device::Meta)?),
                        trace::StateTensor::Buffer(_) => Var::constant(Tensor::zeros(shape, &Device::Meta)?),
                    });
                }
                params.extend(inputs[1..].iter().filter_map(Var::slot));
                tape.run_graph(&traced.graph, inputs, 0)?;
            }
            Err(_) => {
                Context::train(&tape, 0).run(&*self.network, &x)?;
                params.extend(tape.param_slots().into_iter().map(|(_, slot)| slot));
            }
        }
        Ok(step_bytes(&tape, |slot| params.contains(&slot)))
    }

    /// Returns the key of a graph.
    fn key(&self, input: &Shape, device: &Device) -> (Shape, Device, Vec<usize>) {
        let state = trace::tensors(&*self.network);
        let frozen = state.iter().enumerate().filter(|(_, tensor)| tensor.param().is_frozen());
        (*input, *device, frozen.map(|(i, _)| i).collect())
    }

    fn traced(&self, input: &Shape, device: &Device) -> Result<Result<Arc<TrainGraph>, Untraceable>> {
        let key = self.key(input, device);
        if let Some(traced) = self.graphs.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(traced.clone());
        }
        let traced = match trace::training(&*self.network, input, device)? {
            Ok(mut traced) => {
                rewrite(&mut traced.graph, &Target { pass: Pass::Training, device })?;
                Ok(Arc::new(traced))
            }
            Err(reason) => Err(reason),
        };
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, traced.clone());
        Ok(traced)
    }
}
