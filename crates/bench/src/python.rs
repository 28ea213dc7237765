//! Measurements in Python: PyTorch, and runtimes of ONNX files, each in a separate process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_models::{Family, Model};
use neocog_tensor::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Record;

const TIMING: &str = include_str!("../python/timing.py");
const TORCH_NETWORKS: &str = include_str!("../python/torch_networks.py");
const RUN_TORCH: &str = include_str!("../python/run_torch.py");
const EXPORT_ONNX: &str = include_str!("../python/export_onnx.py");
const ONNX_INPUT: &str = include_str!("../python/onnx_input.py");
const RUN_ONNXRUNTIME: &str = include_str!("../python/run_onnxruntime.py");
const RUN_OPENVINO: &str = include_str!("../python/run_openvino.py");
const RUN_TRACT: &str = include_str!("../python/run_tract.py");
const RUN_TORCH_CONVOLUTIONS: &str = include_str!("../python/run_torch_convolutions.py");
const RUN_TORCH_LOADER: &str = include_str!("../python/run_torch_loader.py");

/// A Python interpreter with PyTorch, and with the runtimes that [`Python::onnx`] is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Python {
    /// Command that starts the interpreter.
    pub command: String,
}

/// A network to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NetworkJob {
    /// Model to measure.
    pub model: Model,
    /// Batch size.
    pub batch: usize,
    /// Number of threads. Default: the size of the current rayon pool.
    pub threads: usize,
    /// Measuring time for prediction and training together. Default: 6 s.
    pub budget: Duration,
}

impl NetworkJob {
    /// Creates a job with the default number of threads and measuring time.
    pub fn new(model: Model, batch: usize) -> Self {
        NetworkJob { model, batch, threads: rayon::current_num_threads(), budget: Duration::from_secs(6) }
    }

    /// Sets the number of threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the measuring time for prediction and training together.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }
}

/// A runtime of ONNX files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnnxRuntime {
    /// ONNX Runtime.
    OnnxRuntime,
    /// OpenVINO, in single precision.
    OpenVino,
    /// tract, which uses one thread.
    Tract,
}

impl OnnxRuntime {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            OnnxRuntime::OnnxRuntime => "ONNX Runtime",
            OnnxRuntime::OpenVino => "OpenVINO",
            OnnxRuntime::Tract => "tract",
        }
    }

    fn script(self) -> &'static str {
        match self {
            OnnxRuntime::OnnxRuntime => RUN_ONNXRUNTIME,
            OnnxRuntime::OpenVino => RUN_OPENVINO,
            OnnxRuntime::Tract => RUN_TRACT,
        }
    }
}

/// An ONNX file with one input to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnnxJob {
    /// Name of the network.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Shape of the input, `[n, c, h, w]`.
    pub shape: [usize; 4],
    /// Number of threads.
    pub threads: usize,
    /// Measuring time; a third of it is used, as for prediction where training is measured too.
    pub budget: Duration,
    /// Files of an input and of the output that is expected for it, as `f32` in little-endian order. Default: a random input.
    pub values: Option<[PathBuf; 2]>,
}

impl OnnxJob {
    /// Creates a job for a file, with the name, the batch size, threads and measuring time of another job.
    pub fn exported(job: &NetworkJob, file: PathBuf) -> Self {
        let [c, h, w] = job.model.input;
        Self::new(job.model.name, file, [job.batch, c, h, w]).threads(job.threads).budget(job.budget)
    }

    /// Creates a job with the default number of threads and measuring time.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>, shape: [usize; 4]) -> Self {
        OnnxJob {
            name: name.into(),
            file: file.into(),
            shape,
            threads: rayon::current_num_threads(),
            budget: Duration::from_secs(6),
            values: None,
        }
    }

    /// Sets the number of threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the measuring time.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the files of an input and of the output that is expected for it.
    #[must_use]
    pub fn values(mut self, input: PathBuf, output: PathBuf) -> Self {
        self.values = Some([input, output]);
        self
    }
}

