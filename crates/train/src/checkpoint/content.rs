//! The content of a checkpoint.
//!
//! It has no state of random number generators: initial parameters are a function of the seed, the order of the images
//! of the seed and the epoch, and dropout masks of the seed and the step.

use std::collections::BTreeMap;

use neocog_data::Preprocessing;
use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec};
use neocog_models::OptimizerConfig;
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::meter::Totals;
use crate::optimizer::{Optimizer, OptimizerState};
use crate::progress::{EpochReport, Position};

/// The complete state of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The configuration of the run. Stored as JSON.
    #[serde(rename = "plan", with = "json")]
    pub config: TrainConfig,
    /// The spec of the network as JSON.
    pub spec: String,
    /// Shape of one input, `[c, h, w]`.
    pub input: [usize; 3],
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Parameters and buffers, persistent or not, in the order of the network.
    pub state: Vec<NamedTensor>,
    /// Counters by dotted name.
    pub counters: Vec<(String, u64)>,
    /// State of the optimizer for each parameter.
    pub optimizer: Vec<SavedOptimizerState>,
    /// Position of the run.
    pub position: Position,
    /// Totals over the finished batches of the current epoch.
    pub sums: Totals,
    /// Reports of the finished epochs.
    pub history: Vec<EpochReport>,
    /// The averaged network of a run that keeps one; stored after the other fields.
    #[serde(skip)]
    pub average: Option<SavedAverage>,
    /// What the exchange of gradients in bf16 has left out so far; stored after the other fields.
    #[serde(skip)]
    pub feedback: Vec<SavedFeedback>,
}

/// What rounding to bf16 has left out of a sum of gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedFeedback {
    /// Number of the sum: 1 is that over all shards, `2 n` and `2 n + 1` are the halves of sum `n`, so that shard `s` of `S` is `S + s`.
    pub sum: u64,
    /// For each parameter that is trained.
    pub gradients: Vec<NamedTensor>,
}

/// Averaged parameters and running statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedAverage {
    /// Number of updates so far.
    pub updates: u64,
    /// Parameters and buffers, persistent or not, in the order of the network.
    pub state: Vec<NamedTensor>,
    /// Counters by dotted name.
    pub counters: Vec<(String, u64)>,
}

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedTensor {
    /// Dotted name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub values: Values,
}

/// The elements of a tensor, in the precision of the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Values {
    /// Single precision.
    F32(#[serde(deserialize_with = "numbers::deserialize")] Vec<f32>),
    /// Double precision, of the reference device.
    F64(#[serde(deserialize_with = "numbers::deserialize")] Vec<f64>),
}

impl Values {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F64(values) => bytemuck::cast_slice(values),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice_mut(values),
            Values::F64(values) => bytemuck::cast_slice_mut(values),
        }
    }
}

