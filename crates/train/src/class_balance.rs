//! Weights of classes in training.

use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

/// How training makes up for classes with few images, or for classes whose errors cost more. Where it is computed, the weight of a
/// class is the number of images divided by the number of classes and the images of the class: 1 if all classes have as many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClassBalance {
    /// It does not.
    #[default]
    None,
    /// The loss of an image is multiplied by the weight of its class; PyTorch's `CrossEntropyLoss(weight)`.
    BalancedWeights,
    /// The same, with these weights, one of each class.
    Weights(Vec<f64>),
    /// Images are drawn with replacement, with the weights of their classes; PyTorch's `WeightedRandomSampler`.
    WeightedSampler,
}

impl ClassBalance {
    pub(crate) fn is_none(&self) -> bool {
        *self == ClassBalance::None
    }

    /// Returns the weight of each class for images with `labels`; 0 for a class without images.
    pub fn weights(labels: &[u32], classes: usize) -> Vec<f64> {
        let mut counts = vec![0u64; classes];
        labels.iter().for_each(|&label| counts[label as usize] += 1);
        let present = counts.iter().filter(|&&n| n > 0).count() as f64;
        let weight = |n: u64| if n == 0 { 0.0 } else { labels.len() as f64 / (present * n as f64) };
        counts.into_iter().map(weight).collect()
    }

    /// Returns the weight of each class in the loss of images with `labels`, if classes are weighted there.
    ///
    /// # Errors
    /// When there is not a weight for each class, or one is not above 0.
    pub fn loss_weights(&self, labels: &[u32], classes: usize) -> Result<Option<Vec<f64>>> {
        match self {
            ClassBalance::None | ClassBalance::WeightedSampler => Ok(None),
            ClassBalance::BalancedWeights => Ok(Some(Self::weights(labels, classes))),
            ClassBalance::Weights(weights) => {
                if weights.len() != classes {
                    return Err(Error::invalid_argument(format!(
                        "{} weights of classes for {classes} classes",
                        weights.len()
                    )));
                }
                match weights.iter().find(|&&weight| !(weight.is_finite() && weight > 0.0)) {
                    Some(weight) => Err(Error::invalid_argument(format!(
                        "{weight} is not a weight of a class: expected a number above 0"
                    ))),
                    None => Ok(Some(weights.clone())),
                }
            }
        }
    }
}
