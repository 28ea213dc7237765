//! [`Pipeline`]: the preprocessing and augmentation of images, a serializable value that is stored in checkpoints.
//!
//! The steps have the names and parameters of `torchvision.transforms`. Random steps are data augmentation and run during
//! training only. Deterministic steps ([`Normalize`]) define the input of the network and also run during evaluation and
//! prediction: [`Pipeline::fixed`]. A pipeline may have other steps for evaluation, such as a crop of the center in place of a
//! random one.
//!
//! Steps work on 8-bit images first, with the bytes of Pillow, and then on numbers from 0 to 1. A pipeline that does not set
//! the size of the image resizes it to the input of the network before its first step.
//!
//! All random choices for a sample come from one generator ([`SampleId::random`](crate::SampleId::random)), in the order of the steps. They depend
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
mod auto;
mod blur;
mod color;
mod display;
mod erase;
mod normalize;
mod pillow;
mod pipeline;
mod presets;
mod probability;
mod size;
mod spatial;

pub use affine::RandomAffine;
pub use auto::{AutoAugment, Magnitudes, Operation, RandAugment, TrivialAugmentWide};
pub use blur::{GaussianBlur, gaussian_blur};
pub use color::{ColorJitter, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation};
pub use erase::RandomErasing;
pub use normalize::Normalize;
pub use pipeline::{Pipeline, Step};
pub use presets::Preset;
pub use size::{CenterCrop, Pad, RandomResizedCrop, Resize, ResizeTo};

#[cfg(test)]
mod tests;
