//! Losses, as compositions of operations on values.
//!
//! Each returns a scalar, the mean over the rows, for [`Tape::backward`](neocog_autograd::Tape::backward). Names and values are those of
//! PyTorch. A loss of your own is as short; see [`Var`].

use neocog_autograd::Var;
use neocog_tensor::{Result, Tensor};

/// The mean squared error, as `mse_loss`.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn mse(prediction: &Var, target: &Var) -> Result<Var> {
    (prediction - target)?.square()?.mean()
}

/// The mean absolute error, as `l1_loss`.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn l1(prediction: &Var, target: &Var) -> Result<Var> {
    (prediction - target)?.abs()?.mean()
}

/// The Huber loss, as `huber_loss`: squared up to a distance of `delta`, linear beyond.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn huber(prediction: &Var, target: &Var, delta: f64) -> Result<Var> {
    let distance = (prediction - target)?.abs()?;
    // min(d, delta) (d - min(d, delta) / 2)
    let near = distance.clamp(0.0, delta)?;
    (&near * &(&distance - &(&near * 0.5)?)?)?.mean()
}

/// The cross-entropy of logits `[n, classes]` and class probabilities `[n, classes]`, as `cross_entropy` with soft targets.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn soft_cross_entropy(logits: &Var, targets: &Var) -> Result<Var> {
    let product = (&logits.log_softmax(1)? * targets)?;
    -&product.sum_over(&[1], false)?.mean()?
}

/// The binary cross-entropy of logits and targets from 0 to 1, mean over all elements, as `binary_cross_entropy_with_logits`.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn bce_with_logits(logits: &Var, targets: &Var) -> Result<Var> {
    bce_elements(logits, targets)?.mean()
}

/// `max(x, 0) - x t + ln(1 + e^-|x|)`, which does not overflow.
fn bce_elements(logits: &Var, targets: &Var) -> Result<Var> {
    let linear = (&logits.relu()? - &(logits * targets)?)?;
    &linear + &(&(-&logits.abs()?)?.exp()? + 1.0)?.log()?
}

/// The focal loss of logits `[n, classes]` and class indices `[n]`: the cross-entropy times `(1 - p)^gamma`.
///
/// # Errors
/// When the shapes do not fit, or the device fails.
pub fn focal(logits: &Var, labels: &Tensor, gamma: f64) -> Result<Var> {
    focal_rows(logits, labels, gamma)?.mean()
}

/// The Kullback-Leibler divergence of logarithms of probabilities `[n, classes]` from target probabilities, which are above 0; as
/// `kl_div` with the reduction `batchmean`.
///
/// # Errors
/// When the shapes do not broadcast, or the device fails.
pub fn kl_div(log_probabilities: &Var, targets: &Var) -> Result<Var> {
    let difference = (&targets.log()? - log_probabilities)?;
    (targets * &difference)?.sum_over(&[1], false)?.mean()
}

/// The binary cross-entropies of rows, `[n]`, mean over the classes; of the targets, the share `smoothing` is distributed uniformly.
pub(crate) fn bce_rows(logits: &Var, labels: &Tensor, smoothing: f64) -> Result<Var> {
    let (n, classes) = (logits.shape()[0], logits.shape()[1]);
    let numbers: Vec<f64> = (0..classes).map(|class| class as f64).collect();
    let numbers = Tensor::from_f64([1, classes], &numbers, &labels.device())?;
    let one_hot = labels.reshape([n, 1])?.eq_to(&numbers)?;
    let targets = &(&one_hot * (1.0 - smoothing))? + smoothing / classes as f64;
    bce_elements(logits, &Var::constant(targets?))?.mean_over(&[1], false)
}

/// The focal losses of rows, `[n]`.
pub(crate) fn focal_rows(logits: &Var, labels: &Tensor, gamma: f64) -> Result<Var> {
    let n = logits.shape()[0];
    let index = Var::constant(labels.reshape([n, 1])?);
    let log_p = logits.log_softmax(1)?.gather(1, &index)?.reshape([n])?;
    let rest = (1.0 - &log_p.exp()?)?;
    // At p = 1 rounding may leave a negative number.
    let factor = rest.clamp(0.0, 1.0)?.pow(gamma)?;
    -&(&factor * &log_p)?
}
