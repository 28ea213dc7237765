//! Transforms as text, as torchvision writes them.

use std::fmt;

use super::affine::RandomAffine;
use super::auto::{RandAugment, TrivialAugmentWide};
use super::blur::GaussianBlur;
use super::color::ColorJitter;
use super::erase::RandomErasing;
use super::normalize::Normalize;
use super::pipeline::{Pipeline, Step};
use super::size::{CenterCrop, Pad, RandomResizedCrop, Resize, ResizeTo};
use crate::resize::Filter;

fn write_filter(f: &mut fmt::Formatter<'_>, filter: Filter) -> fmt::Result {
    match filter {
        Filter::Bilinear => f.write_str(")"),
        Filter::Bicubic => f.write_str(", interpolation=bicubic)"),
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    for (i, step) in steps.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{step}")?;
    }
    Ok(())
}

impl fmt::Display for Pipeline {
    /// Formats the transforms as torchvision does, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(f, &self.steps)?;
        if let Some(eval) = &self.eval {
            f.write_str("; in evaluation ")?;
            write_steps(f, eval)?;
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
            Step::Resize(Resize { size, filter }) => {
                match size {
                    ResizeTo::Shorter(side) => write!(f, "(size={side}")?,
                    ResizeTo::Exact(h, w) => write!(f, "(size=({h}, {w})")?,
                }
                write_filter(f, *filter)
            }
            Step::CenterCrop(CenterCrop { size }) => write!(f, "(size={size:?})"),
            Step::RandomResizedCrop(RandomResizedCrop { size, scale, ratio, filter }) => {
                write!(f, "(size={size:?}, scale={scale:?}, ratio={ratio:?}")?;
                write_filter(f, *filter)
            }
            Step::Pad(Pad { padding, fill }) => write!(f, "(padding={padding:?}, fill={fill})"),
            Step::Grayscale => Ok(()),
            Step::GaussianBlur(GaussianBlur { kernel_size, sigma }) => {
                write!(f, "(kernel_size={kernel_size}, sigma={sigma:?})")
            }
            Step::RandomPosterize { bits, p } => write!(f, "(bits={bits}, p={p})"),
            Step::RandomSolarize { threshold, p } => write!(f, "(threshold={threshold}, p={p})"),
            Step::RandomEqualize { p } => write!(f, "(p={p})"),
            Step::AutoAugment(policy) => write!(f, "(policy={})", policy.name()),
            Step::RandAugment(RandAugment { num_ops, magnitude, num_magnitude_bins }) => {
                write!(
                    f,
                    "(num_ops={num_ops}, magnitude={magnitude}, num_magnitude_bins={num_magnitude_bins})"
                )
            }
            Step::TrivialAugmentWide(TrivialAugmentWide { num_magnitude_bins }) => {
                write!(f, "(num_magnitude_bins={num_magnitude_bins})")
            }
        }
    }
}
