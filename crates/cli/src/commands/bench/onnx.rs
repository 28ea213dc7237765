//! ONNX models in `bench networks`.

#[cfg(not(feature = "onnx"))]
pub use absent::OnnxFile;
#[cfg(feature = "onnx")]
pub use present::OnnxFile;

#[cfg(not(feature = "onnx"))]
mod absent {
    use std::path::Path;

    use neocog_bench::Record;
    use neocog_bench::networks::{OpProfile, Options};
    use neocog_bench::python::OnnxJob;
    use neocog_tensor::Result;

    use super::super::job::Job;
    use super::super::options::ShapeArgs;
    use crate::commands::onnx_network::without_onnx;

    /// Of a program that cannot read ONNX models, there is none.
    pub struct OnnxFile {
        pub name: String,
        pub shape: [usize; 4],
    }

    impl OnnxFile {
        pub fn open(_file: &Path, _shape: &ShapeArgs) -> Result<Self> {
            Err(without_onnx())
        }

        pub fn measure(&self, _options: &Options, _peak: Option<f64>) -> Result<Vec<Record>> {
            Err(without_onnx())
        }

        pub fn profile(&self, _options: &Options, _peak: Option<f64>) -> Result<Vec<OpProfile>> {
            Err(without_onnx())
        }

        pub fn job(&self, _job: &Job, _folder: &Path) -> Result<OnnxJob> {
            Err(without_onnx())
        }
    }
}

#[cfg(feature = "onnx")]
mod present {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use neocog_bench::Record;
    use neocog_bench::networks::{self, OpProfile, Options};
    use neocog_bench::python::OnnxJob;
    use neocog_layers::{Layer, Predictor};
    use neocog_onnx::OnnxModel;
    use neocog_tensor::{Context as _, Device, Error, Result, Shape};
    use neocog_train::MemoryNeed;

    use super::super::job::Job;
    use super::super::options::ShapeArgs;
    use crate::commands::onnx_network::{input_of, read_network};
    use crate::output;

    /// An ONNX model, for inputs of one shape.
    pub struct OnnxFile {
        /// The path as it was given.
        pub name: String,
        /// Shape of the input, `[n, c, h, w]`.
        pub shape: [usize; 4],
        file: PathBuf,
    }

    impl OnnxFile {
        /// Reads the input of a model: that of the file, and where that is open, of the arguments.
        ///
        /// # Errors
        /// When the file cannot be read, or does not fit the arguments.
        pub fn open(file: &Path, shape: &ShapeArgs) -> Result<Self> {
            let location = || file.display().to_string();
            let network = read_network(file, &Device::Cpu)?;
            let [n, channels, ..] = network.input();
            let size = shape.size.map(|size| [channels.unwrap_or(3), size, size]);
            let [c, h, w] = input_of(&network, size).context(location)?;
            let default = if h * w <= 32 * 32 { 256 } else { 32 };
            let batch = shape.batch.or(n).unwrap_or(default);
            if n.is_some_and(|n| n != batch) {
                return Err(Error::invalid_argument(format!(
                    "the model is for batches of {}, not of {batch}",
                    n.unwrap_or_default()
                )))
                .context(location);
            }
            let name = file.display().to_string();
            Ok(OnnxFile { name, shape: [batch, c, h, w], file: file.to_path_buf() })
        }

        /// Measures prediction in this process.
        ///
        /// # Errors
        /// When the model cannot be read or run.
        pub fn measure(&self, options: &Options, peak: Option<f64>) -> Result<Vec<Record>> {
            let network = self.network(&options.device)?;
            let predictor = Predictor::new(network.clone());
            output::memory_warning(&MemoryNeed::of_inference(&predictor, self.shape, 0, &options.device)?);
            networks::bench_inference(&self.name, network, &self.input()?, options, peak)
        }

        /// Profiles prediction in this process.
        ///
        /// # Errors
        /// As [`OnnxFile::measure`].
        pub fn profile(&self, options: &Options, peak: Option<f64>) -> Result<Vec<OpProfile>> {
            let network = self.network(&options.device)?;
            networks::profile_inference(&self.name, network, &self.input()?, options, peak)
        }

        /// Returns the same benchmark for another runtime, with the output of this library for it, in files in `folder`.
        ///
        /// # Errors
        /// When the model cannot be read or run, or a file cannot be written.
        pub fn job(&self, job: &Job, folder: &Path) -> Result<OnnxJob> {
            // The output of the model itself, not the logits.
            let session = neocog_onnx::OnnxSession::new(OnnxModel::read(&self.file)?, &job.device)?;
            let x = networks::random_images(&self.input()?, &job.device)?;
            let outputs = session.run(std::slice::from_ref(&x)).context(|| self.name.clone())?;
            let y = outputs.first().ok_or_else(|| Error::format("the model has no output"))?;
            let [x_file, y_file] = ["x", "y"].map(|name| folder.join(format!("{name}.f32")));
            for (file, tensor) in [(&x_file, &x), (&y_file, &y.tensor)] {
                let bytes: Vec<u8> =
                    tensor.to_f32()?.into_iter().flat_map(|value| value.to_le_bytes()).collect();
                fs::write(file, bytes)
                    .map_err(|e| Error::io(format!("cannot write {}", file.display()), e))?;
            }
            Ok(OnnxJob::new(&self.name, &self.file, self.shape)
                .threads(job.threads)
                .budget(job.budget())
                .values(x_file, y_file))
        }

        fn input(&self) -> Result<Shape> {
            Shape::new(&self.shape)
        }

        fn network(&self, device: &Device) -> Result<Arc<dyn Layer>> {
            Ok(Arc::new(read_network(&self.file, device)?))
        }
    }
}
