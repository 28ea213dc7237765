//! Measures whole networks: a step of training, and prediction.
//!
//! A step is what it is in PyTorch: forward in training mode, mean cross-entropy, backward, one step of SGD.

use std::collections::HashMap;
use std::time::Duration;

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Context, Layer, Predictor};
use neocog_models::Model;
use neocog_tensor::opencl::{KernelTime, Profile};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Result, Shape, Tensor, memory_report, profile};
use neocog_train::{Optimizer, OptimizerConfig, OptimizerKind};

use crate::Record;
use crate::batch::default_batch;
use crate::measure::{Times, measure, peak_rss_mib};

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device.
    pub device: Device,
    /// Threads; only noted, the caller provides them.
    pub threads: usize,
    /// Images in a batch; the model's own number if `None`.
    pub batch: Option<usize>,
    /// Height and width of the images; the model's own if `None`.
    pub size: Option<usize>,
    /// Whether training is measured too.
    pub train: bool,
    /// Time for both measurements of a network.
    pub budget: Duration,
}

/// A network with something to do.
struct Bench {
    network: Box<dyn Layer>,
    optimizer: Optimizer,
    x: Var,
    y: Var,
    batch: usize,
    multiply_adds: u64,
    step: u64,
}

impl Bench {
    fn new(model: &Model, options: &Options) -> Result<Self> {
        let batch = options.batch.unwrap_or_else(|| default_batch(model));
        let [c, h, w] = match options.size {
            Some(size) => [model.input[0], size, size],
            None => model.input,
        };
        let spec = model.spec_for([c, h, w], model.classes)?;
        let input = Shape::new(&[batch, c, h, w])?;
        let network = Builder::new(&options.device, 0).build(&spec, &input)?;
        let mut random = Random::stream(0, "bench");
        let pixels: Vec<f32> = (0..input.elements()).map(|_| random.next_unit()).collect();
        let labels: Vec<f32> =
            (0..batch).map(|_| (random.next_u32() as usize % model.classes) as f32).collect();
        let config = OptimizerConfig { lr: 0.01, rule: OptimizerKind::named("sgd")? };
        Ok(Bench {
            x: Var::constant(Tensor::from_f32(input, &pixels, &options.device)?),
            y: Var::constant(Tensor::from_f32([batch], &labels, &options.device)?),
            multiply_adds: neocog_layers::summary::summarize(&*network, &input)?.multiply_adds,
            optimizer: Optimizer::new(config, &*network)?,
            network,
            batch,
            step: 0,
        })
    }

    fn predict(&self, predictor: &Predictor<'_>) -> Result<()> {
        // Reading one number waits for the device.
        predictor.run(self.x.tensor())?.narrow(0, 1)?.to_f32().map(drop)
    }

    fn train(&mut self) -> Result<()> {
        self.step += 1;
        let tape = Tape::new();
        let logits = self.network.forward(&Context::train(&tape, self.step), &self.x)?;
        let loss = tape
            .apply(CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 }, &[&logits, &self.y])?
            .remove(0);
        let grads = tape.backward(&loss)?;
        self.optimizer.step(&*self.network, &grads, 0.01)?;
        loss.tensor().item().map(drop)
    }
}

/// Measures prediction, then training unless that is not wanted, in this process.
///
/// # Errors
/// When the network cannot be built or run.
pub fn bench_network(model: &Model, options: &Options, peak_gflops: Option<f64>) -> Result<Vec<Record>> {
    let mut bench = Bench::new(model, options)?;
    let record = |bench: &Bench, mode: &str, times: &Times, passes: f64| {
        let gflops = 2.0 * passes * bench.multiply_adds as f64 / times.median() / 1e9;
        Record {
            name: model.name.to_string(),
            device: options.device.to_string(),
            mode: mode.into(),
            batch: bench.batch,
            threads: options.threads,
            median_s: times.median(),
            min_s: times.min(),
            calls: times.calls(),
            images_per_s: Some(bench.batch as f64 / times.median()),
            gflops: Some(gflops),
            share_of_peak: peak_gflops.map(|p| gflops / p),
            peak_rss_mib: peak_rss_mib(),
            peak_tensors_mib: peak_tensors_mib(&options.device),
        }
    };
    let predictor = Predictor::new(&*bench.network);
    let times = measure(options.budget / 3, || bench.predict(&predictor))?;
    drop(predictor);
    let mut records = vec![record(&bench, "predict", &times, 1.0)];
    if options.train {
        let times = measure(options.budget * 2 / 3, || bench.train())?;
        records.push(record(&bench, "train", &times, 3.0));
    }
    Ok(records)
}

/// The most that a device's pool of memory has lent out at once, in MiB; devices without a pool have none.
fn peak_tensors_mib(device: &Device) -> Option<f64> {
    let report = match device {
        Device::Cpu => memory_report(),
        Device::OpenCl(id) => id.memory_report().ok()?,
        _ => return None,
    };
    Some(report.peak_in_use as f64 / f64::from(1 << 20))
}

