//! Prediction and training steps of whole networks.
//!
//! A training step is forward in training mode, mean cross-entropy, backward, and one SGD step, as in PyTorch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use neocog_autograd::{Tape, Var};
use neocog_base::memory::try_collect;
use neocog_base::random::Random;
use neocog_layers::{Builder, Context, Layer, Predictor, TrainPass};
use neocog_models::Model;
use neocog_tensor::opencl::{KernelTime, Profile};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Error, Result, Shape, Tensor, memory_report, profile};
use neocog_train::{MemoryNeed, Optimizer, OptimizerConfig, OptimizerKind};

use crate::Record;
use crate::batch::default_batch;
use crate::timing::{Times, measure, peak_rss_mib};

/// Options of [`bench_network`] and [`profile_network`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Device to run on.
    pub device: Device,
    /// Number of threads to report: the size of the caller's rayon pool. Default: the size of the current pool.
    pub threads: usize,
    /// Batch size; `None` uses that of the model. Default: `None`.
    pub batch: Option<usize>,
    /// Height and width of the images; `None` uses those of the model. Default: `None`.
    pub size: Option<usize>,
    /// Whether training is measured in addition to prediction. Default: true.
    pub train: bool,
    /// Measuring time for prediction and training together. Default: 6 s.
    pub budget: Duration,
}

impl Options {
    /// Creates the default options for a device.
    pub fn new(device: Device) -> Self {
        let threads = rayon::current_num_threads();
        Options { device, threads, batch: None, size: None, train: true, budget: Duration::from_secs(6) }
    }

    /// Sets the number of threads to report.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the batch size; `None` uses that of the model.
    #[must_use]
    pub fn batch(mut self, batch: Option<usize>) -> Self {
        self.batch = batch;
        self
    }

    /// Sets height and width of the images; `None` uses those of the model.
    #[must_use]
    pub fn size(mut self, size: Option<usize>) -> Self {
        self.size = size;
        self
    }

    /// Sets whether training is measured in addition to prediction.
    #[must_use]
    pub fn train(mut self, train: bool) -> Self {
        self.train = train;
        self
    }

    /// Sets the measuring time for prediction and training together.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }
}

/// A network with random input and labels.
struct NetworkBench {
    pass: TrainPass,
    /// Only while prediction is measured: packed weights are memory that training does not need.
    predictor: Option<Predictor>,
    optimizer: Optimizer,
    x: Var,
    y: Var,
    batch: usize,
    multiply_adds: u64,
    step: u64,
}

impl NetworkBench {
    fn new(model: &Model, options: &Options) -> Result<Self> {
        let batch = options.batch.unwrap_or_else(|| default_batch(model));
        let [c, h, w] = match options.size {
            Some(size) => [model.input[0], size, size],
            None => model.input,
        };
        if batch == 0 {
            return Err(Error::invalid_argument("batch size 0: expected at least 1"));
        }
        let spec = model.spec_for([c, h, w], model.classes)?;
        let input = Shape::new(&[batch, c, h, w])?;
        let network: Arc<dyn Layer> = Builder::new(&options.device, 0).build(&spec, &input)?.into();
        let mut random = Random::stream(0, "bench.labels");
        let labels = try_collect(
            batch,
            std::iter::repeat_with(|| (random.next_u32() as usize % model.classes) as f32),
            "the labels",
        )?;
        let config = OptimizerConfig { lr: 0.01, kind: OptimizerKind::named("sgd")? };
        Ok(NetworkBench {
            x: Var::constant(random_images(&input, &options.device)?),
            y: Var::constant(Tensor::from_f32([batch], &labels, &options.device)?),
            multiply_adds: neocog_layers::summary::summarize(&*network, &input)?.multiply_adds,
            optimizer: Optimizer::new(config, &*network)?,
            pass: TrainPass::new(network),
            predictor: None,
            batch,
            step: 0,
        })
    }

