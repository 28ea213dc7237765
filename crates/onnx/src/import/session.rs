//! Runs models: a plan for each shape of the inputs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use neocog_base::text::count;
use neocog_base::{Context as _, Error, Result};
use neocog_graph::Plan;
use neocog_tensor::{Device, Shape, Tensor};

use super::converted::{Converted, OutputSource};
use super::model::OnnxModel;
use crate::proto::DataType;

/// Most elements of an input whose values a graph depends on.
const MAX_KNOWN: usize = 1 << 14;

/// An output of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnnxOutput {
    /// Its name in the file.
    pub name: String,
    /// Its elements.
    pub tensor: Tensor,
    /// The type that they have in the file.
    pub data_type: DataType,
}

/// What a plan is for: the shapes of all inputs, and the values of those that must be known.
type Key = (Vec<Shape>, Vec<Vec<u64>>);

/// A model, converted and planned for inputs of given shapes.
#[derive(Debug)]
struct Planned {
    /// `None` if nothing depends on the inputs.
    plan: Option<Plan>,
    /// The inputs of the plan.
    inputs: Vec<usize>,
    outputs: Vec<PlannedOutput>,
}

#[derive(Clone, Debug)]
struct PlannedOutput {
    /// The tensor, or the position among the outputs of the plan.
    source: OutputSource,
    data_type: DataType,
}

/// Runs a model on a device. Plans are made at the first use of a shape and kept. Several threads may use it at once.
#[derive(Debug)]
pub struct OnnxSession {
    model: Arc<OnnxModel>,
    device: Device,
    plans: Mutex<HashMap<Key, Arc<Planned>>>,
    /// The inputs whose values must be known, as far as that has been found out.
    known: Mutex<BTreeSet<usize>>,
}

impl OnnxSession {
    /// Creates a session for a model on a device.
    ///
    /// # Errors
    /// When the model has nodes that are not supported: the message lists all of them.
    pub fn new(model: impl Into<Arc<OnnxModel>>, device: &Device) -> Result<Self> {
        let model = model.into();
        model.check_supported()?;
        Ok(OnnxSession { model, device: *device, plans: Mutex::default(), known: Mutex::default() })
    }

    /// Returns the model.
    pub fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// Computes all outputs from all inputs, in the order of the file.
    ///
    /// # Errors
    /// When the number or the shape of the inputs is not that of the model, a node does not accept its inputs, or the device fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<OnnxOutput>> {
        self.model.check_inputs(inputs)?;
        let planned = self.planned(inputs)?;
        let computed = match &planned.plan {
            Some(plan) => {
                let given: Vec<Tensor> = planned
                    .inputs
                    .iter()
                    .map(|&input| inputs[input].to_device(&self.device))
                    .collect::<Result<_>>()?;
                plan.run_all(&given)?
            }
            None => Vec::new(),
        };
        let names = self.model.outputs();
        let output = |(name, output): (&String, &PlannedOutput)| OnnxOutput {
            name: name.clone(),
            tensor: match &output.source {
                OutputSource::Known(tensor) => tensor.clone(),
                OutputSource::Computed(at) => computed[*at].clone(),
            },
            data_type: output.data_type,
        };
        Ok(names.iter().zip(&planned.outputs).map(output).collect())
    }

    /// Returns the names of the operations that run for such inputs.
    ///
    /// # Errors
    /// As [`OnnxSession::run`].
    pub fn operations(&self, inputs: &[Tensor]) -> Result<Vec<&'static str>> {
        self.model.check_inputs(inputs)?;
        let planned = self.planned(inputs)?;
        Ok(planned.plan.iter().flat_map(Plan::operations).collect())
    }

    fn planned(&self, inputs: &[Tensor]) -> Result<Arc<Planned>> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let known = lock().clone();
            let shapes: Vec<Shape> = inputs.iter().map(|tensor| *tensor.shape()).collect();
            let bits = |input: &usize| Ok(inputs[*input].to_f64()?.into_iter().map(f64::to_bits).collect());
            let key = (shapes, known.iter().map(bits).collect::<Result<Vec<Vec<u64>>>>()?);
            let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(planned) = plans.get(&key) {
                return Ok(planned.clone());
            }
            drop(plans);
            match self.model.convert(inputs, &known, &self.device)? {
                Ok(converted) => {
                    let planned = Arc::new(plan(converted, &self.device)?);
                    let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
                    plans.insert(key, planned.clone());
                    return Ok(planned);
                }
                Err((wanted, error)) => {
                    let is_new = wanted.iter().any(|input| !known.contains(input));
                    if !is_new {
                        return Err(error);
                    }
                    for input in wanted {
                        let elements = inputs[input].shape().elements();
                        if elements > MAX_KNOWN {
                            return Err(error).context(|| {
                                format!(
                                    "it depends on the values of the input {}, which has {}",
                                    self.model.inputs()[input].name,
                                    count(elements, "element")
                                )
                            });
                        }
                        lock().insert(input);
                    }
                }
            }
        }
    }
}

fn plan(converted: Converted, device: &Device) -> Result<Planned> {
    let Converted { mut graph, inputs, outputs } = converted;
    let mut values: Vec<usize> = Vec::new();
    let mut planned = Vec::with_capacity(outputs.len());
    for (source, data_type) in outputs {
        let source = match source {
            OutputSource::Computed(value) => {
                values.push(value);
                OutputSource::Computed(values.len() - 1)
            }
            known @ OutputSource::Known(_) => known,
        };
        planned.push(PlannedOutput { source, data_type });
    }
    if values.is_empty() {
        return Ok(Planned { plan: None, inputs: Vec::new(), outputs: planned });
    }
    graph.set_outputs(values)?;
    if *device == Device::Meta {
        return Err(Error::device("there is nothing to compute on the meta device"));
    }
    Ok(Planned { plan: Some(graph.plan(device)?), inputs, outputs: planned })
}
