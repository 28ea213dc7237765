//! [`SavedNetwork`]: what a checkpoint holds of a network.

use std::collections::BTreeMap;
use std::path::Path;

use neocog_data::Preprocessing;
use neocog_data::transform::{Pipeline, Step};
use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec};
use neocog_tensor::{Context as _, Device, Error, Result, Shape};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::file::CheckpointFile;
use super::tensor::NamedTensor;
use super::version1::{Config1, Start1};

/// A trained network, with what turns an image into its input, and the names of its classes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SavedNetwork {
    /// Name of the network.
    pub name: String,
    /// Name of the data set that it was trained on, or path of the folder of images.
    pub data: String,
    /// Transforms of the images: random ones in training only, the others in prediction too.
    pub transforms: Pipeline,
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
}

impl SavedNetwork {
    /// Reads the network of the checkpoint at `path`; the state of the optimizer is not decoded.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Format` when it is not a checkpoint, has a newer version, or is truncated or
    /// damaged. The message names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = CheckpointFile::read(path)?;
        Self::decode(&file).context(|| path.display().to_string())
    }

    fn decode(file: &CheckpointFile) -> Result<Self> {
        let network = match file.version() {
            1 => Self::from(file.decode_start::<Start1>()?),
            _ => Self::from(file.decode_start::<Start>()?),
        };
        network.state.iter().try_for_each(NamedTensor::check)?;
        Shape::new(&network.input).context(|| "input")?;
        Ok(network)
    }

    /// Returns what turns an image file into the input of the network, as in training.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing::new(self.input, &self.transforms, Some(&self.data))
    }

    /// Builds the network on `device`.
    ///
    /// # Errors
    /// When the spec contains a kind of layer that is not linked in, cannot be built, or the state does not match it.
    pub fn network(&self, device: &Device) -> Result<Box<dyn Layer>> {
        let [c, h, w] = self.input;
        let spec = LayerSpec::from_json(&self.spec)?;
        let network = Builder::to_load(device).build(&spec, &[1, c, h, w].into())?;
        load_state(&*network, &self.state, &self.counters, &self.name)?;
        Ok(network)
    }
}

/// Loads parameters, buffers and counters of a checkpoint of the network `name` into `network`.
///
/// # Errors
/// `Shape` when the checkpoint is of another network: the message lists all tensors that are missing, unexpected or
/// of another shape. `network` is not changed then.
pub fn load_state(
    network: &dyn Layer,
    state: &[NamedTensor],
    counters: &[(String, u64)],
    name: &str,
) -> Result<()> {
    let entries = state::entries(network);
    check_fits(&entries, state, counters, name)?;
    let tensors: BTreeMap<&str, &NamedTensor> = state.iter().map(|t| (t.name.as_str(), t)).collect();
    let counters: BTreeMap<&str, u64> = counters.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    for (name, entry) in &entries {
        if let Entry::Counter(counter) = entry {
            counter.set(counters[name.as_str()]);
        } else if let Some(param) = entry.tensor() {
            let device = param.value().device();
            param.set(&tensors[name.as_str()].tensor(&device)?).context(|| name.as_str())?;
        }
    }
    Ok(())
}

fn check_fits(
    entries: &[(String, Entry<'_>)],
    state: &[NamedTensor],
    counters: &[(String, u64)],
    name: &str,
) -> Result<()> {
    let tensors = state.iter().map(|t| (t.name.as_str(), state::describe_tensor(&t.shape)));
    let counters = counters.iter().map(|(name, _)| (name.as_str(), state::COUNT.to_string()));
    let stored: Vec<_> = tensors.chain(counters).collect();
    let differences = state::differences(&stored, entries)?;
    if differences.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    Err(Error::shape(format!(
        "the checkpoint does not match the network, it is of {name}:\n  {}",
        lines.join("\n  ")
    )))
}

/// The first fields of a checkpoint since version 2, in the order in which they are stored.
#[derive(Deserialize)]
struct Start {
    #[serde(deserialize_with = "from_json")]
    config: Config,
    spec: String,
    input: [usize; 3],
    class_names: Vec<String>,
    state: Vec<NamedTensor>,
    counters: Vec<(String, u64)>,
}

/// What is needed of the configuration of the training.
#[derive(Deserialize)]
struct Config {
    network: String,
    data: String,
    #[serde(default)]
    transforms: Pipeline,
}

fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
    serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl From<Start> for SavedNetwork {
    fn from(start: Start) -> Self {
        let Start { config: Config { network: name, data, transforms }, .. } = start;
        let Start { spec, input, class_names, state, counters, .. } = start;
        SavedNetwork { name, data, transforms, spec, input, class_names, state, counters }
    }
}

impl From<Start1> for SavedNetwork {
    fn from(start: Start1) -> Self {
        let Start1 { config: Config1 { network: name, data, augment, .. }, .. } = start;
        let Start1 { spec, input, class_names, state, counters, .. } = start;
        let transforms = Pipeline::from_iter(augment.map(Step::RandomAffine));
        SavedNetwork { name, data, transforms, spec, input, class_names, state, counters }
    }
}
