//! [`Record`]: the result of one measurement.

use serde::{Deserialize, Serialize};

/// The result of one measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Name of the network, or of the operation and its case.
    pub name: String,
    /// Device, or name of the other library.
    pub device: String,
    /// `train`, `predict` or `op`.
    pub mode: String,
    /// Batch size; 0 for operations.
    pub batch: usize,
    /// Number of threads.
    pub threads: usize,
    /// Median time per call in seconds.
    pub median_s: f64,
    /// Minimum time per call in seconds.
    pub min_s: f64,
    /// Number of timed calls.
    pub calls: usize,
    /// Images per second at the median time.
    pub images_per_s: Option<f64>,
    /// 10^9 floating point operations per second at the median time: two per multiply-add of the forward pass, and three
    /// times as many for a training step.
    pub gflops: Option<f64>,
    /// `gflops` as a fraction of the machine's measured peak with the same number of threads.
    pub share_of_peak: Option<f64>,
    /// Peak resident set size of the process in MiB.
    pub peak_rss_mib: Option<f64>,
    /// Peak memory of tensors and scratch buffers on the device in MiB.
    pub peak_tensors_mib: Option<f64>,
}