    fn predict(&mut self) -> Result<()> {
        let predictor = self.predictor.get_or_insert_with(|| Predictor::new(self.pass.shared_network()));
        // Reading one value waits for the device to finish.
        predictor.run(self.x.tensor())?.narrow(0, 1)?.to_f32().map(drop)
    }

    fn train(&mut self) -> Result<()> {
        self.predictor = None;
        self.step += 1;
        let tape = Tape::new();
        let logits = self.pass.run(&tape, &self.x, self.step)?;
        let loss = tape
            .apply(CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 }, &[&logits, &self.y])?
            .remove(0);
        let grads = tape.backward(&loss)?;
        self.optimizer.step(self.pass.network(), &grads, 0.01)?;
        loss.tensor().item().map(drop)
    }
}

/// Estimates the memory that [`bench_network`] needs.
///
/// # Errors
/// If the network cannot be built.
pub fn memory_need(model: &Model, options: &Options) -> Result<MemoryNeed> {
    let batch = options.batch.unwrap_or_else(|| default_batch(model));
    let [c, h, w] = options.size.map_or(model.input, |size| [model.input[0], size, size]);
    let spec = model.spec_for([c, h, w], model.classes)?;
    let network: Arc<dyn Layer> = Builder::new(&Device::Meta, 0).build(&spec, &[1, c, h, w].into())?.into();
    let shape = [batch, c, h, w];
    if !options.train {
        return MemoryNeed::of_inference(&Predictor::new(network), shape, 0, &options.device);
    }
    let config = OptimizerConfig { lr: 0.01, kind: OptimizerKind::named("sgd")? };
    MemoryNeed::of_training(&TrainPass::new(network), &config, shape, 1, 0, &options.device)
}

/// A network that is given, with a random input: prediction only.
struct InferenceBench {
    predictor: Predictor,
    x: Tensor,
    multiply_adds: u64,
}

impl InferenceBench {
    fn new(network: Arc<dyn Layer>, input: &Shape, device: &Device) -> Result<Self> {
        let tape = Tape::new();
        let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
        Context::eval(&tape).run(&*network, &x)?;
        Ok(InferenceBench {
            predictor: Predictor::new(network),
            x: random_images(input, device)?,
            multiply_adds: tape.multiply_adds(),
        })
    }

    fn predict(&self) -> Result<()> {
        // Reading one value waits for the device to finish.
        self.predictor.run(&self.x)?.narrow(0, 1)?.to_f32().map(drop)
    }
}

/// Returns the random images that networks are measured on, from 0 to 1.
///
/// # Errors
/// `OutOfMemory` if they cannot be allocated.
pub fn random_images(input: &Shape, device: &Device) -> Result<Tensor> {
    let mut random = Random::stream(0, "bench");
    let pixels = try_collect(
        input.elements(),
        std::iter::repeat_with(|| random.next_unit()),
        format_args!("a batch of shape {input}"),
    )?;
    Tensor::from_f32(*input, &pixels, device)
}

/// Measures prediction of a network that is given, called `name`, in this process, on inputs of the shape `input`, `[n, c, h, w]`.
///
/// # Errors
/// If the network cannot be run.
pub fn bench_inference(
    name: &str,
    network: Arc<dyn Layer>,
    input: &Shape,
    options: &Options,
    peak_gflops: Option<f64>,
) -> Result<Vec<Record>> {
    let bench = InferenceBench::new(network, input, &options.device)?;
    let times = measure(options.budget / 3, || bench.predict())?;
    let work = Work { name, mode: "predict", batch: input[0], multiply_adds: bench.multiply_adds };
    Ok(vec![work.record(&times, options, peak_gflops)])
}

/// What is measured.
struct Work<'a> {
    name: &'a str,
    mode: &'a str,
    batch: usize,
    multiply_adds: u64,
}

