//! The transforms of torchvision's reference training, and of common practice on CIFAR.

use super::normalize::Normalize;
use super::pipeline::{Pipeline, Step};
use super::size::{CenterCrop, RandomResizedCrop, Resize, ResizeTo};
use crate::resize::Filter;

/// A named pipeline for training and evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// torchvision's reference training on ImageNet: a random part, resized, flipped; in evaluation, the center of the image
    /// whose shorter side is resized to 256/224 of the input. Normalized with the statistics of ImageNet.
    ImageNet,
    /// A random crop after padding with 4 pixels, flipped, and normalized with the statistics of CIFAR-10.
    Cifar,
}

/// Mean and standard deviation of red, green and blue of ImageNet.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Mean and standard deviation of red, green and blue of CIFAR-10.
const CIFAR: ([f32; 3], [f32; 3]) = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);

impl Preset {
    /// Returns the pipeline for networks with inputs of `channels` channels and the size `(h, w)`. Statistics of a single
    /// channel are the means of those of the colors.
    pub fn pipeline(self, channels: usize, (h, w): (usize, usize)) -> Pipeline {
        let flip = Step::RandomHorizontalFlip { p: 0.5 };
        match self {
            Preset::ImageNet => {
                let normalize = Step::Normalize(normalize(IMAGENET, channels));
                let shorter = (h.min(w) * 256).div_ceil(224);
                let resize = Resize { size: ResizeTo::Shorter(shorter), filter: Filter::Bilinear };
                Pipeline {
                    steps: vec![
                        Step::RandomResizedCrop(RandomResizedCrop::new((h, w))),
                        flip,
                        normalize.clone(),
                    ],
                    eval: Some(vec![
                        Step::Resize(resize),
                        Step::CenterCrop(CenterCrop { size: (h, w) }),
                        normalize,
                    ]),
                }
            }
            Preset::Cifar => Pipeline::from([
                Step::RandomCrop { padding: 4 },
                flip,
                Step::Normalize(normalize(CIFAR, channels)),
            ]),
        }
    }
}

fn normalize((mean, std): ([f32; 3], [f32; 3]), channels: usize) -> Normalize {
    if channels == 3 {
        return Normalize { mean: mean.to_vec(), std: std.to_vec() };
    }
    let single = |values: [f32; 3]| vec![values.iter().sum::<f32>() / 3.0];
    Normalize { mean: single(mean), std: single(std) }
}
