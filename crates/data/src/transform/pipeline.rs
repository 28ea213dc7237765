//! [`Pipeline`] and [`Step`].

use std::sync::Arc;

use neocog_base::{Context as _, Error, Result};
use serde::{Deserialize, Serialize};

use super::affine::RandomAffine;
use super::auto::{AutoAugment, RandAugment, TrivialAugmentWide};
use super::blur::GaussianBlur;
use super::color::ColorJitter;
use super::erase::RandomErasing;
use super::normalize::Normalize;
use super::probability::check_probability;
use super::size::{CenterCrop, Pad, RandomResizedCrop, Resize, ResizeTo};
use super::{pillow, spatial};
use crate::image::ByteImage;
use crate::loader::Augment;
use crate::resize::{Filter, ResizeCache};
use crate::sample::{SampleId, Transform, write_unit};
use crate::shuffle::SplitMix64;

/// A sequence of transforms; torchvision's `Compose`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The transforms, in the order of their application.
    pub steps: Vec<Step>,
    /// The transforms in evaluation and prediction, if they are others than the deterministic ones of `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<Vec<Step>>,
}

/// A transform of an image.
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
    /// Resizes the image. Not random; of 8-bit images.
    Resize(Resize),
    /// Crops the center. Not random; of 8-bit images.
    CenterCrop(CenterCrop),
    /// Crops a random part and resizes it; of 8-bit images.
    RandomResizedCrop(RandomResizedCrop),
    /// Adds a border. Not random; of 8-bit images.
    Pad(Pad),
    /// Makes the colors gray. Not random; of 8-bit images.
    Grayscale,
    /// Blurs the image by a random amount; of 8-bit images.
    GaussianBlur(GaussianBlur),
    /// Keeps the highest bits of each value with probability `p`; of 8-bit images.
    RandomPosterize {
        /// Number of bits to keep, 0 to 8.
        bits: u32,
        /// Probability, 0 to 1.
        p: f32,
    },
    /// Inverts values of at least a threshold with probability `p`; of 8-bit images.
    RandomSolarize {
        /// Threshold, 0 to 255.
        threshold: f32,
        /// Probability, 0 to 1.
        p: f32,
    },
    /// Equalizes the histogram with probability `p`; of 8-bit images.
    RandomEqualize {
        /// Probability, 0 to 1.
        p: f32,
    },
    /// Applies a learned pair of operations; of 8-bit images.
    AutoAugment(AutoAugment),
    /// Applies random operations of one magnitude; of 8-bit images.
    RandAugment(RandAugment),
    /// Applies a random operation of a random magnitude; of 8-bit images.
    TrivialAugmentWide(TrivialAugmentWide),
}

impl<const N: usize> From<[Step; N]> for Pipeline {
    fn from(steps: [Step; N]) -> Self {
        Pipeline { steps: steps.into(), eval: None }
    }
}

impl From<Vec<Step>> for Pipeline {
    fn from(steps: Vec<Step>) -> Self {
        Pipeline { steps, eval: None }
    }
}

impl FromIterator<Step> for Pipeline {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Pipeline::from(steps.into_iter().collect::<Vec<_>>())
    }
}

impl Pipeline {
    /// Returns whether there are no transforms.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the transforms set the size of the image: then it is not resized to the input of the network before.
    pub fn sets_size(&self) -> bool {
        self.steps.iter().any(Step::sets_size)
    }

    /// Returns the deterministic transforms, which also apply to evaluation and prediction.
    #[must_use]
    pub fn fixed(&self) -> Pipeline {
        let steps = match &self.eval {
            Some(steps) => steps.clone(),
            None => self.steps.iter().filter(|step| !step.is_random()).cloned().collect(),
        };
        Pipeline { steps, eval: None }
    }

    /// Returns the pipeline in the form of [`LoaderOptions::augment`](crate::LoaderOptions::augment), or `None` if it is
    /// empty.
    pub fn into_augment(self, seed: u64) -> Option<Augment> {
        (!self.is_empty()).then(|| Augment::new(seed, Arc::new(self)))
    }

    /// Returns the pipeline without normalization: for images that people look at.
    #[must_use]
    pub fn without_normalization(&self) -> Pipeline {
        let is_other = |step: &&Step| !matches!(step, Step::Normalize(_));
        let keep = |steps: &[Step]| steps.iter().filter(is_other).cloned().collect();
        Pipeline { steps: keep(&self.steps), eval: self.eval.as_deref().map(keep) }
    }