/// A measurement in the output of a script.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measurement {
    pub mode: String,
    pub median_s: f64,
    min_s: f64,
    calls: usize,
    peak_rss_mib: f64,
    /// Greatest difference from the expected output, as a fraction of its greatest magnitude.
    #[serde(default)]
    difference: Option<f64>,
}

impl Python {
    /// Uses the interpreter that `command` starts, such as `python3`.
    pub fn new(command: impl Into<String>) -> Self {
        Python { command: command.into() }
    }

    /// Measures prediction and training in eager PyTorch, in the contiguous or the `channels_last` memory format.
    ///
    /// # Errors
    /// `Device` if Python or PyTorch is missing or fails.
    pub fn torch(&self, job: &NetworkJob, channels_last: bool) -> Result<Vec<Record>> {
        let mut request = job.to_json()?;
        request["channels_last"] = channels_last.into();
        let library = if channels_last { "PyTorch, channels last" } else { "PyTorch" };
        let measurements = self.measure(&[TIMING, TORCH_NETWORKS, RUN_TORCH], &request, job.threads)?;
        let name = job.model.name;
        Ok(measurements.into_iter().map(|m| m.record(name, library, job.batch, job.threads)).collect())
    }

    /// Exports the network with PyTorch as an ONNX file in `folder`, for batches of the job's size, and returns its path.
    ///
    /// # Errors
    /// `Device` if Python, PyTorch or its exporter (package `onnxscript`) is missing or fails.
    pub fn export_onnx(&self, job: &NetworkJob, folder: &Path) -> Result<PathBuf> {
        let file = folder.join(format!("{}-{}.onnx", job.model.name, job.batch));
        let mut request = job.to_json()?;
        request["file"] = file.to_string_lossy().into();
        self.run(&[TIMING, TORCH_NETWORKS, EXPORT_ONNX], &request, job.threads)?;
        Ok(file)
    }

    /// Measures prediction of an ONNX file in a runtime.
    ///
    /// # Errors
    /// `Device` if Python or the runtime is missing or fails.
    pub fn onnx(&self, runtime: OnnxRuntime, job: &OnnxJob) -> Result<Vec<Record>> {
        let measurements = self.run_onnx(runtime, job, job.budget)?;
        let [n, ..] = job.shape;
        Ok(measurements.into_iter().map(|m| m.record(&job.name, runtime.name(), n, job.threads)).collect())
    }

    /// Compares the output of a runtime with that of [`OnnxJob::values`]: returns the greatest difference, as a fraction of the greatest
    /// magnitude of that; `None` without values.
    ///
    /// # Errors
    /// As [`Python::onnx`], and if the output has another shape.
    pub fn onnx_difference(&self, runtime: OnnxRuntime, job: &OnnxJob) -> Result<Option<f64>> {
        let measurements = self.run_onnx(runtime, job, Duration::from_millis(1))?;
        Ok(measurements.into_iter().find_map(|m| m.difference))
    }

