//! Random erasing.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use super::probability::check_probability;
use crate::shuffle::SplitMix64;

/// Overwrites a random rectangle with a constant (Z. Zhong et al., "Random erasing data augmentation", AAAI 2020), with
/// the parameters of torchvision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability, 0 to 1.
    pub p: f32,
    /// Minimum and maximum area, as a fraction of the image area.
    pub scale: [f32; 2],
    /// Minimum and maximum aspect ratio, height / width.
    pub ratio: [f32; 2],
    /// Fill value of all channels.
    pub value: f32,
}

/// Number of attempts to draw a rectangle that fits into the image; after that, nothing is erased.
const MAX_ATTEMPTS: usize = 10;

impl Default for RandomErasing {
    /// The defaults of torchvision.
    fn default() -> Self {
        RandomErasing { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: 0.0 }
    }
}

impl RandomErasing {
    pub(crate) fn check(&self) -> Result<()> {
        let RandomErasing { p, scale, ratio, value } = *self;
        check_probability(p)?;
        let ordered = |[min, max]: [f32; 2]| min <= max && max.is_finite();
        if !(ordered(scale) && scale[0] >= 0.0 && scale[1] <= 1.0) {
            return Err(Error::invalid_argument(format!(
                "scale must be the minimum and maximum fraction of the area, from 0 to 1, not {scale:?}"
            )));
        }
        if !(ordered(ratio) && ratio[0] > 0.0) {
            return Err(Error::invalid_argument(format!(
                "ratio must be the minimum and maximum of height / width, above 0, not {ratio:?}"
            )));
        }
        if !value.is_finite() {
            return Err(Error::invalid_argument(format!("value must be finite, not {value}")));
        }
        Ok(())
    }

    pub(crate) fn apply(&self, pixels: &mut [f32], [_, h, w]: [usize; 3], random: &mut SplitMix64) {
        if !random.chance(self.p) {
            return;
        }
        for _ in 0..MAX_ATTEMPTS {
            let area = (h * w) as f32 * random.uniform(self.scale[0], self.scale[1]);
            let ratio = random.uniform(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            let height = (area * ratio).sqrt().round() as usize;
            let width = (area / ratio).sqrt().round() as usize;
            if height >= h || width >= w {
                continue;
            }
            let top = random.below((h - height + 1) as u32) as usize;
            let left = random.below((w - width + 1) as u32) as usize;
            for channel in pixels.chunks_exact_mut(h * w) {
                for row in channel.chunks_exact_mut(w).skip(top).take(height) {
                    row[left..left + width].fill(self.value);
                }
            }
            return;
        }
    }
}
