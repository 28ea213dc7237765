//! Measurements: operations, whole networks, and the same in PyTorch, ONNX Runtime or on another device beside them.
//!
//! A figure is the median of single calls after a warm-up; the peak of memory is that of a process of its own.

pub mod against;
mod batch;
pub mod convolutions;
pub mod measure;
pub mod networks;
pub mod ops;
pub mod python;

pub use batch::default_batch;

use serde::Serialize;

/// One line of a benchmark's result.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Record {
    /// The network, or the operation and its case.
    pub name: String,
    /// The device, or the other library.
    pub device: String,
    /// `train`, `predict`, or the kind of operation.
    pub mode: String,
    /// Images in a batch; 0 where there are none.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Median time of a call, in seconds.
    pub median_s: f64,
    /// The shortest call, in seconds.
    pub min_s: f64,
    /// How many calls were timed.
    pub calls: usize,
    /// Images per second, at the median.
    pub images_per_s: Option<f64>,
    /// 10^9 floating point operations per second, at the median: two for each multiply-add of the forward pass, and
    /// three times that for a training step.
    pub gflops: Option<f64>,
    /// `gflops` as a share of the machine's measured peak on as many threads.
    pub share_of_peak: Option<f64>,
    /// The most memory that the process has held, in MiB.
    pub peak_rss_mib: Option<f64>,
    /// The most that tensors and scratch have held of the device's memory at once, in MiB.
    pub peak_tensors_mib: Option<f64>,
}
