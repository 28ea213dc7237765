//! Random erasing.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use super::check_probability;
use crate::shuffle::SplitMix64;

/// Paints a rectangle over, so that a network learns to look at more than one place. Z. Zhong et al., "Random erasing
/// data augmentation", AAAI 2020; the parameters are torchvision's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// How often, 0 to 1.
    pub p: f32,
    /// The least and the largest area, as a share of the image's.
    pub scale: [f32; 2],
    /// The least and the largest height divided by the width.
    pub ratio: [f32; 2],
    /// What the rectangle is filled with, in all channels.
    pub value: f32,
}

/// How often a rectangle is drawn again that does not fit into the image; then nothing is erased.
const TRIES: usize = 10;

impl Default for RandomErasing {
    /// torchvision's numbers.
    fn default() -> Self {
        RandomErasing { p: 0.5, scale: [0.02, 0.33], ratio: [0.3, 3.3], value: 0.0 }
    }
}

impl RandomErasing {
    pub(super) fn check(&self) -> Result<()> {
        let RandomErasing { p, scale, ratio, value } = *self;
        check_probability(p)?;
        let ordered = |[least, largest]: [f32; 2]| least <= largest && largest.is_finite();
        if !(ordered(scale) && scale[0] >= 0.0 && scale[1] <= 1.0) {
            return Err(Error::invalid_argument(format!(
                "scale is the least and the largest share of the area, from 0 to 1, not {scale:?}"
            )));
        }
        if !(ordered(ratio) && ratio[0] > 0.0) {
            return Err(Error::invalid_argument(format!(
                "ratio is the least and the largest height divided by the width, above 0, not {ratio:?}"
            )));
        }
        if !value.is_finite() {
            return Err(Error::invalid_argument(format!("value must be a number, not {value}")));
        }
        Ok(())
    }

    pub(super) fn apply(&self, pixels: &mut [f32], [_, h, w]: [usize; 3], random: &mut SplitMix64) {
        if !random.chance(self.p) {
            return;
        }
        for _ in 0..TRIES {
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