    /// Checks the parameters of all transforms.
    ///
    /// # Errors
    /// `InvalidArgument`; the message names the transform and the allowed values. Also if a transform of 8-bit images comes
    /// after one of numbers.
    pub fn check(&self) -> Result<()> {
        for steps in [Some(&self.steps), self.eval.as_ref()].into_iter().flatten() {
            steps.iter().try_for_each(|step| step.check().context(|| step.name()))?;
            let numbers = steps.iter().position(|step| step.domain() == Domain::Numbers);
            let bytes = steps.iter().rposition(|step| step.domain() == Domain::Bytes);
            if let (Some(first), Some(last)) = (numbers, bytes)
                && first < last
            {
                return Err(Error::invalid_argument(format!(
                    "{} works on 8-bit images and must come before {}, which works on numbers",
                    steps[last].name(),
                    steps[first].name()
                )));
            }
        }
        Ok(())
    }

    /// Number of steps that are applied to the 8-bit image.
    fn byte_steps(&self) -> usize {
        let numbers = |step: &Step| step.domain() == Domain::Numbers;
        self.steps.iter().position(numbers).unwrap_or(self.steps.len())
    }

    /// Number of first steps that are the same in every epoch, if the pipeline sets the size.
    fn fixed_steps(&self) -> usize {
        let random = |step: &Step| step.is_random() || step.domain() == Domain::Numbers;
        let count = self.steps.iter().position(random).unwrap_or(self.steps.len());
        if self.sets_size() { count } else { 0 }
    }
}

impl Transform for Pipeline {
    fn start(&self, image: &mut ByteImage, size: (usize, usize), resizer: &mut ResizeCache) -> Result<()> {
        if !self.sets_size() {
            return resizer.resize(image, size, Filter::Bilinear);
        }
        // These draw no random numbers.
        let mut random = SampleId::default().random();
        let steps = &self.steps[..self.fixed_steps()];
        steps
            .iter()
            .try_for_each(|step| step.apply_bytes(image, &mut random, resizer).context(|| step.name()))
    }

    fn least_size(&self, size: (usize, usize)) -> Option<(usize, usize)> {
        match (self.sets_size(), self.steps.first()) {
            (false, _) => Some(size),
            (true, Some(Step::Resize(Resize { size: ResizeTo::Exact(h, w), .. }))) => Some((*h, *w)),
            (true, Some(Step::Resize(Resize { size: ResizeTo::Shorter(side), .. }))) => Some((*side, *side)),
            (true, _) => None,
        }
    }

    fn finish(
        &self,
        image: &mut ByteImage,
        pixels: &mut [f32],
        shape: [usize; 3],
        sample: SampleId,
        resizer: &mut ResizeCache,
    ) -> Result<()> {
        let mut random = sample.random();
        let (bytes, numbers) = self.steps.split_at(self.byte_steps());
        for step in &bytes[self.fixed_steps()..] {
            step.apply_bytes(image, &mut random, resizer).context(|| step.name())?;
        }
        write_unit(image, pixels, shape)?;
        numbers.iter().try_for_each(|step| step.apply(pixels, shape, &mut random).context(|| step.name()))
    }

    fn apply(&self, pixels: &mut [f32], shape: [usize; 3], sample: SampleId) -> Result<()> {
        let mut random = sample.random();
        self.steps.iter().try_for_each(|step| step.apply(pixels, shape, &mut random).context(|| step.name()))
    }
}

