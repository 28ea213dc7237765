//! Execution plans of networks: inference, traced once and optimized.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use neocog_autograd::{Tape, Var};
use neocog_tensor::plan::{Graph, Plan, Source};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::layer::{Context, Layer};

/// Creates an execution plan for `network` in evaluation mode, for inputs of shape `input` on `device`, where its parameters
/// are. The plan holds the current values of parameters and running statistics.
///
/// The `forward` of the network is traced with an input on [`Device::Meta`]. Returns `None` if it cannot be traced (a layer
/// that bypasses the tape, or creates tensors on the device of its input), and for [`Device::Meta`].
///
/// # Errors
/// When the network does not accept such an input, or its parameters are on another device.
pub fn plan(network: &dyn Layer, input: &Shape, device: &Device) -> Result<Option<Plan>> {
    if *device == Device::Meta {
        return Ok(None);
    }
    let tape = Tape::tracing();
    let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
    let y = Context::eval(&tape).run(network, &x)?;
    let (Some(x), Some(y)) = (x.slot(), y.slot()) else {
        return Ok(None);
    };
    let mut graph = Graph::new(*input);
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
                    sources.push(Source::Constant(tensor))
                }
                _ => return Ok(None),
            }
        }
        let first = graph.push(entry.op, sources, entry.scope)?;
        values.extend((0..entry.outputs).map(|i| (entry.first_output + i, first + i)));
    }
    match values.get(&y) {
        Some(&output) => graph.plan(output, device).map(Some),
        None => Ok(None),
    }
}

/// Plans by shape and device of the input; `None` if the network cannot be traced.
type Plans = HashMap<(Shape, Device), Option<Arc<Plan>>>;

/// Runs a network in evaluation mode with execution plans: one for each input shape, created at its first use and cached. A
/// network that cannot be traced runs layer by layer.
///
/// Plans hold the parameters and running statistics at the time of their creation: create a new predictor after training. A
/// predictor can be used by several threads at once.
#[derive(Debug)]
pub struct Predictor<'n> {
    network: &'n dyn Layer,
    plans: Mutex<Plans>,
}

impl<'n> Predictor<'n> {
    /// Creates a predictor for `network`.
    pub fn new(network: &'n dyn Layer) -> Self {
        Predictor { network, plans: Mutex::default() }
    }

    /// Computes the output of the network.
    ///
    /// # Errors
    /// When the network does not accept the input, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        match self.plan(input.shape(), &input.device())? {
            Some(plan) => plan.run(input),
            None => {
                let tape = Tape::no_grad();
                let output = Context::eval(&tape).run(self.network, &Var::constant(input.clone()))?;
                Ok(output.tensor().clone())
            }
        }
    }

    /// Returns the plan for inputs of a shape; `None` if the network cannot be traced.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(&self, input: &Shape, device: &Device) -> Result<Option<Arc<Plan>>> {
        let key = (*input, *device);
        if let Some(plan) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(plan.clone());
        }
        let plan = plan(self.network, input, device)?.map(Arc::new);
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(key, plan.clone());
        Ok(plan)
    }
}
