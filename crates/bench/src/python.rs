//! The same work in Python: PyTorch and ONNX Runtime, each run in a process of its own.

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

/// A Python with PyTorch, and with ONNX Runtime if that is asked for.
#[derive(Clone, Debug)]
pub struct Python {
    /// The command that starts it.
    pub command: String,
}

/// What to measure of a network.
#[derive(Clone, Debug)]
pub struct Job {
    /// The network.
    pub model: Model,
    /// Images in a batch.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Time for both measurements of a network.
    pub budget: Duration,
}

/// A measurement, as the scripts write it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    pub mode: String,
    pub median_s: f64,
    min_s: f64,
    calls: usize,
    peak_rss_mib: f64,
}

impl Python {
    /// Prediction and training in PyTorch, eager, in its usual memory format or in `channels_last`.
    ///
    /// # Errors
    /// When Python or PyTorch is missing or fails.
    pub fn torch(&self, job: &Job, channels_last: bool) -> Result<Vec<Record>> {
        let mut text = job.json()?;
        text["channels_last"] = channels_last.into();
        let engine = if channels_last { "PyTorch, channels last" } else { "PyTorch" };
        let answers = self.run(&[TIMING, TORCH_NETWORKS, RUN_TORCH], &text, job.threads)?;
        Ok(answers.into_iter().map(|a| job.record(engine, a)).collect())
    }

    /// Writes a network as an ONNX file for batches of the job's size into `folder`.
    ///
    /// # Errors
    /// When Python, PyTorch or its exporter (the package `onnxscript`) is missing or fails.
    pub fn export_onnx(&self, job: &Job, folder: &Path) -> Result<PathBuf> {
        let file = folder.join(format!("{}-{}.onnx", job.model.name, job.batch));
        let mut text = job.json()?;
        text["file"] = file.to_string_lossy().into();
        self.run(&[TIMING, TORCH_NETWORKS, EXPORT_ONNX], &text, job.threads)?;
        Ok(file)
    }

    /// Prediction in ONNX Runtime, with the file of [`Python::export_onnx`].
    ///
    /// # Errors
    /// When Python or ONNX Runtime is missing or fails.
    pub fn onnxruntime(&self, job: &Job, file: &Path) -> Result<Vec<Record>> {
        let mut text = job.json()?;
        text["file"] = file.to_string_lossy().into();
        let answers = self.run(&[TIMING, RUN_ONNXRUNTIME], &text, job.threads)?;
        Ok(answers.into_iter().map(|a| job.record("ONNX Runtime", a)).collect())
    }

    /// Times of convolutions in PyTorch: those of `convolutions` as `run_torch_convolutions.py` wants them.
    pub(crate) fn convolutions(
        &self,
        convolutions: &[Value],
        threads: usize,
        budget: Duration,
    ) -> Result<Vec<Answer>> {
        let job = json!({ "convolutions": convolutions, "threads": threads, "budget": budget.as_secs_f64() });
        self.run(&[TIMING, RUN_TORCH_CONVOLUTIONS], &job, threads)
    }

    /// Runs scripts, one behind the other in one program, and reads their answers.
    fn run(&self, scripts: &[&str], job: &Value, threads: usize) -> Result<Vec<Answer>> {
        let failed = |what: String| {
            Error::device(format!(
                "cannot measure with `{}`: {what}; install what is missing (`pip install torch`, and for ONNX Runtime \
                 `pip install onnx onnxscript onnxruntime`), or name another Python with --python",
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
            .map_err(|e| failed(e.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended at once says why on its standard error.
            let _ = stdin.write_all(job.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(failed(stderr.lines().last().unwrap_or("it failed without a word").to_string()));
        }
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|e| failed(format!("it answered `{line}`: {e}"))))
            .collect()
    }
}

impl Job {
    fn json(&self) -> Result<Value> {
        Ok(json!({
            "spec": self.model.spec()?,
            "input": self.model.input,
            "classes": self.model.classes,
            "batch": self.batch,
            "threads": self.threads,
            "budget": self.budget.as_secs_f64(),
        }))
    }

    fn record(&self, engine: &str, answer: Answer) -> Record {
        Record {
            name: self.model.name.to_string(),
            device: engine.to_string(),
            mode: answer.mode,
            batch: self.batch,
            threads: self.threads,
            median_s: answer.median_s,
            min_s: answer.min_s,
            calls: answer.calls,
            images_per_s: Some(self.batch as f64 / answer.median_s),
            gflops: None,
            share_of_peak: None,
            peak_rss_mib: Some(answer.peak_rss_mib),
            peak_tensors_mib: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_that_is_missing_or_fails_is_told() {
        let text = |command: &str, script: &str| {
            let python = Python { command: command.into() };
            python.run(&[script], &json!({}), 1).unwrap_err().to_string()
        };
        let missing = text("no-python-of-this-name", "");
        assert!(missing.contains("no-python-of-this-name") && missing.contains("--python"), "{missing}");
        // `false` takes any arguments and fails without a word, `echo` answers with what is no JSON.
        assert!(text("false", "").contains("without a word"));
        assert!(text("echo", "word").contains("it answered `-c word`"));
    }
}
