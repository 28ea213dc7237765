//! Batch normalisation by hand, held against the layers.

use neocog_autograd::{Tape, Var};
use neocog_layers::state::{self, Entry};
use neocog_layers::{BatchNorm, BatchNorm2d, Context, Layer};
use neocog_tensor::{Result, Tensor};

use crate::help::{Pass, build, largest_difference, noise};
use crate::page::Page;

const EPS: f64 = 1e-5;
const SHAPE: [usize; 4] = [4, 3, 3, 2];
/// Numbers of a channel in a batch.
const COUNT: usize = SHAPE[0] * SHAPE[2] * SHAPE[3];
const LIMIT: f64 = 1e-6;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(
        "Trainer is easier when the numbers between layers keep mean 0 and deviation 1. Batch normalisation makes it so, for each\n\
         channel over all pictures of the batch and all their pixels, and lets the network scale and shift the result:\n\n\
         \u{20} y = gamma · (x - mean) / sqrt(variance + 1e-5) + beta\n\n\
         In training, mean and variance are the batch's, and running ones take in a tenth of them. In prediction there may be one\n\
         picture only, so the running ones are used.\n",
    )?;
    let device = page.device();
    let x = noise("x", SHAPE, &device)?;
    let above = noise("above", SHAPE, &device)?;
    let hand = ByHand { gamma: [1.5, 0.5, -0.7], beta: [0.1, -0.2, 0.3] };
    let trained = hand.train(&x.to_f64()?, &above.to_f64()?);
    let numbers = |channel: usize| {
        let [mean, variance] = [trained.mean[channel], trained.variance[channel]].map(|v| format!("{v:.4}"));
        [format!("channel {channel}"), mean, variance]
    };
    page.table(["the batch", "mean", "variance"], (0..3).map(numbers).collect())?;

    page.part("As PyTorch has it: BatchNorm2d")?;
    page.say("The running variance starts at 1 and takes in a tenth of the unbiased one, n / (n - 1) times the variance.\n")?;
    let layer = build(BatchNorm2d::new(3), x.shape(), &device)?;
    let unbiased = COUNT as f64 / (COUNT as f64 - 1.0);
    let running = Running {
        mean: trained.mean.map(|mean| 0.9 * 0.0 + 0.1 * mean),
        variance: trained.variance.map(|variance| 0.9 * 1.0 + 0.1 * variance * unbiased),
    };
    compare(page, &*layer, &hand, &trained, &running, &x, &above)?;

    page.part("As the notes have it: BatchNorm")?;
    page.say(
        "Their moving variance starts at 0 and takes in a tenth of the biased one, the variance itself.\n",
    )?;
    let layer = build(BatchNorm::new(3, 4), x.shape(), &device)?;
    let moving = Running {
        mean: trained.mean.map(|mean| 0.9 * 0.0 + (1.0 - 0.9) * mean),
        variance: trained.variance.map(|variance| 0.9 * 0.0 + (1.0 - 0.9) * variance),
    };
    compare(page, &*layer, &hand, &trained, &moving, &x, &above)
}

/// Runs the layer in training, back, and in prediction, and compares all that comes out.
fn compare(
    page: &mut Page<'_>,
    layer: &dyn Layer,
    hand: &ByHand,
    trained: &Trained,
    running: &Running,
    x: &Tensor,
    above: &Tensor,
) -> Result<()> {
    let [scale, shift] = [state::params(layer)[0].1, state::params(layer)[1].1];
    scale.set(&Tensor::from_f64(scale.shape(), &hand.gamma, &x.device())?)?;
    shift.set(&Tensor::from_f64(shift.shape(), &hand.beta, &x.device())?)?;
    let pass = Pass::new(layer, x, |_| Ok(above.clone()))?;
    let apart = |found: &Tensor, expected: &[f64]| Ok(largest_difference(&found.to_f64()?, expected));
    page.near("output in training", apart(&pass.output, &trained.output)?, LIMIT)?;
    page.near("gradient of the input", apart(&pass.input_grad, &trained.input_grad)?, LIMIT)?;
    page.near("gradient of gamma", apart(&pass.grads[0].1, &trained.gamma_grad)?, LIMIT)?;
    page.near("gradient of beta", apart(&pass.grads[1].1, &trained.beta_grad)?, LIMIT)?;

    let statistics: Vec<Tensor> = state::entries(layer)
        .into_iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Buffer(buffer) => Some(buffer.value().value()),
            _ => None,
        })
        .collect();
    page.near("running mean", apart(&statistics[0], &running.mean)?, LIMIT)?;
    page.near("running variance", apart(&statistics[1], &running.variance)?, LIMIT)?;
    let tape = Tape::no_grad();
    let predicted = layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?;
    let expected = hand.predict(&x.to_f64()?, running);
    page.near("output in prediction", apart(predicted.tensor(), &expected)?, LIMIT)
}

struct ByHand {
    gamma: [f64; 3],
    beta: [f64; 3],
}

/// What the layer should give in training.
struct Trained {
    mean: [f64; 3],
    variance: [f64; 3],
    output: Vec<f64>,
    input_grad: Vec<f64>,
    gamma_grad: [f64; 3],
    beta_grad: [f64; 3],
}

struct Running {
    mean: [f64; 3],
    variance: [f64; 3],
}

/// The channel of number `i`.
fn channel(i: usize) -> usize {
    i / (SHAPE[2] * SHAPE[3]) % SHAPE[1]
}

/// The mean of `value(i)` over the numbers of each channel.
fn means(value: impl Fn(usize) -> f64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    (0..3 * COUNT).for_each(|i| sums[channel(i)] += value(i));
    sums.map(|sum| sum / COUNT as f64)
}

impl ByHand {
    fn train(&self, x: &[f64], above: &[f64]) -> Trained {
        let mean = means(|i| x[i]);
        let variance = means(|i| (x[i] - mean[channel(i)]).powi(2));
        let deviation = variance.map(|v| (v + EPS).sqrt());
        let normal = |i: usize| (x[i] - mean[channel(i)]) / deviation[channel(i)];
        // A change of one number changes mean and deviation too: both take their share of the gradient away.
        let mean_above = means(|i| above[i]);
        let mean_along = means(|i| above[i] * normal(i));
        let input_grad = |i: usize| {
            let c = channel(i);
            self.gamma[c] / deviation[c] * (above[i] - mean_above[c] - normal(i) * mean_along[c])
        };
        Trained {
            mean,
            variance,
            output: (0..x.len())
                .map(|i| self.gamma[channel(i)] * normal(i) + self.beta[channel(i)])
                .collect(),
            input_grad: (0..x.len()).map(input_grad).collect(),
            gamma_grad: mean_along.map(|mean| mean * COUNT as f64),
            beta_grad: mean_above.map(|mean| mean * COUNT as f64),
        }
    }

    fn predict(&self, x: &[f64], running: &Running) -> Vec<f64> {
        let normal = |i: usize, c: usize| (x[i] - running.mean[c]) / (running.variance[c] + EPS).sqrt();
        (0..x.len()).map(|i| self.gamma[channel(i)] * normal(i, channel(i)) + self.beta[channel(i)]).collect()
    }
}
