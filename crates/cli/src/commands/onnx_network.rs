//! ONNX models in place of checkpoints and networks.

use std::path::Path;

#[cfg(not(feature = "onnx"))]
use neocog_tensor::Error;

/// Whether a file is an ONNX model, by its name.
pub(super) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// The error of a program that cannot read ONNX models.
#[cfg(not(feature = "onnx"))]
pub(super) fn without_onnx() -> Error {
    Error::invalid_argument("this program was built without ONNX; enable the cargo feature `onnx`")
}

#[cfg(not(feature = "onnx"))]
pub(super) use absent::open_onnx;
#[cfg(feature = "onnx")]
pub(super) use present::{input_of, open_onnx, read_network};

#[cfg(not(feature = "onnx"))]
mod absent {
    use std::path::Path;

    use neocog_tensor::{Device, Result};

    use super::without_onnx;
    use crate::commands::trained_network::TrainedNetwork;

    pub fn open_onnx(
        _file: &Path,
        _input: Option<[usize; 3]>,
        _data: Option<&str>,
        _device: &Device,
    ) -> Result<TrainedNetwork> {
        Err(without_onnx())
    }
}

#[cfg(feature = "onnx")]
mod present {
    use std::path::Path;
    use std::sync::Arc;

    use neocog_data::transform::Pipeline;
    use neocog_data::{Inversion, Preprocessing};
    use neocog_onnx::{OnnxModel, OnnxNetwork};
    use neocog_tensor::{Context as _, Device, Error, Result};

    use crate::commands::trained_network::{TrainedNetwork, described_by};

    /// Reads a model as a network for images.
    pub fn read_network(file: &Path, device: &Device) -> Result<OnnxNetwork> {
        OnnxNetwork::new(OnnxModel::read(file)?, device).context(|| file.display().to_string())
    }

    /// Returns the input of a network, `[c, h, w]`: that of the model, where that is open that of its metadata, and else `given`.
    ///
    /// # Errors
    /// When none says it, or `given` is another one.
    pub fn input_of(network: &OnnxNetwork, given: Option<[usize; 3]>) -> Result<[usize; 3]> {
        let [_, dims @ ..] = network.input();
        let described = Preprocessing::from_metadata(network.model().metadata())?.map(|found| found.input);
        let choice = given.or(described);
        let mut input = [0; 3];
        for (i, (extent, dim)) in input.iter_mut().zip(dims).enumerate() {
            *extent = match (dim, choice.map(|choice| choice[i])) {
                (Some(dim), Some(choice)) if given.is_some() && dim != choice => {
                    let [c, h, w] = dims.map(|dim| dim.map_or("any".to_string(), |dim| dim.to_string()));
                    return Err(Error::invalid_argument(format!("the input of the model is {c}x{h}x{w}")));
                }
                (Some(dim), _) => dim,
                (None, Some(choice)) => choice,
                (None, None) => {
                    return Err(Error::invalid_argument(
                        "the model is for images of any size; use --input, such as --input 3x224x224",
                    ));
                }
            };
        }
        Ok(input)
    }

    /// Opens a model as a trained network. `data` is the data set that names the classes.
    pub fn open_onnx(
        file: &Path,
        input: Option<[usize; 3]>,
        data: Option<&str>,
        device: &Device,
    ) -> Result<TrainedNetwork> {
        let location = || file.display().to_string();
        let network = read_network(file, device)?;
        let input = input_of(&network, input).context(location)?;
        let metadata = network.model().metadata();
        let mut preprocessing = Preprocessing::new(input, &Pipeline::default(), data);
        if data.is_none() {
            // Nothing says that it was trained on bright objects.
            preprocessing.inversion = Inversion::Never;
        }
        let (mut preprocessing, class_names) =
            described_by(metadata, preprocessing, data).context(location)?;
        if network.has_byte_input() {
            preprocessing.transforms = preprocessing.transforms.without_normalization();
        }
        let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(TrainedNetwork {
            name: metadata.get("neocog.network").cloned().unwrap_or_else(stem),
            max_batch: network.input()[0],
            network: Arc::new(network),
            input,
            class_names,
            preprocessing,
            checkpoint: None,
        })
    }
}
