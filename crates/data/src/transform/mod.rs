//! [`Pipeline`]: the preprocessing and augmentation of images, a serializable value that is stored in checkpoints.
//!
//! The steps have the names and parameters of `torchvision.transforms`. Random steps are data augmentation and run during
//! training only. Deterministic steps ([`Normalize`]) define the input of the network and also run during evaluation and
//! prediction: [`Pipeline::fixed`].
//!
//! All random choices for a sample come from one generator ([`SampleId::random`]), in the order of the steps. They depend
//! on seed, epoch and sample index only, not on threads or other samples.
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
mod color;
mod erase;
mod normalize;
mod probability;
mod spatial;

use std::fmt;
use std::sync::Arc;

use neocog_base::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::loader::Augment;
use crate::sample::{SampleId, Transform};
use crate::shuffle::SplitMix64;
use probability::check_probability;

pub use affine::RandomAffine;
pub use color::{ColorJitter, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use erase::RandomErasing;
pub use normalize::Normalize;

/// A sequence of transforms; torchvision's `Compose`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The transforms, in the order of their application.
    pub steps: Vec<Step>,
}

/// A transform of an image with values from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Step {
    /// Flips the image horizontally with probability `p`.
    RandomHorizontalFlip {
        /// Probability, 0 to 1.
        p: f32,
    },
    /// Flips the image vertically with probability `p`.
    RandomVerticalFlip {
        /// Probability, 0 to 1.
        p: f32,
    },
    /// Pads the image with zeros and crops it to its original size at a random position.
    RandomCrop {
        /// Padding on each side, in pixels.
        padding: usize,
    },
    /// Rotates, translates and scales the image.
    RandomAffine(RandomAffine),
    /// Changes brightness, contrast, saturation and hue.
    ColorJitter(ColorJitter),
    /// Subtracts the mean of each channel and divides by its standard deviation. Not random.
    Normalize(Normalize),
    /// Erases a random rectangle.
    RandomErasing(RandomErasing),
}

impl<const N: usize> From<[Step; N]> for Pipeline {
    fn from(steps: [Step; N]) -> Self {
        Pipeline { steps: steps.into() }
    }
}

impl Pipeline {
    /// Returns whether there are no transforms.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the transforms set the size of the image: then it is not resized to the input of the network before.
    pub fn sets_size(&self) -> bool {
        false
    }

    /// Returns the deterministic transforms, which also apply to evaluation and prediction.
    #[must_use]
    pub fn fixed(&self) -> Pipeline {
        Pipeline { steps: self.steps.iter().filter(|step| !step.is_random()).cloned().collect() }
    }

    /// Returns the pipeline in the form of [`LoaderOptions::augment`](crate::LoaderOptions::augment), or `None` if it is
    /// empty.
    pub fn into_augment(self, seed: u64) -> Option<Augment> {
        (!self.is_empty()).then(|| Augment::new(seed, Arc::new(self)))
    }

    /// Checks the parameters of all transforms.
    ///
    /// # Errors
    /// `InvalidArgument`; the message names the transform and the allowed values.
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
    /// Returns the name of the transform, as in torchvision.
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

    /// Returns whether the transform makes random choices.
    pub fn is_random(&self) -> bool {
        !matches!(self, Step::Normalize(_))
    }

    fn check(&self) -> Result<()> {
        match self {
            Step::RandomHorizontalFlip { p } | Step::RandomVerticalFlip { p } => check_probability(*p),
            Step::RandomCrop { padding } => spatial::check_padding(*padding),
            Step::RandomAffine(affine) => affine.check(),
            Step::ColorJitter(jitter) => jitter.check(),
            Step::Normalize(normalize) => normalize.check(),
            Step::RandomErasing(erasing) => erasing.check(),
        }
    }

    /// Transforms `pixels`, `[c, h, w]` with the extents `shape`.
    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], random: &mut SplitMix64) -> Result<()> {
        let [_, h, w] = shape;
        match self {
            Step::RandomHorizontalFlip { p } => {
                if random.chance(*p) {
                    spatial::flip_horizontally(pixels, w);
                }
            }
            Step::RandomVerticalFlip { p } => {
                if random.chance(*p) {
                    spatial::flip_vertically(pixels, h, w);
                }
            }
            Step::RandomCrop { padding } => {
                let mut offset = || random.below(2 * *padding as u32 + 1) as isize - *padding as isize;
                let (dy, dx) = (offset(), offset());
                spatial::translate(pixels, h, w, dy, dx);
            }
            Step::RandomAffine(affine) => affine.apply(pixels, shape, random),
            Step::ColorJitter(jitter) => return jitter.apply(pixels, shape, random),
            Step::Normalize(normalize) => return normalize.apply(pixels, shape),
            Step::RandomErasing(erasing) => erasing.apply(pixels, shape, random),
        }
        Ok(())
    }
}

impl fmt::Display for Pipeline {
    /// Formats the transforms as torchvision does, separated by commas.
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
