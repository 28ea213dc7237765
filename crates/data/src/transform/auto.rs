//! Automatic augmentation: AutoAugment, RandAugment and TrivialAugmentWide, with torchvision's operations and magnitudes.

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use super::pillow;
use crate::image::ByteImage;
use crate::shuffle::SplitMix64;

use Operation::*;

/// An operation on an 8-bit image. Its strength is a magnitude, whose meaning depends on the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// No change.
    Identity,
    /// Shears horizontally by the magnitude, in pixels for each row.
    ShearX,
    /// Shears vertically by the magnitude, in pixels for each column.
    ShearY,
    /// Translates to the right by the magnitude in pixels, rounded towards zero.
    TranslateX,
    /// Translates down by the magnitude in pixels, rounded towards zero.
    TranslateY,
    /// Rotates counter-clockwise by the magnitude in degrees.
    Rotate,
    /// Blends with black by the factor 1 + magnitude.
    Brightness,
    /// Blends with the gray image by the factor 1 + magnitude.
    Color,
    /// Blends with the mean gray by the factor 1 + magnitude.
    Contrast,
    /// Blends with a smoothed image by the factor 1 + magnitude.
    Sharpness,
    /// Keeps as many bits of each value as the magnitude says.
    Posterize,
    /// Inverts values of at least the magnitude.
    Solarize,
    /// Stretches each channel to the full range.
    AutoContrast,
    /// Equalizes the histogram of each channel.
    Equalize,
    /// Inverts.
    Invert,
}

impl Operation {
    /// Applies the operation with `magnitude`; areas outside the image become black.
    pub fn apply(self, image: &mut ByteImage, magnitude: f64) {
        match self {
            Identity => {}
            // The inverse mapping, about the upper left corner.
            ShearX => pillow::affine(image, [1.0, tan_atan(magnitude), 0.0, 0.0, 1.0, 0.0]),
            ShearY => pillow::affine(image, [1.0, 0.0, 0.0, tan_atan(magnitude), 1.0, 0.0]),
            TranslateX => pillow::affine(image, [1.0, 0.0, -magnitude.trunc(), 0.0, 1.0, 0.0]),
            TranslateY => pillow::affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, -magnitude.trunc()]),
            Rotate => pillow::rotate(image, magnitude),
            Brightness => pillow::brightness(image, 1.0 + magnitude),
            Color => pillow::color(image, 1.0 + magnitude),
            Contrast => pillow::contrast(image, 1.0 + magnitude),
            Sharpness => pillow::sharpness(image, 1.0 + magnitude),
            Posterize => pillow::posterize(image, magnitude as u32),
            Solarize => pillow::solarize(image, magnitude),
            AutoContrast => pillow::auto_contrast(image),
            Equalize => pillow::equalize(image),
            Invert => pillow::invert(image),
        }
    }

    /// Whether the magnitude is negated at random.
    fn is_signed(self) -> bool {
        matches!(
            self,
            ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness
        )
    }
}

/// The tangent of the angle whose tangent is `x`, by way of degrees, with its rounding.
fn tan_atan(x: f64) -> f64 {
    x.atan().to_degrees().to_radians().tan()
}

/// The ranges of the magnitudes of an algorithm; bin 0 is the first value, the last bin the second.
#[derive(Clone, Copy, Debug)]
pub struct Magnitudes {
    shear: f32,
    /// Pixels, or a fraction of the width or height.
    translate: Translate,
    rotate: f32,
    enhance: f32,
    /// Number of bits that the last bin takes away.
    posterize: f32,
    bins: usize,
}

#[derive(Clone, Copy, Debug)]
enum Translate {
    Pixels(f32),
    Fraction(f64),
}

impl Magnitudes {
    /// Those of [`AutoAugment`], in 10 bins.
    pub const AUTO: Magnitudes = Magnitudes { bins: 10, ..Magnitudes::rand(31) };

    /// Those of [`RandAugment`].
    pub const fn rand(bins: usize) -> Self {
        let translate = Translate::Fraction(150.0 / 331.0);
        Magnitudes { shear: 0.3, translate, rotate: 30.0, enhance: 0.9, posterize: 4.0, bins }
    }

