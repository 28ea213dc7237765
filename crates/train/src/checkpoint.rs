//! Checkpoints: all that a run needs to go on, in a file that is whole or not there.
//!
//! [`Checkpoint`] is the content; `file` has the format and how it is written so that nothing is lost.
//!
//! Random numbers need no state of their own: the order of the images is a function of the seed and the epoch, the
//! initial parameters of the seed, and what dropout drops of the seed and the step.

mod file;
mod version1;

use std::collections::BTreeMap;
use std::path::Path;

use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec};
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::fit::{EpochReport, Position};
use crate::meter::Totals;
use crate::optimizer::{Optimizer, OptimizerState};
use crate::plan::TrainConfig;

pub use file::{CheckpointDir, MAGIC, VERSION};

/// A run at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What is trained, on what, and how; with the seed of all randomness. Written as JSON.
    #[serde(with = "json")]
    pub plan: TrainConfig,
    /// The network as JSON.
    pub spec: String,
    /// The network's input, `[c, h, w]`.
    pub input: [usize; 3],
    /// What the classes are called.
    pub class_names: Vec<String>,
    /// Parameters and buffers, persistent or not, in the network's order.
    pub state: Vec<NamedTensor>,
    /// Numbers that count, by dotted name.
    pub counters: Vec<(String, u64)>,
    /// What the optimizer remembers of each parameter.
    pub optimizer: Vec<SavedMemory>,
    /// Where the run stands.
    pub position: Position,
    /// The sums over the batches of the unfinished epoch.
    pub sums: Totals,
    /// The reports of the finished epochs.
    pub history: Vec<EpochReport>,
}

/// A tensor with its dotted name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedTensor {
    /// The dotted name.
    pub name: String,
    /// The extents.
    pub shape: Vec<usize>,
    /// The elements in row-major order.
    pub values: Values,
}

/// Numbers as exact as the device holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Values {
    /// Of a device that computes in single precision.
    F32(Vec<f32>),
    /// Of the reference device.
    F64(Vec<f64>),
}

/// What an optimizer remembers of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedMemory {
    /// The parameter's dotted name.
    pub param: String,
    /// How many steps it has made.
    pub steps: u64,
    /// The tensors, each under the name of its slot.
    pub slots: Vec<NamedTensor>,
}

impl NamedTensor {
    fn new(name: impl Into<String>, tensor: &Tensor) -> Result<Self> {
        let name = name.into();
        let values = match tensor.device() {
            Device::Reference => Values::F64(tensor.to_f64()?),
            _ => Values::F32(tensor.to_f32()?),
        };
        let finite = match &values {
            Values::F32(values) => values.iter().all(|v| v.is_finite()),
            Values::F64(values) => values.iter().all(|v| v.is_finite()),
        };
        if !finite {
            let what = format!("{name} holds numbers that are not finite");
            return Err(Error::new(ErrorKind::Diverged, what));
        }
        Ok(NamedTensor { name, shape: tensor.shape().to_vec(), values })
    }

    fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = Shape::new(&self.shape)?;
        match &self.values {
            Values::F32(values) => Tensor::from_f32(shape, values, device),
            Values::F64(values) => Tensor::from_f64(shape, values, device),
        }
        .context(|| self.name.as_str())
    }
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Format` when it is no checkpoint, is from a newer version, is truncated
    /// or damaged. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        file::read(path)
    }

    /// The network as a spec.
    ///
    /// # Errors
    /// When it holds a kind of layer that is not linked in.
    pub fn spec(&self) -> Result<LayerSpec> {
        LayerSpec::from_json(&self.spec)
    }

    /// The network, built on `device`, with its parameters, buffers and counters.
    ///
    /// # Errors
    /// When the spec cannot be built, or the state is not its own.
    pub fn network(&self, device: &Device) -> Result<Box<dyn Layer>> {
        let [c, h, w] = self.input;
        let network = Builder::new(device, self.plan.seed).build(&self.spec()?, &[1, c, h, w].into())?;
        self.load_into(&*network)?;
        Ok(network)
    }

    /// Gives `network` the parameters, buffers and counters of this checkpoint.
    ///
    /// # Errors
    /// `Shape` when the checkpoint is of another network: the message lists all that is missing, too much, or of
    /// another shape. Then nothing was changed.
    pub fn load_into(&self, network: &dyn Layer) -> Result<()> {
        let entries = state::entries(network);
        self.check_fits(&entries)?;
        let tensors: BTreeMap<&str, &NamedTensor> = self.state.iter().map(|t| (t.name.as_str(), t)).collect();
        let counters: BTreeMap<&str, u64> = self.counters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        for (name, entry) in &entries {
            match entry {
                Entry::Counter(counter) => counter.set(counters[name.as_str()]),
                Entry::Param(param) => set(param, tensors[name.as_str()])?,
                Entry::Buffer(buffer) => set(buffer.value(), tensors[name.as_str()])?,
            }
        }
        Ok(())
    }

    fn check_fits(&self, entries: &[(String, Entry<'_>)]) -> Result<()> {
        let tensors = self.state.iter().map(|t| (t.name.as_str(), state::describe_tensor(&t.shape)));
        let counters = self.counters.iter().map(|(name, _)| (name.as_str(), state::COUNT.to_string()));
        let stored: Vec<_> = tensors.chain(counters).collect();
        let differences = state::differences(&stored, entries)?;
        if differences.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        Err(Error::shape(format!(
            "the checkpoint is of another network, it is of {}:\n  {}",
            self.plan.network,
            lines.join("\n  ")
        )))
    }

    pub(crate) fn state_of(network: &dyn Layer) -> Result<Vec<NamedTensor>> {
        let entries = state::entries(network);
        let tensors = entries.iter().filter_map(|(name, entry)| Some((name, entry.tensor()?)));
        tensors.map(|(name, tensor)| NamedTensor::new(name, &tensor.value())).collect()
    }

    pub(crate) fn counters_of(network: &dyn Layer) -> Vec<(String, u64)> {
        let entries = state::entries(network);
        entries
            .into_iter()
            .filter_map(|(name, entry)| match entry {
                Entry::Counter(counter) => Some((name, counter.get())),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn optimizer_state_of(optimizer: &Optimizer) -> Result<Vec<SavedMemory>> {
        let slots = optimizer.config().rule.slots();
        optimizer
            .memory()
            .iter()
            .map(|memory| {
                let slots = slots.iter().zip(&memory.slots).map(|(name, t)| NamedTensor::new(*name, t));
                Ok(SavedMemory {
                    param: memory.name.clone(),
                    steps: memory.steps,
                    slots: slots.collect::<Result<_>>().context(|| memory.name.as_str())?,
                })
            })
            .collect()
    }

    pub(crate) fn optimizer_state(&self, device: &Device) -> Result<Vec<OptimizerState>> {
        let slots = self.plan.optimizer.rule.slots();
        self.optimizer
            .iter()
            .map(|saved| {
                if !saved.slots.iter().map(|t| t.name.as_str()).eq(slots.iter().copied()) {
                    let names: Vec<&str> = saved.slots.iter().map(|t| t.name.as_str()).collect();
                    return Err(Error::format(format!(
                        "the optimizer's memory of {} holds {names:?}, {} needs {slots:?}",
                        saved.param,
                        self.plan.optimizer.rule.name()
                    )));
                }
                Ok(OptimizerState {
                    name: saved.param.clone(),
                    steps: saved.steps,
                    slots: saved.slots.iter().map(|t| t.tensor(device)).collect::<Result<_>>()?,
                })
            })
            .collect()
    }

    /// Checks what the format cannot: that each shape is possible and has as many elements as there are values.
    fn check(&self) -> Result<()> {
        let slots = self.optimizer.iter().flat_map(|memory| &memory.slots);
        for tensor in self.state.iter().chain(slots) {
            let count = match &tensor.values {
                Values::F32(values) => values.len(),
                Values::F64(values) => values.len(),
            };
            let elements = Shape::new(&tensor.shape).context(|| tensor.name.as_str())?.elements();
            if elements != count {
                return Err(Error::format(format!(
                    "{} of shape {:?} has {elements} elements, but {count} are there",
                    tensor.name, tensor.shape
                )));
            }
        }
        Shape::new(&self.input).context(|| "the input")?;
        Ok(())
    }
}

/// A value as a text of JSON within the binary file: its fields have names, so more can be added.
mod json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn set(param: &neocog_autograd::Param, saved: &NamedTensor) -> Result<()> {
    let device = param.value().device();
    param.set(&saved.tensor(&device)?).context(|| saved.name.as_str())
}
