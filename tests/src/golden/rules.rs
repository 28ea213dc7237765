//! How much the values of a network may deviate.

use neocog_tensor::Device;

use super::compare::DOUBLE;
use super::files::Network;

/// How many times PyTorch's own deviation in single precision is allowed where it is more than the rules say.
pub const PYTORCH_FACTOR: f64 = 4.0;

/// What choices at ties may do to a gradient, relative to its norm, and to all that follows from it.
const AT_TIES: f64 = 3e-2;

/// What may deviate by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// A single tensor, relative to its own norm, or to its largest element.
    pub single: f64,
    /// The median over the rows, where it is held to more than each of them.
    pub median: Option<f64>,
    /// What rounding alone may do to a tensor that is stored and read.
    pub rounding: f64,
    /// Whether all elements may have moved in one direction: then a sum may deviate by `√n` times as much.
    pub in_one_direction: bool,
}

/// The rules for one file on one device.
///
/// * In double precision, [`DOUBLE`] for everything.
/// * In single precision, 1e-5 for logits, losses, outputs of modules, and all that follows steps of an optimizer. A
///   relu or a maximum that lies within rounding of a tie goes one way here and the other way there, and moves single
///   gradients by some hundredths of their norm: 3e-2 for a single tensor, and 1e-4 for the median of all.
/// * Parameters after SGD carry their gradients' deviations, times the learning rate: 1e-4 for a single tensor, and 1e-5
///   for the median.
/// * Parameters after Adam are held like gradients: it divides each gradient by its own size, so a small element of a
///   gradient moves its parameter as much as a large one, with all of its rounding.
/// * Biases before a batch norm have the exact gradient 0. Adam moves them by the size of a step in directions that
///   rounding decides; the batch norm takes that out again in training, but its running statistics have followed.
///   In networks with such biases: 1e-2 for what is predicted after Adam, and for the running statistics.
/// * Where a relu or a maximum that lies within rounding of a tie was seen to go the other way ([`Rules::at_ties`]), 3e-2 for
///   all that follows from it, medians too.
/// * Where two runs of PyTorch itself in single precision deviate more, as the file says, [`PYTORCH_FACTOR`] times
///   their deviation.
#[derive(Debug)]
pub struct Rules<'a> {
    file: &'a Network,
    double: bool,
    at_ties: bool,
}

impl<'a> Rules<'a> {
    /// The rules for a file on a device.
    pub fn new(file: &'a Network, device: &Device) -> Self {
        Rules { file, double: *device == Device::Reference, at_ties: false }
    }

    /// The same for values that follow from choices at ties which fell the other way.
    #[must_use]
    pub fn at_ties(&self) -> Self {
        Rules { at_ties: !self.double, ..*self }
    }

    /// For the values of `key`: `train/grad`, `adam/eval_logits`.
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

    /// The largest and the largest median deviation of PyTorch's own runs in single precision.
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

    /// How large a gradient may be whose exact value is 0, relative to the largest of the network.
    pub fn zero_gradient(&self) -> f64 {
        if self.double { DOUBLE } else { 1e-5 }
    }
}