    /// Those of [`TrivialAugmentWide`].
    pub const fn wide(bins: usize) -> Self {
        let translate = Translate::Pixels(32.0);
        Magnitudes { shear: 0.99, translate, rotate: 135.0, enhance: 0.99, posterize: 6.0, bins }
    }

    /// Returns the magnitude of bin `bin` of `operation` for images of the size `(h, w)`, without its sign.
    pub fn get(&self, operation: Operation, bin: usize, (h, w): (usize, usize)) -> f64 {
        let upto = |end: f32| f64::from(linspace(0.0, end, self.bins, bin));
        let translate = |side: usize| match self.translate {
            Translate::Pixels(pixels) => upto(pixels),
            Translate::Fraction(fraction) => upto((fraction * side as f64) as f32),
        };
        match operation {
            ShearX | ShearY => upto(self.shear),
            TranslateX => translate(w),
            TranslateY => translate(h),
            Rotate => upto(self.rotate),
            Brightness | Color | Contrast | Sharpness => upto(self.enhance),
            Posterize => {
                let taken = bin as f32 / ((self.bins - 1) as f32 / self.posterize);
                8.0 - f64::from(taken.round_ties_even())
            }
            Solarize => f64::from(linspace(255.0, 0.0, self.bins, bin)),
            Identity | AutoContrast | Equalize | Invert => 0.0,
        }
    }
}

/// Value `i` of `count` from `start` to `end`, in single precision: from the start in the first half, from the end in the
/// second.
fn linspace(start: f32, end: f32, count: usize, i: usize) -> f32 {
    if count < 2 {
        return start;
    }
    let step = (end - start) / (count - 1) as f32;
    if i < count / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((count - i - 1) as f32, end) }
}

/// The operations of RandAugment and TrivialAugmentWide.
const OPERATIONS: [Operation; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

fn signed(operation: Operation, magnitude: f64, random: &mut SplitMix64) -> f64 {
    if operation.is_signed() && random.below(2) == 1 { -magnitude } else { magnitude }
}

/// Applies `num_ops` random operations of one magnitude; torchvision's `RandAugment` (Cubuk et al., 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// Number of operations.
    pub num_ops: usize,
    /// The bin of the magnitude of all operations.
    pub magnitude: usize,
    /// Number of bins.
    pub num_magnitude_bins: usize,
}

impl Default for RandAugment {
    fn default() -> Self {
        RandAugment { num_ops: 2, magnitude: 9, num_magnitude_bins: 31 }
    }
}

impl RandAugment {
    pub(crate) fn check(self) -> Result<()> {
        check_bins(self.num_magnitude_bins)?;
        if self.magnitude < self.num_magnitude_bins {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "magnitude must be below the number of bins, {}, not {}",
            self.num_magnitude_bins, self.magnitude
        )))
    }

    pub(crate) fn apply(self, image: &mut ByteImage, random: &mut SplitMix64) {
        let magnitudes = Magnitudes::rand(self.num_magnitude_bins);
        for _ in 0..self.num_ops {
            let operation = OPERATIONS[random.below(OPERATIONS.len() as u32) as usize];
            let magnitude = magnitudes.get(operation, self.magnitude, image.size());
            operation.apply(image, signed(operation, magnitude, random));
        }
    }
}

/// Applies one random operation of a random magnitude; torchvision's `TrivialAugmentWide` (Müller and Hutter, 2021).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrivialAugmentWide {
    /// Number of bins of the magnitude.
    pub num_magnitude_bins: usize,
}

impl Default for TrivialAugmentWide {
    fn default() -> Self {
        TrivialAugmentWide { num_magnitude_bins: 31 }
    }
}

impl TrivialAugmentWide {
    pub(crate) fn check(self) -> Result<()> {
        check_bins(self.num_magnitude_bins)
    }

    pub(crate) fn apply(self, image: &mut ByteImage, random: &mut SplitMix64) {
        let operation = OPERATIONS[random.below(OPERATIONS.len() as u32) as usize];
        let bin = random.below(self.num_magnitude_bins as u32) as usize;
        let magnitude = Magnitudes::wide(self.num_magnitude_bins).get(operation, bin, image.size());
        operation.apply(image, signed(operation, magnitude, random));
    }
}

fn check_bins(bins: usize) -> Result<()> {
    if (2..=10_000).contains(&bins) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("expected 2 to 10000 bins of the magnitude, not {bins}")))
}