impl Work<'_> {
    fn record(&self, times: &Times, options: &Options, peak_gflops: Option<f64>) -> Record {
        let gflops = 2.0 * self.multiply_adds as f64 / times.median() / 1e9;
        Record {
            name: self.name.to_string(),
            device: options.device.to_string(),
            mode: self.mode.into(),
            batch: self.batch,
            threads: options.threads,
            median_s: times.median(),
            min_s: times.min(),
            calls: times.calls(),
            images_per_s: Some(self.batch as f64 / times.median()),
            gflops: Some(gflops),
            share_of_peak: peak_gflops.map(|p| gflops / p),
            peak_rss_mib: peak_rss_mib(),
            peak_tensors_mib: peak_tensors_mib(&options.device),
        }
    }
}

/// Measures prediction and, if requested, training steps in this process. `peak_gflops` is the peak of the device, used for
/// [`Record::share_of_peak`].
///
/// # Errors
/// If the network cannot be built or run.
pub fn bench_network(model: &Model, options: &Options, peak_gflops: Option<f64>) -> Result<Vec<Record>> {
    let mut bench = NetworkBench::new(model, options)?;
    let name = model.name;
    let work = |bench: &NetworkBench, mode: &'static str, passes: u64| Work {
        name,
        mode,
        batch: bench.batch,
        multiply_adds: bench.multiply_adds.saturating_mul(passes),
    };
    let times = measure(options.budget / 3, || bench.predict())?;
    let mut records = vec![work(&bench, "predict", 1).record(&times, options, peak_gflops)];
    if options.train {
        let times = measure(options.budget * 2 / 3, || bench.train())?;
        records.push(work(&bench, "train", 3).record(&times, options, peak_gflops));
    }
    Ok(records)
}

/// Returns the peak memory in use of a device's memory pool in MiB, or `None` for devices without a pool.
fn peak_tensors_mib(device: &Device) -> Option<f64> {
    let report = match device {
        Device::Cpu => memory_report(),
        Device::OpenCl(id) => id.memory_report().ok()?,
        _ => return None,
    };
    Some(report.peak_in_use as f64 / f64::from(1 << 20))
}

/// Time of one operation in one layer, per call of the network.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OpProfile {
    /// Name of the network.
    pub name: String,
    /// `train` or `predict`.
    pub mode: String,
    /// Path of the layer; empty outside of all layers.
    pub layer: String,
    /// Name of the operation; empty for the time outside of all operations.
    pub op: String,
    /// Name of the algorithm, for convolutions and their gradients.
    pub algorithm: Option<String>,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// Number of runs per call.
    pub calls: f64,
    /// Time per call in seconds.
    pub seconds: f64,
    /// Fraction of the total time of a call.
    pub share: f64,
    /// 10^9 floating point operations per second, two per multiply-add.
    pub gflops: Option<f64>,
    /// `gflops` as a fraction of the machine's measured peak.
    pub share_of_peak: Option<f64>,
    /// 10^9 bytes of inputs and outputs per second.
    pub gb_per_s: f64,
}

/// Profiles the operations of prediction and training in this process, sorted by time, longest first. On an OpenCL device,
/// profiles its kernels with device timestamps and without layers; the multiply-adds of an operation are attributed to its
/// longest kernel.
///
/// # Errors
/// If the network cannot be built or run.
pub fn profile_network(model: &Model, options: &Options, peak_gflops: Option<f64>) -> Result<Vec<OpProfile>> {
    let mut bench = NetworkBench::new(model, options)?;
    let mut all = profile_calls(model.name, "predict", options, peak_gflops, || bench.predict())?;
    all.extend(profile_calls(model.name, "train", options, peak_gflops, || bench.train())?);
    Ok(all)
}

