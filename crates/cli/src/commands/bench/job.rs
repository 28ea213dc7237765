//! A network that is benchmarked in a process of its own, so that its peak memory can be measured.

use std::process::{Command, Stdio};

use neocog_bench::Record;
use neocog_bench::default_batch;
use neocog_models::Model;
use neocog_tensor::{Device, Error, Result};

use super::options::{RunArgs, ShapeArgs};

/// A network to benchmark in a process of its own.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub model: &'a Model,
    pub device: Device,
    pub threads: usize,
    pub batch: usize,
    /// Height and width; the network's own if `None`.
    pub size: Option<usize>,
    pub predict_only: bool,
    /// Seconds.
    pub budget: f64,
}

impl<'a> Job<'a> {
    /// A network on its own input, with the current number of threads.
    pub fn new(run: &RunArgs, model: &'a Model) -> Self {
        Job {
            model,
            device: run.device.device,
            threads: rayon::current_num_threads(),
            batch: default_batch(model),
            size: None,
            predict_only: run.predict_only,
            budget: run.budget,
        }
    }

    /// Sets the batch size and the size of the images where the arguments give them.
    #[must_use]
    pub fn shape(mut self, shape: &ShapeArgs) -> Self {
        self.batch = shape.batch.unwrap_or(self.batch);
        self.size = shape.size;
        self
    }

    /// Runs the benchmark and returns a record per mode.
    ///
    /// # Errors
    /// When the process cannot be started or fails.
    pub fn measure(&self) -> Result<Vec<Record>> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this executable", e))?;
        let mut command = Command::new(program);
        command.args(["bench", "networks", self.model.name, "--in-process"]);
        command.args(["--device", &self.device.to_string(), "--threads", &self.threads.to_string()]);
        command.args(["--batch", &self.batch.to_string(), "--budget", &self.budget.to_string()]);
        if let Some(size) = self.size {
            command.args(["--size", &size.to_string()]);
        }
        if self.predict_only {
            command.arg("--predict-only");
        }
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| Error::io("cannot start the benchmark process", e))?;
        if !output.status.success() {
            let name = self.model.name;
            return Err(Error::device(format!("the benchmark of {name} failed: {}", output.status)));
        }
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|e| Error::format("cannot parse the benchmark's result").with_source(e))
            })
            .collect()
    }
}