/// What a step works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    /// 8-bit images.
    Bytes,
    /// Numbers from 0 to 1.
    Numbers,
    /// Either, with the same result.
    Both,
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
            Step::Resize(_) => "Resize",
            Step::CenterCrop(_) => "CenterCrop",
            Step::RandomResizedCrop(_) => "RandomResizedCrop",
            Step::Pad(_) => "Pad",
            Step::Grayscale => "Grayscale",
            Step::GaussianBlur(_) => "GaussianBlur",
            Step::RandomPosterize { .. } => "RandomPosterize",
            Step::RandomSolarize { .. } => "RandomSolarize",
            Step::RandomEqualize { .. } => "RandomEqualize",
            Step::AutoAugment(_) => "AutoAugment",
            Step::RandAugment(_) => "RandAugment",
            Step::TrivialAugmentWide(_) => "TrivialAugmentWide",
        }
    }

    /// Returns whether the transform makes random choices.
    pub fn is_random(&self) -> bool {
        !matches!(
            self,
            Step::Normalize(_) | Step::Resize(_) | Step::CenterCrop(_) | Step::Pad(_) | Step::Grayscale
        )
    }

    /// Whether the size of the result does not depend on that of the image alone.
    pub fn sets_size(&self) -> bool {
        matches!(self, Step::Resize(_) | Step::CenterCrop(_) | Step::RandomResizedCrop(_) | Step::Pad(_))
    }

    fn domain(&self) -> Domain {
        match self {
            Step::RandomHorizontalFlip { .. } | Step::RandomVerticalFlip { .. } | Step::RandomCrop { .. } => {
                Domain::Both
            }
            Step::RandomAffine(_) | Step::ColorJitter(_) | Step::Normalize(_) | Step::RandomErasing(_) => {
                Domain::Numbers
            }
            _ => Domain::Bytes,
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Step::RandomHorizontalFlip { p } | Step::RandomVerticalFlip { p } => check_probability(*p),
            Step::RandomCrop { padding } => spatial::check_padding(*padding),
            Step::RandomAffine(affine) => affine.check(),
            Step::ColorJitter(jitter) => jitter.check(),
            Step::Normalize(normalize) => normalize.check(),
            Step::RandomErasing(erasing) => erasing.check(),
            Step::Resize(resize) => resize.check(),
            Step::CenterCrop(crop) => crop.check(),
            Step::RandomResizedCrop(crop) => crop.check(),
            Step::Pad(pad) => pad.check(),
            Step::GaussianBlur(blur) => blur.check(),
            Step::RandomPosterize { bits, p } if *bits <= 8 => check_probability(*p),
            Step::RandomPosterize { bits, .. } => {
                Err(Error::invalid_argument(format!("bits must be from 0 to 8, not {bits}")))
            }
            Step::RandomSolarize { threshold, p } if (0.0..=255.0).contains(threshold) => {
                check_probability(*p)
            }
            Step::RandomSolarize { threshold, .. } => {
                Err(Error::invalid_argument(format!("the threshold must be from 0 to 255, not {threshold}")))
            }
            Step::RandomEqualize { p } => check_probability(*p),
            Step::RandAugment(augment) => augment.check(),
            Step::TrivialAugmentWide(augment) => augment.check(),
            Step::Grayscale | Step::AutoAugment(_) => Ok(()),
        }
    }

    /// Transforms an 8-bit image.
    fn apply_bytes(
        &self,
        image: &mut ByteImage,
        random: &mut SplitMix64,
        resizer: &mut ResizeCache,
    ) -> Result<()> {
        match self {
            Step::RandomHorizontalFlip { p } if random.chance(*p) => image.flip_horizontally(),
            Step::RandomVerticalFlip { p } if random.chance(*p) => image.flip_vertically(),
            Step::RandomCrop { padding } => {
                let [top, left] = crop_position(*padding, random);
                let ((h, w), black) = (image.size(), vec![0; image.channels()]);
                image.pad([*padding; 4], &black);
                image.crop(top, left, h, w);
            }
            Step::Resize(resize) => return resize.apply(image, resizer),
            Step::CenterCrop(crop) => crop.apply(image),
            Step::RandomResizedCrop(crop) => return crop.apply(image, random, resizer),
            Step::Pad(pad) => pad.apply(image),
            Step::Grayscale => {
                let channels = image.channels();
                image.convert(1)?;
                image.convert(channels)?;
            }
            Step::GaussianBlur(blur) => return blur.apply(image, random),
            Step::RandomPosterize { bits, p } if random.chance(*p) => pillow::posterize(image, *bits),
            Step::RandomSolarize { threshold, p } if random.chance(*p) => {
                pillow::solarize(image, f64::from(*threshold));
            }
            Step::RandomEqualize { p } if random.chance(*p) => pillow::equalize(image),
            Step::AutoAugment(policy) => policy.apply(image, random),
            Step::RandAugment(augment) => augment.apply(image, random),
            Step::TrivialAugmentWide(augment) => augment.apply(image, random),
            // Steps that the random number leaves out, and those of numbers.
            _ => {}
        }
        Ok(())
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
                let [dy, dx] = crop_position(*padding, random).map(|at| at as isize - *padding as isize);
                spatial::translate(pixels, h, w, dy, dx);
            }
            Step::RandomAffine(affine) => affine.apply(pixels, shape, random),
            Step::ColorJitter(jitter) => return jitter.apply(pixels, shape, random),
            Step::Normalize(normalize) => return normalize.apply(pixels, shape),
            Step::RandomErasing(erasing) => erasing.apply(pixels, shape, random),
            _ => {
                return Err(Error::invalid_argument("it works on 8-bit images, not on numbers"));
            }
        }
        Ok(())
    }
}

/// Returns the row and column of a random crop in an image with `padding` on each side: 0 to `2 * padding`.
fn crop_position(padding: usize, random: &mut SplitMix64) -> [usize; 2] {
    [(); 2].map(|()| random.below(2 * padding as u32 + 1) as usize)
}