/// The state of an optimizer for one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedOptimizerState {
    /// Dotted name of the parameter.
    pub param: String,
    /// Number of steps made.
    pub steps: u64,
    /// The state tensors.
    #[serde(rename = "slots")]
    pub tensors: Vec<NamedTensor>,
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
            let what = format!("{name} has elements that are not finite");
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
    /// Returns the spec of the network.
    ///
    /// # Errors
    /// When it contains a kind of layer that is not linked in.
    pub fn spec(&self) -> Result<LayerSpec> {
        LayerSpec::from_json(&self.spec)
    }

    /// Returns what turns an image file into the input of the network, as in training.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing::new(self.input, &self.config.transforms, Some(&self.config.data))
    }

    /// Builds the network on `device`, with the parameters, buffers and counters of the checkpoint.
    ///
    /// # Errors
    /// When the spec cannot be built, or the state does not match it.
    pub fn network(&self, device: &Device) -> Result<Box<dyn Layer>> {
        let [c, h, w] = self.input;
        let network = Builder::to_load(device).build(&self.spec()?, &[1, c, h, w].into())?;
        self.load_into(&*network)?;
        Ok(network)
    }

    /// Loads the parameters, buffers and counters into `network`.
    ///
    /// # Errors
    /// `Shape` when the checkpoint is of another network: the message lists all tensors that are missing, unexpected or
    /// of another shape. `network` is not changed then.
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
            "the checkpoint does not match the network, it is of {}:\n  {}",
            self.config.network,
            lines.join("\n  ")
        )))
    }

    /// Returns a checkpoint of the averaged network, in place of the trained one; `None` for a run without an average.
    #[must_use]
    pub fn averaged(&self) -> Option<Self> {
        let average = self.average.clone()?;
        Some(Checkpoint {
            state: average.state,
            counters: average.counters,
            average: None,
            feedback: Vec::new(),
            ..self.clone()
        })
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

    pub(crate) fn optimizer_state_of(optimizer: &Optimizer) -> Result<Vec<SavedOptimizerState>> {
        let states = optimizer.state().iter();
        states
            .map(|state| {
                let tensors = 0..state.tensors.len();
                Ok(SavedOptimizerState {
                    param: state.name.clone(),
                    steps: state.steps,
                    tensors: tensors
                        .map(|i| Self::saved_optimizer_tensor(optimizer.config(), state, i))
                        .collect::<Result<_>>()?,
                })
            })
            .collect()
    }

    /// Returns tensor `i` of the state for a parameter.
    pub(crate) fn saved_optimizer_tensor(
        config: &OptimizerConfig,
        state: &OptimizerState,
        i: usize,
    ) -> Result<NamedTensor> {
        let tensor = &state.tensors[i];
        let names = config.kind.for_rank(tensor.shape().rank()).state_tensors();
        NamedTensor::new(names.get(i).copied().unwrap_or_default(), tensor).context(|| state.name.as_str())
    }

    pub(crate) fn optimizer_state(&self, device: &Device) -> Result<Vec<OptimizerState>> {
        self.optimizer
            .iter()
            .map(|saved| {
                let rank = saved.tensors.first().map_or(0, |tensor| tensor.shape.len());
                let names = self.config.optimizer.kind.for_rank(rank).state_tensors();
                // A parameter that was frozen has no state.
                let is_frozen = saved.steps == 0 && saved.tensors.is_empty();
                if !is_frozen && !saved.tensors.iter().map(|t| t.name.as_str()).eq(names.iter().copied()) {
                    let found: Vec<&str> = saved.tensors.iter().map(|t| t.name.as_str()).collect();
                    return Err(Error::format(format!(
                        "the optimizer state of {} has the tensors {found:?}, {} expects {names:?}",
                        saved.param,
                        self.config.optimizer.kind.name()
                    )));
                }
                Ok(OptimizerState {
                    name: saved.param.clone(),
                    steps: saved.steps,
                    tensors: saved.tensors.iter().map(|t| t.tensor(device)).collect::<Result<_>>()?,
                })
            })
            .collect()
    }

    /// Checks that each shape is valid and has as many elements as there are values.
    pub(super) fn check(&self) -> Result<()> {
        let optimizer = self.optimizer.iter().flat_map(|state| &state.tensors);
        let average = self.average.iter().flat_map(|average| &average.state);
        let feedback = self.feedback.iter().flat_map(|feedback| &feedback.gradients);
        for tensor in self.state.iter().chain(optimizer).chain(average).chain(feedback) {
            let count = match &tensor.values {
                Values::F32(values) => values.len(),
                Values::F64(values) => values.len(),
            };
            let elements = Shape::new(&tensor.shape).context(|| tensor.name.as_str())?.elements();
            if elements != count {
                return Err(Error::format(format!(
                    "{} of shape {:?} has {elements} elements, found {count} values",
                    tensor.name, tensor.shape
                )));
            }
        }
        Shape::new(&self.input).context(|| "input")?;
        Ok(())
    }
}

/// What the error of a decoder starts with if memory cannot be allocated.
pub(super) const NO_MEMORY: &str = "cannot allocate";

/// Numbers, for which memory may be lacking: that is an error.
mod numbers {
    use std::fmt;
    use std::marker::PhantomData;

    use neocog_base::memory::{no_memory, try_with_capacity};
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer};

    /// Numbers that are allocated before the first is read.
    const CAPACITY: usize = 1 << 16;

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(Numbers(PhantomData))
    }

    struct Numbers<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Numbers<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("numbers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<T>, A::Error> {
            // The length is not checked yet: memory grows with the numbers that are there.
            let len = access.size_hint().unwrap_or(0);
            let mut all = try_with_capacity(len.min(CAPACITY), "numbers").map_err(A::Error::custom)?;
            while let Some(value) = access.next_element()? {
                if all.len() == all.capacity() {
                    let more = all.try_reserve(1);
                    more.map_err(|_| A::Error::custom(no_memory::<T>(len, format_args!("{len} numbers"))))?;
                }
                all.push(value);
            }
            Ok(all)
        }
    }
}

/// A value as JSON text within the binary file: its fields have names, so that fields can be added.
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