/// As [`profile_network`], for prediction of a network that is given, called `name`, on inputs of the shape `input`, `[n, c, h, w]`.
///
/// # Errors
/// If the network cannot be run.
pub fn profile_inference(
    name: &str,
    network: Arc<dyn Layer>,
    input: &Shape,
    options: &Options,
    peak_gflops: Option<f64>,
) -> Result<Vec<OpProfile>> {
    let bench = InferenceBench::new(network, input, &options.device)?;
    profile_calls(name, "predict", options, peak_gflops, || bench.predict())
}

fn profile_calls(
    name: &str,
    mode: &str,
    options: &Options,
    peak_gflops: Option<f64>,
    mut call: impl FnMut() -> Result<()>,
) -> Result<Vec<OpProfile>> {
    // Warm-up before profiling.
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
            (times?, rows.into_iter().map(ProfileRow::from).collect())
        }
    };
    // Profiling includes the warm-up calls of `measure`.
    let total = times.total_with_warm_up();
    let profile_of = |row: ProfileRow| {
        let ProfileRow { layer, op, algorithm, output, runs, seconds, multiply_adds, bytes } = row;
        let gflops = (multiply_adds > 0).then(|| 2.0 * multiply_adds as f64 / seconds / 1e9);
        OpProfile {
            name: name.to_string(),
            mode: mode.to_string(),
            layer,
            op,
            algorithm,
            output,
            calls: runs as f64 / times.calls_with_warm_up() as f64,
            seconds: seconds / times.calls_with_warm_up() as f64,
            share: seconds / total,
            gflops,
            share_of_peak: gflops.zip(peak_gflops).map(|(g, p)| g / p),
            gb_per_s: bytes as f64 / seconds / 1e9,
        }
    };
    let in_operations: f64 = rows.iter().map(|r| r.seconds).sum();
    let between_operations = ProfileRow {
        runs: times.calls_with_warm_up() as u64,
        seconds: (total - in_operations).max(0.0),
        ..ProfileRow::default()
    };
    Ok(std::iter::once(between_operations).chain(rows).map(profile_of).collect())
}

/// Total of an operation in a layer, or of a kernel, over all calls.
#[derive(Default)]
struct ProfileRow {
    layer: String,
    op: String,
    algorithm: Option<String>,
    output: Vec<usize>,
    runs: u64,
    seconds: f64,
    multiply_adds: u64,
    bytes: u64,
}

impl From<profile::Row> for ProfileRow {
    fn from(row: profile::Row) -> Self {
        ProfileRow {
            layer: row.layer,
            op: row.op.to_string(),
            algorithm: row.algorithm.map(str::to_string),
            output: row.output.to_vec(),
            runs: row.calls,
            seconds: row.seconds,
            multiply_adds: row.multiply_adds,
            bytes: row.bytes,
        }
    }
}

/// Splits what a kernel was launched by, `conv2d [winograd]`, into the operation and the algorithm.
fn op_and_algorithm(launched_by: &str) -> (&str, Option<&str>) {
    match launched_by.strip_suffix(']').and_then(|rest| rest.split_once(" [")) {
        Some((op, algorithm)) => (op, Some(algorithm)),
        None => (launched_by, None),
    }
}

/// Returns the kernels of a device, longest first.
fn kernel_rows(mut profile: Profile) -> Vec<ProfileRow> {
    profile.kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut multiply_adds: HashMap<&str, u64> =
        profile.ops.iter().map(|work| (work.op, work.multiply_adds)).collect();
    let row = |kernel: KernelTime| {
        let (op, algorithm) = op_and_algorithm(kernel.op);
        ProfileRow {
            op: format!("{op}: {}", kernel.kernel),
            algorithm: algorithm.map(str::to_string),
            runs: kernel.launches,
            seconds: kernel.seconds,
            // Attributed to the longest kernel, which comes first.
            multiply_adds: multiply_adds.remove(op).unwrap_or(0),
            bytes: kernel.bytes,
            ..ProfileRow::default()
        }
    };
    profile.kernels.into_iter().map(row).collect()
}
