//! [`ReportOptions`].

use std::time::Duration;

use neocog_data::Part;
use neocog_tensor::Device;

/// How a report is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReportOptions {
    /// Device that the network is evaluated on. Default: the CPU.
    pub device: Device,
    /// Number of data loader threads. Default: 1.
    pub workers: usize,
    /// The part to evaluate; `None` for the one that the best epoch was selected on. Default: `None`.
    pub part: Option<Part>,
    /// Leave out what the network predicts if that takes longer. Default: `None`.
    pub time_limit: Option<Duration>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        ReportOptions { device: Device::Cpu, workers: 1, part: None, time_limit: None }
    }
}

impl ReportOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the device that the network is evaluated on.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the number of data loader threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets the part to evaluate.
    #[must_use]
    pub fn part(mut self, part: Option<Part>) -> Self {
        self.part = part;
        self
    }

    /// Leaves out what the network predicts if that takes longer.
    #[must_use]
    pub fn time_limit(mut self, time_limit: Option<Duration>) -> Self {
        self.time_limit = time_limit;
        self
    }
}