/// Where the time of one call goes: the operations of one layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Share {
    /// The network.
    pub name: String,
    /// `train` or `predict`.
    pub mode: String,
    /// The layer; empty outside of all.
    pub layer: String,
    /// The operation; empty for the time that was spent outside of all operations.
    pub op: String,
    /// The extents of its first output.
    pub output: Vec<usize>,
    /// Runs in each call.
    pub calls: f64,
    /// Time in each call, in seconds.
    pub seconds: f64,
    /// Of the whole call.
    pub share: f64,
    /// 10^9 floating point operations per second, two for each multiply-add.
    pub gflops: Option<f64>,
    /// `gflops` as a share of the machine's measured peak.
    pub share_of_peak: Option<f64>,
    /// 10^9 bytes of inputs and outputs per second.
    pub gb_per_s: f64,
}

/// Records the operations of prediction, then of training, in this process; the longest first. On an OpenCL device these
/// are its kernels, by the device's own clock, without layers; an operation's multiply-adds count for its longest kernel.
///
/// # Errors
/// When the network cannot be built or run.
pub fn profile_network(model: &Model, options: &Options, peak_gflops: Option<f64>) -> Result<Vec<Share>> {
    let mut bench = Bench::new(model, options)?;
    let mut all = Vec::new();
    for mode in ["predict", "train"] {
        let predictor;
        let mut call: Box<dyn FnMut() -> Result<()>> = if mode == "train" {
            Box::new(|| bench.train())
        } else {
            predictor = Predictor::new(&*bench.network);
            // A plan notes the layers of its operations if it is made while someone records.
            profile::record(|| predictor.plan(bench.x.shape(), &options.device)).0?;
            Box::new(|| bench.predict(&predictor))
        };
        // Warm before the recording starts.
        call()?;
        call()?;
        let (times, rows) = match options.device {
            Device::OpenCl(id) => {
                id.start_profile()?;
                let times = measure(options.budget / 2, &mut call);
                let profile = id.take_profile()?;
                (times?, kernel_rows(profile))
            }
            _ => {
                let (times, rows) = profile::record(|| measure(options.budget / 2, &mut call));
                (times?, rows.into_iter().map(Recorded::from).collect())
            }
        };
        // All recorded calls count, those that `measure` makes before it measures too.
        let total = times.total_with_warm_up();
        let share = |row: Recorded| {
            let Recorded { layer, op, output, runs, seconds, multiply_adds, bytes } = row;
            let gflops = (multiply_adds > 0).then(|| 2.0 * multiply_adds as f64 / seconds / 1e9);
            Share {
                name: model.name.to_string(),
                mode: mode.to_string(),
                layer,
                op,
                output,
                calls: runs as f64 / times.calls_with_warm_up() as f64,
                seconds: seconds / times.calls_with_warm_up() as f64,
                share: seconds / total,
                gflops,
                share_of_peak: gflops.zip(peak_gflops).map(|(g, p)| g / p),
                gb_per_s: bytes as f64 / seconds / 1e9,
            }
        };
        let inside: f64 = rows.iter().map(|r| r.seconds).sum();
        let between = Recorded {
            runs: times.calls_with_warm_up() as u64,
            seconds: (total - inside).max(0.0),
            ..Recorded::default()
        };
        all.extend(std::iter::once(between).chain(rows).map(share));
    }
    Ok(all)
}

/// What was recorded of an operation in a layer, or of a kernel.
#[derive(Default)]
struct Recorded {
    layer: String,
    op: String,
    output: Vec<usize>,
    runs: u64,
    seconds: f64,
    multiply_adds: u64,
    bytes: u64,
}

impl From<profile::Row> for Recorded {
    fn from(row: profile::Row) -> Self {
        Recorded {
            layer: row.layer,
            op: row.op.to_string(),
            output: row.output.to_vec(),
            runs: row.calls,
            seconds: row.seconds,
            multiply_adds: row.multiply_adds,
            bytes: row.bytes,
        }
    }
}

/// The kernels of a device, the longest first.
fn kernel_rows(mut profile: Profile) -> Vec<Recorded> {
    profile.kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut work: HashMap<&str, u64> = profile.ops.iter().map(|work| (work.op, work.multiply_adds)).collect();
    let row = |kernel: KernelTime| Recorded {
        op: format!("{}: {}", kernel.op, kernel.kernel),
        runs: kernel.launches,
        seconds: kernel.seconds,
        // Taken by the longest kernel, which comes first.
        multiply_adds: work.remove(kernel.op).unwrap_or(0),
        bytes: kernel.bytes,
        ..Recorded::default()
    };
    profile.kernels.into_iter().map(row).collect()
}
