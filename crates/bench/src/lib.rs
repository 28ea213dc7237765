//! Benchmarks of neocog: whole networks, single operations and single convolutions, also compared with PyTorch and ONNX
//! Runtime.
//!
//! | module | measures |
//! |---|---|
//! | [`networks`] | prediction and training steps of a network, and the time of each of its operations |
//! | [`ops`] | the timed cases of every registered operation |
//! | [`convolutions`] | the distinct convolutions of networks: forward, input gradient and weight gradient |
//! | [`compare`] | two or more implementations, in interleaved rounds |
//! | [`python`] | the same networks and convolutions in PyTorch and ONNX Runtime; the Python scripts are embedded |
//! | [`timing`] | single calls: warm-up, median, peak memory |
//!
//! A time is the median of single calls after a warm-up. A training step is forward, mean cross-entropy, backward and one
//! SGD step. Peak memory is that of the whole process, so `neocog bench` measures each network in a process of its own.
//!
//! The functions use the current rayon pool: the caller decides on the number of threads. Results are plain values that
//! serialize to one line of JSON each.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use neocog_bench::networks::{Options, bench_network};
//! use neocog_tensor::Device;
//!
//! let model = neocog_models::find("lenet")?;
//! let options = Options::new(Device::Cpu).batch(Some(4)).budget(Duration::from_millis(20));
//! for record in bench_network(&model, &options, None)? {
//!     println!("{} {}: {:.1} us", record.name, record.mode, record.median_s * 1e6);
//! }
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

mod batch;
pub mod compare;
pub mod convolutions;
pub mod networks;
pub mod ops;
pub mod python;
mod record;
pub mod timing;

pub use batch::default_batch;
pub use record::Record;
