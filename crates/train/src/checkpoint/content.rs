//! The content of a checkpoint.
//!
//! It has no state of random number generators: initial parameters are a function of the seed, the order of the images
//! of the seed and the epoch, and dropout masks of the seed and the step.

use neocog_data::Preprocessing;
use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec};
use neocog_models::OptimizerConfig;
use neocog_models::trained::{Classifier, NamedTensor, load_state};
use neocog_tensor::{Context as _, Device, Error, Result, Shape};
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
        load_state(network, &self.state, &self.counters, &self.config.network)
    }

    /// Returns the network for the classification of image files.
    ///
    /// # Errors
    /// As [`Checkpoint::network`].
    pub fn classifier(&self, device: &Device) -> Result<Classifier> {
        let network = self.network(device)?;
        Ok(Classifier::new(network, self.preprocessing(), self.class_names.clone(), device))
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
        let all = self.state.iter().chain(optimizer).chain(average).chain(feedback);
        all.into_iter().try_for_each(NamedTensor::check)?;
        Shape::new(&self.input).context(|| "input")?;
        Ok(())
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
