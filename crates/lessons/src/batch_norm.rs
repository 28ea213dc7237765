//! Batch normalization by hand, compared with the layers.

use neocog_autograd::{Tape, Var};
use neocog_layers::state::{self, Entry};
use neocog_layers::{BatchNorm, BatchNorm2d, Context, Layer};
use neocog_tensor::{Result, Tensor};

use crate::helpers::{ForwardBackward, build, max_abs_diff, random_tensor};
use crate::page::Page;
use crate::register_lesson;

const EPS: f64 = 1e-5;
const SHAPE: [usize; 4] = [4, 3, 3, 2];
/// Number of values per channel in a batch.
const COUNT: usize = SHAPE[0] * SHAPE[2] * SHAPE[3];
const TOLERANCE: f64 = 1e-6;

register_lesson!(
    100,
    "batch_norm",
    "batch normalization by hand: outputs, running statistics and gradients",
    run
);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(
        "Deep networks train faster if the activations of each layer keep mean 0 and standard deviation 1. Batch normalization\n\
         computes both for each channel, over all images of the batch and all pixels, and lets the network learn a scale and a shift:\n\n\
         \u{20} y = gamma · (x - mean) / sqrt(variance + 1e-5) + beta\n\n\
         In training mode, mean and variance are those of the batch, and running averages of them are updated with momentum 0.1.\n\
         In evaluation mode the batch may be a single image, so the running statistics are used.\n",
    )?;
    let device = page.device();
    let x = random_tensor("x", SHAPE, &device)?;
    let output_grad = random_tensor("above", SHAPE, &device)?;
    let reference = ByHand { gamma: [1.5, 0.5, -0.7], beta: [0.1, -0.2, 0.3] };
    let trained = reference.train(&x.to_f64()?, &output_grad.to_f64()?);
    let row = |channel: usize| {
        let [mean, variance] = [trained.mean[channel], trained.variance[channel]].map(|v| format!("{v:.4}"));
        [format!("channel {channel}"), mean, variance]
    };
    page.table(["batch statistics", "mean", "variance"], (0..3).map(row).collect())?;

    page.heading("BatchNorm2d, as in PyTorch")?;
    page.print("The running variance starts at 1 and is updated with the unbiased variance, n / (n - 1) times that of the batch.\n")?;
    let layer = build(BatchNorm2d::new(3), x.shape(), &device)?;
    let unbiased = COUNT as f64 / (COUNT as f64 - 1.0);
    let running = Running {
        mean: trained.mean.map(|mean| 0.9 * 0.0 + 0.1 * mean),
        variance: trained.variance.map(|variance| 0.9 * 1.0 + 0.1 * variance * unbiased),
    };
    compare(page, &*layer, &reference, &trained, &running, &x, &output_grad)?;

    page.heading("BatchNorm, as in \"Dive into Deep Learning\"")?;
    page.print(
        "The moving variance starts at 0 and is updated with the biased variance, that of the batch.\n",
    )?;
    let layer = build(BatchNorm::new(3, 4), x.shape(), &device)?;
    let moving = Running {
        mean: trained.mean.map(|mean| 0.9 * 0.0 + (1.0 - 0.9) * mean),
        variance: trained.variance.map(|variance| 0.9 * 0.0 + (1.0 - 0.9) * variance),
    };
    compare(page, &*layer, &reference, &trained, &moving, &x, &output_grad)
}

