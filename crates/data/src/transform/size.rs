//! Transforms that change the size of an 8-bit image, with torchvision's definitions.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::image::ByteImage;
use crate::resize::{Filter, ResizeCache};
use crate::shuffle::SplitMix64;

/// Largest side that a transform may give.
const MAX_SIDE: usize = 1 << 16;

/// Resizes an image; torchvision's `Resize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The size to resize to.
    pub size: ResizeTo,
    /// The interpolation; both with antialiasing.
    #[serde(default)]
    pub filter: Filter,
}

/// The size that [`Resize`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResizeTo {
    /// The length of the shorter side; the aspect ratio stays.
    Shorter(usize),
    /// Height and width.
    Exact(usize, usize),
}

impl Resize {
    pub(crate) fn check(&self) -> Result<()> {
        match self.size {
            ResizeTo::Shorter(side) => check_size((side, side)),
            ResizeTo::Exact(h, w) => check_size((h, w)),
        }
    }

    pub(crate) fn apply(&self, image: &mut ByteImage, resizer: &mut ResizeCache) -> Result<()> {
        let to = match self.size {
            ResizeTo::Exact(h, w) => (h, w),
            ResizeTo::Shorter(side) => {
                let (h, w) = image.size();
                let long = |long: usize, short: usize| (side as f64 * long as f64 / short as f64) as usize;
                if w <= h { (long(h, w), side) } else { (side, long(w, h)) }
            }
        };
        resizer.resize(image, to, self.filter)
    }
}

/// Crops the center of an image, with a black border where it is smaller; torchvision's `CenterCrop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Height and width of the crop.
    pub size: (usize, usize),
}

impl CenterCrop {
    pub(crate) fn check(self) -> Result<()> {
        check_size(self.size)
    }

    pub(crate) fn apply(self, image: &mut ByteImage) {
        let (height, width) = self.size;
        let lack = |size: usize, of: usize| size.saturating_sub(of);
        let (h, w) = (lack(height, image.height()), lack(width, image.width()));
        if h > 0 || w > 0 {
            let black = vec![0; image.channels()];
            image.pad([w / 2, h / 2, w.div_ceil(2), h.div_ceil(2)], &black);
        }
        let start = |size: usize, of: usize| ((of - size) as f64 / 2.0).round_ties_even() as usize;
        let (top, left) = (start(height, image.height()), start(width, image.width()));
        image.crop(top, left, height, width);
    }
}

/// Crops a random part of random area and aspect ratio, and resizes it; torchvision's `RandomResizedCrop`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Height and width of the result.
    pub size: (usize, usize),
    /// Minimum and maximum area of the part, as a fraction of the image area.
    pub scale: [f32; 2],
    /// Minimum and maximum aspect ratio of the part, width / height.
    pub ratio: [f32; 2],
    /// The interpolation; both with antialiasing.
    #[serde(default)]
    pub filter: Filter,
}

impl RandomResizedCrop {
    /// Number of attempts to draw a part that fits into the image; after that, the center is taken.
    const ATTEMPTS: usize = 10;

    /// Creates the transform to the size `(h, w)`, with the other parameters of torchvision.
    pub fn new(size: (usize, usize)) -> Self {
        RandomResizedCrop {
            size,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            filter: Filter::Bilinear,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_size(self.size)?;
        let ordered = |[min, max]: [f32; 2]| min > 0.0 && min <= max && max.is_finite();
        if ordered(self.scale) && ordered(self.ratio) {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "scale and ratio must be a minimum above 0 and a maximum, not {:?} and {:?}",
            self.scale, self.ratio
        )))
    }

    pub(crate) fn apply(
        &self,
        image: &mut ByteImage,
        random: &mut SplitMix64,
        resizer: &mut ResizeCache,
    ) -> Result<()> {
        let [top, left, height, width] = self.part(image.size(), random);
        image.crop(top, left, height, width);
        resizer.resize(image, self.size, self.filter)
    }

    /// Draws a part of an image of the size `(h, w)`: top, left, height and width.
    fn part(&self, (h, w): (usize, usize), random: &mut SplitMix64) -> [usize; 4] {
        let area = (h * w) as f64;
        let [least, most] = self.ratio.map(f64::from);
        for _ in 0..Self::ATTEMPTS {
            let target = area * f64::from(random.uniform(self.scale[0], self.scale[1]));
            let ratio = f64::from(random.uniform(least.ln() as f32, most.ln() as f32)).exp();
            let width = (target * ratio).sqrt().round_ties_even() as usize;
            let height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=w).contains(&width) && (1..=h).contains(&height) {
                let top = random.below((h - height + 1) as u32) as usize;
                let left = random.below((w - width + 1) as u32) as usize;
                return [top, left, height, width];
            }
        }
        let ratio = w as f64 / h as f64;
        let (height, width) = if ratio < least {
            (((w as f64 / least).round_ties_even() as usize).clamp(1, h), w)
        } else if ratio > most {
            (h, ((h as f64 * most).round_ties_even() as usize).clamp(1, w))
        } else {
            (h, w)
        };
        [(h - height) / 2, (w - width) / 2, height, width]
    }
}

/// Adds a border; torchvision's `Pad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Pixels on the left, at the top, on the right and at the bottom.
    pub padding: [usize; 4],
    /// Value of the border in all channels.
    #[serde(default)]
    pub fill: u8,
}

impl Pad {
    pub(crate) fn check(&self) -> Result<()> {
        if self.padding.iter().all(|&side| side <= MAX_SIDE) {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("padding must be at most {MAX_SIDE}, not {:?}", self.padding)))
    }

    pub(crate) fn apply(&self, image: &mut ByteImage) {
        let fill = vec![self.fill; image.channels()];
        image.pad(self.padding, &fill);
    }
}

fn check_size((h, w): (usize, usize)) -> Result<()> {
    if (1..=MAX_SIDE).contains(&h) && (1..=MAX_SIDE).contains(&w) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("sizes must be from 1 to {MAX_SIDE}, not {h}x{w}")))
}
