//! Plans of networks: what a network computes when it predicts, recorded once and made simpler.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use neocog_autograd::{Tape, Var};
use neocog_tensor::plan::{Graph, Plan, Source};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::layer::{Context, Layer};

/// Plans what `network` computes in prediction mode for inputs of the shape `input`, on `device`, where its parameters are.
/// The plan holds parameters and running statistics as they are now.
///
/// The network's own `forward` is recorded, with an input that has a shape only. `None` if some of it cannot be recorded (a
/// layer that computes beside the tape, or makes tensors of its own on its input's device), and on the meta device.
///
/// # Errors
/// When the network does not take such an input, or its parameters are on another device.
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
    // The values of the graph by their slots on the tape. What depends on parameters alone is on their device: constant.
    let mut values = HashMap::from([(x, 0)]);
    for step in tape.into_steps() {
        if !step.inputs.iter().flatten().any(|slot| values.contains_key(slot)) {
            continue;
        }
        let mut sources = Vec::with_capacity(step.inputs.len());
        for (slot, tensor) in step.inputs.iter().zip(step.saved_inputs) {
            match (slot.and_then(|slot| values.get(&slot)), tensor) {
                (Some(&value), _) => sources.push(Source::Value(value)),
                (None, Some(tensor)) if tensor.device() != Device::Meta => {
                    sources.push(Source::Constant(tensor))
                }
                _ => return Ok(None),
            }
        }
        let first = graph.push(step.op, sources, step.scope)?;
        values.extend((0..step.outputs).map(|i| (step.first_output + i, first + i)));
    }
    match values.get(&y) {
        Some(&output) => graph.plan(output, device).map(Some),
        None => Ok(None),
    }
}

/// By the shape of the input and where it is; nothing if the network cannot be planned.
type Plans = HashMap<(Shape, Device), Option<Arc<Plan>>>;

/// Predicts with a network by plans: one for each shape of input, made when it is first seen, and kept. A network that cannot
/// be planned runs layer by layer.
///
/// Parameters and running statistics should not change meanwhile: plans hold them as they were. Several threads may predict at
/// once.
#[derive(Debug)]
pub struct Predictor<'n> {
    network: &'n dyn Layer,
    plans: Mutex<Plans>,
}

impl<'n> Predictor<'n> {
    /// Predicts with `network`.
    pub fn new(network: &'n dyn Layer) -> Self {
        Predictor { network, plans: Mutex::default() }
    }

    /// The network's output in prediction mode.
    ///
    /// # Errors
    /// Those of the network: when the input does not fit, or a device fails.
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

    /// The plan for inputs of a shape; `None` if the network cannot be planned.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(&self, input: &Shape, device: &Device) -> Result<Option<Arc<Plan>>> {
        let key = (*input, device.clone());
        if let Some(plan) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(plan.clone());
        }
        let plan = plan(self.network, input, device)?.map(Arc::new);
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(key, plan.clone());
        Ok(plan)
    }
}
