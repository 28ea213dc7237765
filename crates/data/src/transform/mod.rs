//! [`Pipeline`]: what is done to each image before a network sees it, as a value that is stored with a run.
//!
//! The steps have the names and parameters of `torchvision.transforms`. Those that are random are augmentation: a small
//! data set becomes a large one when each image is seen a little differently every time. Those that are not,
//! [`Normalize`], are part of the network's input and are done when it is evaluated and predicts, too:
//! [`Pipeline::fixed`].
//!
//! All chances are drawn from one stream of numbers for each sample and epoch ([`SampleId::random`]), in the order of the
//! steps. So what happens to a sample depends on nothing else: not on the threads, not on the samples before.
//!
//! ```
//! use neocog_data::transform::{Normalize, Pipeline, Step};
//! use neocog_data::{SampleId, Transform};
//!
//! let pipeline = Pipeline::from([
//!     Step::RandomHorizontalFlip { p: 0.5 },
//!     Step::RandomCrop { padding: 2 },
//!     Step::Normalize(Normalize { mean: vec![0.5], std: vec![0.25] }),
//! ]);
//! pipeline.check()?;
//! let mut pixels = vec![0.5; 28 * 28];
//! pipeline.fixed().apply(&mut pixels, [1, 28, 28], SampleId { seed: 0, epoch: 0, index: 0 })?;
//! assert!(pixels.iter().all(|&p| p == 0.0));
//! # Ok::<(), neocog_base::Error>(())
//! ```

mod affine;
mod colour;
mod erase;
mod place;

use std::fmt;
use std::sync::Arc;

use neocog_base::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};

use crate::loader::{Augment, SampleId, Transform};
use crate::shuffle::SplitMix64;

pub use affine::RandomAffine;
pub use colour::{ColorJitter, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use erase::RandomErasing;

/// Steps that are done one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The steps, the first one first.
    pub steps: Vec<Step>,
}

/// One thing that is done to an image of values 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Left and right change places, with probability `p`.
    RandomHorizontalFlip {
        /// How often, 0 to 1.
        p: f32,
    },
    /// Top and bottom change places, with probability `p`.
    RandomVerticalFlip {
        /// How often, 0 to 1.
        p: f32,
    },
    /// A piece of the image's own size is cut out of the image with a black border.
    RandomCrop {
        /// The width of the border on each side.
        padding: usize,
    },
    /// Turned, shifted and scaled.
    RandomAffine(RandomAffine),
    /// Brightness, contrast, saturation and hue.
    ColorJitter(ColorJitter),
    /// The mean is taken away and the rest divided by the standard deviation, channel by channel. Not random.
    Normalize(Normalize),
    /// A rectangle is painted over.
    RandomErasing(RandomErasing),
}

/// `(value - mean) / std`, for each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// The mean of each channel, or one for all.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel, or one for all.
    pub std: Vec<f32>,
}

impl<const N: usize> From<[Step; N]> for Pipeline {
    fn from(steps: [Step; N]) -> Self {
        Pipeline { steps: steps.into() }
    }
}

impl Pipeline {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps that are not random: what is done to an image when a network is evaluated or predicts.
    #[must_use]
    pub fn fixed(&self) -> Pipeline {
        Pipeline { steps: self.steps.iter().filter(|step| !step.is_random()).cloned().collect() }
    }

    /// As [`LoaderOptions`](crate::LoaderOptions) take it; nothing if nothing is done.
    pub fn into_augment(self, seed: u64) -> Option<Augment> {
        (!self.is_empty()).then(|| Augment { seed, transform: Arc::new(self) })
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// Names the step and what it expects.
    pub fn check(&self) -> Result<()> {
        self.steps.iter().try_for_each(|step| step.check().context(|| step.name()))
    }
}

impl Transform for Pipeline {
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()> {
        let mut random = sample.random();
        self.steps.iter().try_for_each(|step| step.apply(pixels, shape, &mut random).context(|| step.name()))
    }
}

impl Step {
    /// What it is called, as in torchvision.
    pub fn name(&self) -> &'static str {
        match self {
            Step::RandomHorizontalFlip { .. } => "RandomHorizontalFlip",
            Step::RandomVerticalFlip { .. } => "RandomVerticalFlip",
            Step::RandomCrop { .. } => "RandomCrop",
            Step::RandomAffine(_) => "RandomAffine",
            Step::ColorJitter(_) => "ColorJitter",
            Step::Normalize(_) => "Normalize",
            Step::RandomErasing(_) => "RandomErasing",
        }
    }