/// Runs the layer forward and backward in training mode, and forward in evaluation mode, and compares all results.
fn compare(
    page: &mut Page<'_>,
    layer: &dyn Layer,
    reference: &ByHand,
    trained: &Trained,
    running: &Running,
    x: &Tensor,
    output_grad: &Tensor,
) -> Result<()> {
    let [scale, shift] = [state::params(layer)[0].1, state::params(layer)[1].1];
    scale.set(&Tensor::from_f64(scale.shape(), &reference.gamma, &x.device())?)?;
    shift.set(&Tensor::from_f64(shift.shape(), &reference.beta, &x.device())?)?;
    let pass = ForwardBackward::run(layer, x, |_| Ok(output_grad.clone()))?;
    let difference = |found: &Tensor, expected: &[f64]| Ok(max_abs_diff(&found.to_f64()?, expected));
    page.check_close("output in training mode", difference(&pass.output, &trained.output)?, TOLERANCE)?;
    page.check_close("input gradient", difference(&pass.input_grad, &trained.input_grad)?, TOLERANCE)?;
    page.check_close(
        "gradient of gamma",
        difference(&pass.param_grads[0].1, &trained.gamma_grad)?,
        TOLERANCE,
    )?;
    page.check_close("gradient of beta", difference(&pass.param_grads[1].1, &trained.beta_grad)?, TOLERANCE)?;

    let statistics: Vec<Tensor> = state::entries(layer)
        .into_iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Buffer(buffer) => Some(buffer.value().value()),
            _ => None,
        })
        .collect();
    page.check_close("running mean", difference(&statistics[0], &running.mean)?, TOLERANCE)?;
    page.check_close("running variance", difference(&statistics[1], &running.variance)?, TOLERANCE)?;
    let tape = Tape::no_grad();
    let evaluated = layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?;
    let expected = reference.evaluate(&x.to_f64()?, running);
    page.check_close("output in evaluation mode", difference(evaluated.tensor(), &expected)?, TOLERANCE)
}

/// Batch normalization of three channels with plain loops.
struct ByHand {
    gamma: [f64; 3],
    beta: [f64; 3],
}

/// Results in training mode.
struct Trained {
    mean: [f64; 3],
    variance: [f64; 3],
    output: Vec<f64>,
    input_grad: Vec<f64>,
    gamma_grad: [f64; 3],
    beta_grad: [f64; 3],
}

/// Running statistics.
struct Running {
    mean: [f64; 3],
    variance: [f64; 3],
}

/// Returns the channel of element `i`.
fn channel_of(i: usize) -> usize {
    i / (SHAPE[2] * SHAPE[3]) % SHAPE[1]
}

/// Returns the mean of `value(i)` over the elements of each channel.
fn channel_means(value: impl Fn(usize) -> f64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    (0..3 * COUNT).for_each(|i| sums[channel_of(i)] += value(i));
    sums.map(|sum| sum / COUNT as f64)
}

impl ByHand {
    fn train(&self, x: &[f64], output_grad: &[f64]) -> Trained {
        let mean = channel_means(|i| x[i]);
        let variance = channel_means(|i| (x[i] - mean[channel_of(i)]).powi(2));
        let std = variance.map(|v| (v + EPS).sqrt());
        let normalized = |i: usize| (x[i] - mean[channel_of(i)]) / std[channel_of(i)];
        // Mean and standard deviation depend on the input too: the gradient through them is subtracted.
        let mean_grad = channel_means(|i| output_grad[i]);
        let mean_grad_normalized = channel_means(|i| output_grad[i] * normalized(i));
        let input_grad = |i: usize| {
            let c = channel_of(i);
            self.gamma[c] / std[c] * (output_grad[i] - mean_grad[c] - normalized(i) * mean_grad_normalized[c])
        };
        Trained {
            mean,
            variance,
            output: (0..x.len())
                .map(|i| self.gamma[channel_of(i)] * normalized(i) + self.beta[channel_of(i)])
                .collect(),
            input_grad: (0..x.len()).map(input_grad).collect(),
            gamma_grad: mean_grad_normalized.map(|mean| mean * COUNT as f64),
            beta_grad: mean_grad.map(|mean| mean * COUNT as f64),
        }
    }

    fn evaluate(&self, x: &[f64], running: &Running) -> Vec<f64> {
        let normalized = |i: usize, c: usize| (x[i] - running.mean[c]) / (running.variance[c] + EPS).sqrt();
        (0..x.len())
            .map(|i| self.gamma[channel_of(i)] * normalized(i, channel_of(i)) + self.beta[channel_of(i)])
            .collect()
    }
}
