//! A network with trained weights, and what its file says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use neocog_data::transform::{Pipeline, Step};
use neocog_data::{DataSource, Preprocessing};
use neocog_layers::Layer;
use neocog_layers::state::uses_batch_statistics;
use neocog_tensor::{Error, Result};
use neocog_train::Checkpoint;

use crate::output;

/// A network with trained weights.
pub struct TrainedNetwork {
    /// The network.
    pub network: Arc<dyn Layer>,
    /// Its name.
    pub name: String,
    /// Its input, `[c, h, w]`.
    pub input: [usize; 3],
    /// The names of the classes; empty if unknown.
    pub class_names: Vec<String>,
    /// What turns an image into its input.
    pub preprocessing: Preprocessing,
    /// The checkpoint that the network is from.
    pub checkpoint: Option<Checkpoint>,
    /// The number of images that it can take at once, if that is limited.
    pub max_batch: Option<usize>,
}

impl TrainedNetwork {
    /// The transforms that apply to every image, in training and prediction.
    pub fn transforms(&self) -> &Pipeline {
        &self.preprocessing.transforms
    }

    /// Warns of results that depend on more than the image.
    pub fn with_warnings(self) -> Self {
        if uses_batch_statistics(&*self.network) {
            output::note(format_args!(
                "warning: a batch norm of the network has no running statistics (track_running_stats=False): the result for an image \
                 depends on the others of its batch, and a batch of one may have none"
            ));
        }
        self
    }

    /// The batch size to use where `asked` is asked for.
    pub fn batch_size(&self, asked: usize) -> usize {
        self.max_batch.map_or(asked, |most| most.min(asked))
    }

    /// The name of a class, or `class N` if unknown.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }
}

/// Returns the preprocessing and the class names of a weights file with this metadata: those in the metadata, or else
/// `preprocessing`, and the names of the data set.
///
/// # Errors
/// When the metadata are damaged or of another input, or there is no such data set.
pub fn described_by(
    metadata: &BTreeMap<String, String>,
    preprocessing: Preprocessing,
    data: Option<&str>,
) -> Result<(Preprocessing, Vec<String>)> {
    let names = class_names(metadata, data)?;
    let input = preprocessing.input;
    let mut preprocessing = Preprocessing::from_metadata(metadata)?.unwrap_or(preprocessing);
    check_channels(&preprocessing.transforms, input[0])?;
    preprocessing.input = input;
    Ok((preprocessing, names))
}

/// Returns the class names of a data set, or else those in the metadata of a file; none if they are not there.
///
/// # Errors
/// As [`class_names_of`].
pub fn class_names(metadata: &BTreeMap<String, String>, data: Option<&str>) -> Result<Vec<String>> {
    if let Some(data) = data {
        return class_names_of(data);
    }
    let names = metadata.get(Preprocessing::CLASS_NAMES).and_then(|names| serde_json::from_str(names).ok());
    Ok(names.unwrap_or_default())
}

/// Checks that a normalization has one mean, or one for each channel.
///
/// # Errors
/// When it has another number.
pub fn check_channels(transforms: &Pipeline, channels: usize) -> Result<()> {
    for step in &transforms.steps {
        if let Step::Normalize(normalize) = step
            && normalize.mean.len() != 1
            && normalize.mean.len() != channels
        {
            return Err(Error::invalid_argument(format!(
                "the normalization has means of {} channels, but the input has {channels}",
                normalize.mean.len()
            )));
        }
    }
    Ok(())
}

/// Returns the class names of a data set of the catalog, or of a folder.
///
/// # Errors
/// When there is no such data set, or the folder cannot be read.
pub fn class_names_of(data: &str) -> Result<Vec<String>> {
    DataSource::find(data)?.class_names()
}