    /// Whether it does something else each time.
    pub fn is_random(&self) -> bool {
        !matches!(self, Step::Normalize(_))
    }

    fn check(&self) -> Result<()> {
        match self {
            Step::RandomHorizontalFlip { p } | Step::RandomVerticalFlip { p } => check_probability(*p),
            Step::RandomCrop { padding } => place::check_padding(*padding),
            Step::RandomAffine(affine) => affine.check(),
            Step::ColorJitter(jitter) => jitter.check(),
            Step::Normalize(normalize) => normalize.check(),
            Step::RandomErasing(erasing) => erasing.check(),
        }
    }

    /// Changes `pixels`, `[c, h, w]` of `shape`.
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], random: &mut SplitMix64) -> Result<()> {
        let [_, h, w] = shape;
        match self {
            Step::RandomHorizontalFlip { p } => {
                if random.chance(*p) {
                    place::flip_horizontally(pixels, w);
                }
            }
            Step::RandomVerticalFlip { p } => {
                if random.chance(*p) {
                    place::flip_vertically(pixels, h, w);
                }
            }
            Step::RandomCrop { padding } => {
                let mut shift = || random.below(2 * *padding as u32 + 1) as isize - *padding as isize;
                let (dy, dx) = (shift(), shift());
                place::shift(pixels, h, w, dy, dx);
            }
            Step::RandomAffine(affine) => affine.apply(pixels, shape, random),
            Step::ColorJitter(jitter) => return jitter.apply(pixels, shape, random),
            Step::Normalize(normalize) => return normalize.apply(pixels, shape),
            Step::RandomErasing(erasing) => erasing.apply(pixels, shape, random),
        }
        Ok(())
    }
}

impl Normalize {
    fn check(&self) -> Result<()> {
        let Normalize { mean, std } = self;
        if mean.is_empty() || mean.len() != std.len() {
            return Err(Error::invalid_argument(format!(
                "it needs a mean and a standard deviation for each channel: there are {} and {}",
                mean.len(),
                std.len()
            )));
        }
        if mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
            return Err(Error::invalid_argument(format!(
                "means must be numbers and standard deviations above 0, not {mean:?} and {std:?}"
            )));
        }
        Ok(())
    }

    fn apply(&self, pixels: &mut [f32], [c, h, w]: [usize; 3]) -> Result<()> {
        let each = self.mean.iter().zip(&self.std).map(|(m, s)| (*m, *s));
        if self.mean.len() == 1 {
            each.for_each(|one| normalize(pixels, one));
        } else if self.mean.len() == c {
            pixels.chunks_exact_mut(h * w).zip(each).for_each(|(channel, one)| normalize(channel, one));
        } else {
            return Err(Error::shape(format!(
                "there are means of {} channels, the image has {c}",
                self.mean.len()
            )));
        }
        Ok(())
    }
}

fn normalize(values: &mut [f32], (mean, std): (f32, f32)) {
    values.iter_mut().for_each(|v| *v = (*v - mean) / std);
}

fn check_probability(p: f32) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("p is a probability from 0 to 1, not {p}")))
}

impl fmt::Display for Pipeline {
    /// As torchvision prints its transforms, one after the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Step::RandomHorizontalFlip { p } | Step::RandomVerticalFlip { p } => write!(f, "(p={p})"),
            Step::RandomCrop { padding } => write!(f, "(padding={padding})"),
            Step::RandomAffine(RandomAffine { degrees, translate, scale }) => {
                write!(f, "(degrees={degrees}, translate={translate}, scale={scale})")
            }
            Step::ColorJitter(ColorJitter { brightness, contrast, saturation, hue }) => {
                write!(
                    f,
                    "(brightness={brightness}, contrast={contrast}, saturation={saturation}, hue={hue})"
                )
            }
            Step::Normalize(Normalize { mean, std }) => write!(f, "(mean={mean:?}, std={std:?})"),
            Step::RandomErasing(RandomErasing { p, scale, ratio, value }) => {
                write!(f, "(p={p}, scale={scale:?}, ratio={ratio:?}, value={value})")
            }
        }
    }
}

#[cfg(test)]
mod tests;