/// Applies one of 25 pairs of operations that were learned on a data set; torchvision's `AutoAugment` (Cubuk et al., 2019).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AutoAugment {
    /// The policy of ImageNet.
    ImageNet,
    /// The policy of CIFAR-10.
    Cifar10,
}

impl AutoAugment {
    /// Returns the name of the policy, as torchvision's.
    pub fn name(self) -> &'static str {
        match self {
            AutoAugment::ImageNet => "imagenet",
            AutoAugment::Cifar10 => "cifar10",
        }
    }

    pub(crate) fn apply(self, image: &mut ByteImage, random: &mut SplitMix64) {
        let policy = match self {
            AutoAugment::ImageNet => &IMAGENET,
            AutoAugment::Cifar10 => &CIFAR10,
        };
        for (operation, p, bin) in policy[random.below(policy.len() as u32) as usize] {
            if random.chance(p) {
                let magnitude = Magnitudes::AUTO.get(operation, bin, image.size());
                operation.apply(image, signed(operation, magnitude, random));
            }
        }
    }
}

/// Two operations, each with its probability and the bin of its magnitude.
type Pair = [(Operation, f32, usize); 2];

#[rustfmt::skip]
const IMAGENET: [Pair; 25] = [
    [(Posterize, 0.4, 8), (Rotate, 0.6, 9)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
    [(Posterize, 0.6, 7), (Posterize, 0.6, 6)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Equalize, 0.4, 0), (Rotate, 0.8, 8)],
    [(Solarize, 0.6, 3), (Equalize, 0.6, 0)],
    [(Posterize, 0.8, 5), (Equalize, 1.0, 0)],
    [(Rotate, 0.2, 3), (Solarize, 0.6, 8)],
    [(Equalize, 0.6, 0), (Posterize, 0.4, 6)],
    [(Rotate, 0.8, 8), (Color, 0.4, 0)],
    [(Rotate, 0.4, 9), (Equalize, 0.6, 0)],
    [(Equalize, 0.0, 0), (Equalize, 0.8, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Rotate, 0.8, 8), (Color, 1.0, 2)],
    [(Color, 0.8, 8), (Solarize, 0.8, 7)],
    [(Sharpness, 0.4, 7), (Invert, 0.6, 0)],
    [(ShearX, 0.6, 5), (Equalize, 1.0, 0)],
    [(Color, 0.4, 0), (Equalize, 0.6, 0)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
];

#[rustfmt::skip]
const CIFAR10: [Pair; 25] = [
    [(Invert, 0.1, 0), (Contrast, 0.2, 6)],
    [(Rotate, 0.7, 2), (TranslateX, 0.3, 9)],
    [(Sharpness, 0.8, 1), (Sharpness, 0.9, 3)],
    [(ShearY, 0.5, 8), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.5, 0), (Equalize, 0.9, 0)],
    [(ShearY, 0.2, 7), (Posterize, 0.3, 7)],
    [(Color, 0.4, 3), (Brightness, 0.6, 7)],
    [(Sharpness, 0.3, 9), (Brightness, 0.7, 9)],
    [(Equalize, 0.6, 0), (Equalize, 0.5, 0)],
    [(Contrast, 0.6, 7), (Sharpness, 0.6, 5)],
    [(Color, 0.7, 7), (TranslateX, 0.5, 8)],
    [(Equalize, 0.3, 0), (AutoContrast, 0.4, 0)],
    [(TranslateY, 0.4, 3), (Sharpness, 0.2, 6)],
    [(Brightness, 0.9, 6), (Color, 0.2, 8)],
    [(Solarize, 0.5, 2), (Invert, 0.0, 0)],
    [(Equalize, 0.2, 0), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.2, 0), (Equalize, 0.6, 0)],
    [(Color, 0.9, 9), (Equalize, 0.6, 0)],
    [(AutoContrast, 0.8, 0), (Solarize, 0.2, 8)],
    [(Brightness, 0.1, 3), (Color, 0.7, 0)],
    [(Solarize, 0.4, 5), (AutoContrast, 0.9, 0)],
    [(TranslateY, 0.9, 9), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.9, 0), (Solarize, 0.8, 3)],
    [(Equalize, 0.8, 0), (Invert, 0.1, 0)],
    [(TranslateY, 0.7, 9), (AutoContrast, 0.9, 0)],
];
