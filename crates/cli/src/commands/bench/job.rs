//! A network that is benchmarked in a process of its own, so that its peak memory can be measured.

use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_bench::Record;
use neocog_tensor::{Device, Error, Result};

use super::options::{RunArgs, ShapeArgs};
use crate::conv_algorithm;

/// A network to benchmark in a process of its own.
#[derive(Clone, Debug)]
pub struct Job {
    /// The name of a registered network, or an ONNX file.
    pub network: String,
    pub device: Device,
    pub threads: usize,
    pub batch: usize,
    /// Height and width; the network's own if `None`.
    pub size: Option<usize>,
    pub predict_only: bool,
    /// Seconds.
    pub budget: f64,
}

impl Job {
    /// A network on its own input, with the current number of threads.
    pub fn new(run: &RunArgs, network: impl Into<String>, batch: usize) -> Self {
        Job {
            network: network.into(),
            device: run.device.device,
            threads: rayon::current_num_threads(),
            batch,
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

    /// The measuring time.
    pub fn budget(&self) -> Duration {
        Duration::from_secs_f64(self.budget)
    }

    /// Runs the benchmark and returns a record per mode.
    ///
    /// # Errors
    /// When the process cannot be started or fails.
    pub fn measure(&self) -> Result<Vec<Record>> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this executable", e))?;
        let mut command = Command::new(program);
        command.args(["bench", "networks", &self.network, "--in-process"]);
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
            let name = &self.network;
            return Err(Error::device(format!("the benchmark of {name} failed: {}", output.status)));
        }
        conv_algorithm::note_other_process();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|e| Error::format("cannot parse the benchmark's result").with_source(e))
            })
            .collect()
    }
}
