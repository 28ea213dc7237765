//! Measurements in Python: PyTorch and ONNX Runtime, each in a separate process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_models::Model;
use neocog_tensor::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Record;

const TIMING: &str = include_str!("../python/timing.py");
const TORCH_NETWORKS: &str = include_str!("../python/torch_networks.py");
const RUN_TORCH: &str = include_str!("../python/run_torch.py");
const EXPORT_ONNX: &str = include_str!("../python/export_onnx.py");
const RUN_ONNXRUNTIME: &str = include_str!("../python/run_onnxruntime.py");
const RUN_TORCH_CONVOLUTIONS: &str = include_str!("../python/run_torch_convolutions.py");
const RUN_TORCH_LOADER: &str = include_str!("../python/run_torch_loader.py");

/// A Python interpreter with PyTorch, and with ONNX Runtime for [`Python::onnxruntime`].
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

/// A measurement in the output of a script.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measurement {
    pub mode: String,
    pub median_s: f64,
    min_s: f64,
    calls: usize,
    peak_rss_mib: f64,
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
        Ok(measurements.into_iter().map(|m| job.record(library, m)).collect())
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

    /// Measures prediction in ONNX Runtime, with a file written by [`Python::export_onnx`].
    ///
    /// # Errors
    /// `Device` if Python or ONNX Runtime is missing or fails.
    pub fn onnxruntime(&self, job: &NetworkJob, file: &Path) -> Result<Vec<Record>> {
        let mut request = job.to_json()?;
        request["file"] = file.to_string_lossy().into();
        let measurements = self.measure(&[TIMING, RUN_ONNXRUNTIME], &request, job.threads)?;
        Ok(measurements.into_iter().map(|m| job.record("ONNX Runtime", m)).collect())
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
                "`{}` failed: {reason}; if packages are missing, install them (`pip install torch`, and for ONNX Runtime `pip install \
                 onnx onnxscript onnxruntime`), or select another interpreter with --python",
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
        Ok(json!({
            "spec": self.model.spec()?,
            "input": self.model.input,
            "classes": self.model.classes,
            "batch": self.batch,
            "threads": self.threads,
            "budget": self.budget.as_secs_f64(),
        }))
    }

    fn record(&self, library: &str, measurement: Measurement) -> Record {
        Record {
            name: self.model.name.to_string(),
            device: library.to_string(),
            mode: measurement.mode,
            batch: self.batch,
            threads: self.threads,
            median_s: measurement.median_s,
            min_s: measurement.min_s,
            calls: measurement.calls,
            images_per_s: Some(self.batch as f64 / measurement.median_s),
            gflops: None,
            share_of_peak: None,
            peak_rss_mib: Some(measurement.peak_rss_mib),
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
