//! Techniques of training that a run may use.

use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// The loss that training minimizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LossKind {
    /// Cross-entropy of the softmax.
    #[default]
    CrossEntropy,
    /// Focal loss, `-(1 - p)^gamma ln p`. T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017.
    Focal {
        /// How much less a confident prediction counts; 0 is the cross-entropy.
        gamma: f64,
    },
    /// Binary cross-entropy of each class against all others, mean over the classes.
    Bce,
}

/// How the gradients of shards are compressed before they are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Compression {
    /// Rounded to bf16, which halves what processes send each other. What rounding leaves out is added in the next step.
    Bf16,
}

/// Techniques of training that a run may use; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainOptions {
    /// The loss that training minimizes; evaluation reports the cross-entropy.
    pub loss: LossKind,
    /// The share of the target that is distributed uniformly over all classes, in training.
    pub label_smoothing: f64,
    /// Parameter of the Beta distribution of mixup. H. Zhang et al., "mixup", ICLR 2018.
    pub mixup: Option<f64>,
    /// Parameter of the Beta distribution of CutMix. S. Yun et al., "CutMix", ICCV 2019. With mixup, each step uses one of the two.
    pub cutmix: Option<f64>,
    /// Largest norm of the gradients of all parameters, as PyTorch's `clip_grad_norm_`.
    pub clip_norm: Option<f64>,
    /// Largest absolute value of a gradient, as PyTorch's `clip_grad_value_`; before [`clip_norm`](Self::clip_norm).
    pub clip_value: Option<f64>,
    /// Whether the last batch of an epoch is left out if it is smaller than the others. It counts as a step of the schedule.
    pub drop_last: bool,
    /// Decay of an exponential moving average of parameters and running statistics, updated after each step.
    pub ema: Option<f64>,
    /// The first epoch, counted from 1, after which parameters and running statistics enter an equal average. P. Izmailov et al.,
    /// "Averaging weights leads to wider optima and better generalization", UAI 2018.
    pub swa: Option<u64>,
    /// How the gradients of shards are compressed before they are added, and before processes exchange them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Number of epochs without a better accuracy after which the run ends.
    pub early_stopping: Option<u64>,
}

impl TrainOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == TrainOptions::default()
    }

    /// Whether an average of the parameters is kept.
    pub fn averages(&self) -> bool {
        self.ema.is_some() || self.swa.is_some()
    }

    /// Checks that all values are in their valid ranges.
    ///
    /// # Errors
    /// `InvalidArgument`, with the value and its range.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::invalid_argument(message));
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return invalid(format!(
                "label smoothing must be at least 0 and below 1, not {}",
                self.label_smoothing
            ));
        }
        let positive = [
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
            ("the largest norm of the gradients", self.clip_norm),
            ("the largest value of the gradients", self.clip_value),
        ];
        for (name, value) in positive {
            if let Some(value) = value.filter(|value| !value.is_finite() || *value <= 0.0) {
                return invalid(format!("{name} must be finite and above 0, not {value}"));
            }
        }
        match self.loss {
            LossKind::Focal { gamma } if !gamma.is_finite() || gamma < 0.0 => {
                return invalid(format!(
                    "gamma of the focal loss must be finite and at least 0, not {gamma}"
                ));
            }
            LossKind::Focal { .. } if self.label_smoothing != 0.0 => {
                return invalid("the focal loss has no label smoothing".to_string());
            }
            _ => {}
        }
        if let Some(decay) = self.ema.filter(|decay| !(0.0..1.0).contains(decay)) {
            return invalid(format!(
                "the decay of the moving average must be at least 0 and below 1, not {decay}"
            ));
        }
        if self.ema.is_some() && self.swa.is_some() {
            return invalid("a run keeps one average of its weights: ema or swa".to_string());
        }
        if self.swa == Some(0) || self.early_stopping == Some(0) {
            return invalid("swa and early stopping count epochs from 1, not 0".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn values_out_of_range_are_errors() {
        TrainOptions::default().check().unwrap();
        let usual = TrainOptions::default();
        for (options, expected) in [
            (
                TrainOptions { label_smoothing: 1.0, ..usual },
                "label smoothing must be at least 0 and below 1",
            ),
            (TrainOptions { mixup: Some(0.0), ..usual }, "mixup must be finite and above 0, not 0"),
            (TrainOptions { cutmix: Some(f64::NAN), ..usual }, "cutmix must be finite"),
            (
                TrainOptions { clip_norm: Some(-1.0), ..usual },
                "norm of the gradients must be finite and above 0",
            ),
            (TrainOptions { clip_value: Some(f64::INFINITY), ..usual }, "value of the gradients"),
            (TrainOptions { loss: LossKind::Focal { gamma: -1.0 }, ..usual }, "gamma of the focal loss"),
            (
                TrainOptions { loss: LossKind::Focal { gamma: 2.0 }, label_smoothing: 0.1, ..usual },
                "the focal loss has no label smoothing",
            ),
            (TrainOptions { ema: Some(1.0), ..usual }, "at least 0 and below 1, not 1"),
            (TrainOptions { ema: Some(0.9), swa: Some(2), ..usual }, "one average"),
            (TrainOptions { swa: Some(0), ..usual }, "from 1, not 0"),
            (TrainOptions { early_stopping: Some(0), ..usual }, "from 1, not 0"),
        ] {
            let e = options.check().unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        }
    }
}
