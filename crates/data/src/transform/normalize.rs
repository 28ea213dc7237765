//! Normalization with mean and standard deviation.

use neocog_base::text::count;
use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Computes `(value - mean) / std` per channel; torchvision's `Normalize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Mean of each channel, or a single value for all channels.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, or a single value for all channels.
    pub std: Vec<f32>,
}

impl Normalize {
    pub(crate) fn check(&self) -> Result<()> {
        let Normalize { mean, std } = self;
        if mean.is_empty() || mean.len() != std.len() {
            return Err(Error::invalid_argument(format!(
                "expected one mean and one standard deviation per channel, found {} and {}",
                mean.len(),
                std.len()
            )));
        }
        if mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
            return Err(Error::invalid_argument(format!(
                "means must be finite and standard deviations above 0, not {mean:?} and {std:?}"
            )));
        }
        Ok(())
    }

    pub(crate) fn apply(&self, pixels: &mut [f32], [c, h, w]: [usize; 3]) -> Result<()> {
        let each = self.mean.iter().zip(&self.std).map(|(m, s)| (*m, *s));
        if self.mean.len() == 1 {
            each.for_each(|parameters| normalize(pixels, parameters));
        } else if self.mean.len() == c {
            let channels = pixels.chunks_exact_mut(h * w);
            channels.zip(each).for_each(|(channel, parameters)| normalize(channel, parameters));
        } else {
            return Err(Error::shape(format!(
                "means for {}, but the image has {c}",
                count(self.mean.len(), "channel")
            )));
        }
        Ok(())
    }
}

fn normalize(values: &mut [f32], (mean, std): (f32, f32)) {
    values.iter_mut().for_each(|v| *v = (*v - mean) / std);
}
