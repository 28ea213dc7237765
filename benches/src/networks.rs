//! Measures whole networks: a step of training, and prediction.
//!
//! A step is what it is in PyTorch: forward in training mode, mean cross-entropy, backward, one step of SGD.

use std::time::Duration;

use neocog_autograd::{Tape, Var};
use neocog_layers::{Builder, Context, Layer};
use neocog_models::Model;
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::random::Random;
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::{Optimizer, OptimizerConfig, Rule};

use crate::Record;
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
    /// Time for both measurements of a network.
    pub budget: Duration,
}

/// Measures prediction, then training, in this process.
///
/// # Errors
/// When the network cannot be built or run.
pub fn bench_network(model: &Model, options: &Options, peak_gflops: Option<f64>) -> Result<[Record; 2]> {
    let batch = options.batch.unwrap_or(model.recipe.bench_batch);
    let input = model.input_shape(batch);
    let network = Builder::new(&options.device, 0).build(&model.spec()?, &input)?;
    let mut random = Random::stream(0, "bench");
    let pixels: Vec<f32> = (0..input.elements()).map(|_| random.next_unit()).collect();
    let labels: Vec<f32> =
        (0..batch).map(|_| (random.next_u32() as usize % model.recipe.classes) as f32).collect();
    let x = Var::constant(Tensor::from_f32(input, &pixels, &options.device)?);
    let y = Var::constant(Tensor::from_f32([batch], &labels, &options.device)?);
    let macs = neocog_layers::summary::summarize(&*network, &input)?.multiply_adds;

    let times = measure(options.budget / 3, || predict(&*network, &x))?;
    let record = |mode: &str, times: &Times, passes: f64| {
        let gflops = 2.0 * passes * macs as f64 / times.median() / 1e9;
        Record {
            name: model.name.to_string(),
            device: options.device.to_string(),
            mode: mode.into(),
            batch,
            threads: options.threads,
            median_s: times.median(),
            min_s: times.min(),
            calls: times.calls(),
            images_per_s: Some(batch as f64 / times.median()),
            gflops: Some(gflops),
            share_of_peak: peak_gflops.map(|p| gflops / p),
            peak_rss_mib: peak_rss_mib(),
        }
    };
    let prediction = record("predict", &times, 1.0);
    let config = OptimizerConfig { lr: 0.01, rule: Rule::named("sgd")? };
    let mut optimizer = Optimizer::new(config, &*network)?;
    let mut step = 0;
    let times = measure(options.budget * 2 / 3, || {
        step += 1;
        train_step(&*network, &mut optimizer, &x, &y, step)
    })?;
    Ok([prediction, record("train", &times, 3.0)])
}

fn predict(network: &dyn Layer, x: &Var) -> Result<()> {
    let tape = Tape::no_grad();
    // Reading one number waits for the device.
    network.forward(&Context::eval(&tape), x)?.tensor().narrow(0, 1)?.to_f32().map(drop)
}

fn train_step(network: &dyn Layer, optimizer: &mut Optimizer, x: &Var, y: &Var, step: u64) -> Result<()> {
    let tape = Tape::new();
    let logits = network.forward(&Context::train(&tape, step), x)?;
    let loss = tape
        .apply(CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 }, &[&logits, y])?
        .remove(0);
    let grads = tape.backward(&loss)?;
    optimizer.step(network, &grads, 0.01)?;
    loss.tensor().item().map(drop)
}