    fn run_onnx(&self, runtime: OnnxRuntime, job: &OnnxJob, budget: Duration) -> Result<Vec<Measurement>> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut request = json!({
            "file": text(&job.file),
            "shape": job.shape,
            "threads": job.threads,
            "budget": budget.as_secs_f64(),
        });
        if let Some([x, y]) = &job.values {
            (request["x"], request["y"]) = (text(x).into(), text(y).into());
        }
        self.measure(&[TIMING, ONNX_INPUT, runtime.script()], &request, job.threads)
    }

    /// Measures convolutions in PyTorch, described as `run_torch_convolutions.py` expects them.
    pub(crate) fn convolutions(
        &self,
        convolutions: &[Value],
        threads: usize,
        budget: Duration,
    ) -> Result<Vec<Measurement>> {
        let job = json!({ "convolutions": convolutions, "threads": threads, "budget": budget.as_secs_f64() });
        self.measure(&[TIMING, RUN_TORCH_CONVOLUTIONS], &job, threads)
    }

    /// Measures an epoch of torchvision's `ImageFolder` on `folder`, in seconds, in batches of `batch` images of `size` pixels.
    pub(crate) fn loader(&self, folder: &Path, workers: usize, [batch, size]: [usize; 2]) -> Result<f64> {
        let job = json!({ "folder": folder, "workers": workers, "batch": batch, "size": size });
        let measurements = self.measure(&[TIMING, RUN_TORCH_LOADER], &job, 1)?;
        Ok(measurements[0].median_s)
    }

    /// Runs the concatenated scripts in one process and parses the measurements that they print.
    fn run(&self, scripts: &[&str], job: &Value, threads: usize) -> Result<Vec<Measurement>> {
        let failed = |reason: String| {
            Error::device(format!(
                "`{}` failed: {reason}; if packages are missing, install them (`pip install torch torchvision`, for ONNX files `pip install \
                 onnx onnxscript onnxruntime openvino tract`), or select another interpreter with --python",
                self.command
            ))
        };
        let mut child = Command::new(&self.command)
            .args(["-c", &scripts.join("\n")])
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                let why = format!(
                    "cannot start the Python interpreter `{}`; select one with --python",
                    self.command
                );
                Error::device(why).with_source(e)
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the process has already exited, its standard error has the reason.
            let _ = stdin.write_all(job.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(failed(
                stderr.lines().last().unwrap_or("it failed without an error message").to_string(),
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let parse =
            |line| serde_json::from_str(line).map_err(|e| failed(format!("unexpected output `{line}`: {e}")));
        text.lines().map(parse).collect()
    }

    /// As [`Python::run`], for scripts that print at least one measurement.
    fn measure(&self, scripts: &[&str], job: &Value, threads: usize) -> Result<Vec<Measurement>> {
        let measurements = self.run(scripts, job, threads)?;
        if measurements.is_empty() {
            return Err(Error::device(format!(
                "`{}` printed no measurements: is it a Python interpreter? Select one with --python",
                self.command
            )));
        }
        Ok(measurements)
    }
}

impl NetworkJob {
    /// Describes the job for the scripts.
    fn to_json(&self) -> Result<Value> {
        // GoogLeNet and AlexNet are registered under other names, as those of the notes are.
        let torchvision = (self.model.family == Family::Torchvision)
            .then(|| self.model.name.strip_prefix("tv_").unwrap_or(self.model.name));
        Ok(json!({
            "spec": self.model.spec()?,
            "torchvision": torchvision,
            "input": self.model.input,
            "classes": self.model.classes,
            "batch": self.batch,
            "threads": self.threads,
            "budget": self.budget.as_secs_f64(),
        }))
    }
}

impl Measurement {
    fn record(self, name: &str, library: &str, batch: usize, threads: usize) -> Record {
        Record {
            name: name.to_string(),
            device: library.to_string(),
            mode: self.mode,
            batch,
            threads,
            median_s: self.median_s,
            min_s: self.min_s,
            calls: self.calls,
            images_per_s: Some(batch as f64 / self.median_s),
            gflops: None,
            share_of_peak: None,
            peak_rss_mib: Some(self.peak_rss_mib),
            peak_tensors_mib: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_interpreter_and_its_output() {
        let error_message = |command: &str, script: &str| {
            let python = Python::new(command);
            python.run(&[script], &json!({}), 1).unwrap_err().to_string()
        };
        let missing = error_message("no-python-of-this-name", "");
        assert!(missing.contains("no-python-of-this-name") && missing.contains("--python"), "{missing}");
        // `false` fails without output, and the output of `echo` is not JSON.
        assert!(error_message("false", "").contains("without an error message"));
        assert!(error_message("echo", "word").contains("unexpected output `-c word`"));
        let silent = Python::new("true").measure(&[""], &json!({}), 1).unwrap_err().to_string();
        assert!(silent.contains("`true` printed no measurements"), "{silent}");
    }
}
