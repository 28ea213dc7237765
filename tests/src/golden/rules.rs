//! Tolerances of the values of networks.

use neocog_tensor::Device;

use super::compare::DOUBLE;
use super::files::Network;

/// Tolerance relative to the error of PyTorch in single precision, where that is more than the other rules.
pub const PYTORCH_FACTOR: f64 = 4.0;

/// Tolerance of gradients after choices at ties, relative to their norm, and of all values that depend on them.
const AT_TIES: f64 = 3e-2;

/// The tolerances of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// Tolerance of a tensor, relative to its norm or its largest element.
    pub single: f64,
    /// Tolerance of the median over the rows, if it is stricter.
    pub median: Option<f64>,
    /// Tolerance of rounding errors of a stored tensor.
    pub rounding: f64,
    /// Whether errors of the elements can have the same sign: the tolerance of a sum is then larger by `√n`.
    pub in_one_direction: bool,
}

/// The tolerances for one file on one device.
///
/// * In double precision, [`DOUBLE`] for everything.
/// * In single precision, 1e-5 for logits, losses, outputs of modules, and values after steps of an optimizer. A ReLU or a maximum
///   within rounding of a tie can be decided differently, which changes gradients of single tensors by a few percent of their
///   norm: 3e-2 for a tensor, and 1e-4 for the median of all tensors.
/// * The errors of parameters after SGD are those of their gradients, times the learning rate: 1e-4 for a tensor, and 1e-5 for the
///   median.
/// * Parameters after Adam have the tolerances of gradients: Adam normalizes gradients, so a small element with a large relative
///   rounding error changes its parameter as much as a large one.
/// * The exact gradient of a bias before batch norm is 0. Adam changes it by a step in a direction that rounding determines. Batch
///   norm compensates for that in training, but the running statistics change. In networks with such biases: 1e-2 for predictions
///   after Adam, and for the running statistics.
/// * After a ReLU or a maximum near a tie was decided differently ([`Rules::at_ties`]), 3e-2 for all values that depend on it,
///   including medians.
/// * Where two single-precision runs of PyTorch differ more, according to the file, [`PYTORCH_FACTOR`] times their error.
#[derive(Debug)]
pub struct Rules<'a> {
    file: &'a Network,
    double: bool,
    at_ties: bool,
}

impl<'a> Rules<'a> {
    /// Creates the rules for a file on a device.
    pub fn new(file: &'a Network, device: &Device) -> Self {
        Rules { file, double: *device == Device::Reference, at_ties: false }
    }

    /// Returns the rules for values after choices at ties that were decided differently.
    #[must_use]
    pub fn at_ties(&self) -> Self {
        Rules { at_ties: !self.double, ..*self }
    }

    /// Returns the tolerances of the array `key`: `train/grad`, `adam/eval_logits`.
    pub fn of(&self, key: &str) -> Allowed {
        if self.double {
            return Allowed { single: DOUBLE, median: None, rounding: DOUBLE, in_one_direction: false };
        }
        let adam_with_noise = !self.file.zero_gradient_params.is_empty() && !key.starts_with("sgd/");
        let (single, median): (f64, Option<f64>) = match key {
            "train/grad" | "train/input_grad" => (3e-2, Some(1e-4)),
            "eval/logits" | "eval/loss" | "train/logits" | "train/loss" | "train/act" | "train/buffer" => {
                (1e-5, None)
            }
            "sgd/param" => (1e-4, Some(1e-5)),
            _ if key.ends_with("/param") => (3e-2, Some(1e-4)),
            _ if key.ends_with("/eval_logits") || key.ends_with("/eval_loss") || key.ends_with("/buffer") => {
                (if adam_with_noise { 1e-2 } else { 1e-5 }, None)
            }
            _ => (1e-5, None),
        };
        let (single, median) =
            if self.at_ties { (AT_TIES, median.map(|_| AT_TIES)) } else { (single, median) };
        let (largest, middle) = self.deviations_of_pytorch(key);
        Allowed {
            single: single.max(PYTORCH_FACTOR * largest),
            median: median.map(|m| m.max(PYTORCH_FACTOR * middle)),
            rounding: 1e-5,
            in_one_direction: self.at_ties,
        }
    }

    /// Returns the largest error and the largest median error of the single-precision runs of PyTorch.
    fn deviations_of_pytorch(&self, key: &str) -> (f64, f64) {
        let mut all = (0.0f64, 0.0f64);
        for suffix in ["", "_sum", "_norm", "_dot", "_first16"] {
            if let Some(d) = self.file.f32_vs_f64.get(&format!("{key}{suffix}")) {
                all.0 = all.0.max(d.max_rel).max(d.max_rel_b);
                all.1 = all.1.max(d.median_rel).max(d.median_rel_b);
            }
        }
        all
    }

    /// Returns the tolerance of gradients whose exact value is 0, relative to the largest gradient of the network.
    pub fn zero_gradient(&self) -> f64 {
        if self.double { DOUBLE } else { 1e-5 }
    }
}
