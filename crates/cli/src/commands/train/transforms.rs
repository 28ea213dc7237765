//! Augmentation and normalization arguments of `train`.

use neocog_base::text::count;
use neocog_data::Dataset;
use neocog_data::dataset::mean_and_std;
use neocog_data::transform::{
    AutoAugment, ColorJitter, GaussianBlur, Normalize, Pipeline, RandAugment, RandomAffine, RandomErasing,
    RandomResizedCrop, Resize, ResizeTo, Step, TrivialAugmentWide,
};
use neocog_tensor::{Error, Result};

use crate::normalization::{Interpolation, PresetName, center, normalize, set_filter};

/// Transforms of training images, named as in torchvision. They are off by default, except for the data set digits.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Augmentation and normalization")]
pub struct Transforms {
    /// Base augmentation: none, or affine (--rotation 10 --translate 0.1 --scale 0.1) [default: affine for digits, else none].
    #[arg(long, value_enum, value_name = "NAME")]
    augment: Option<AugmentName>,
    /// Base transforms of training and evaluation: imagenet (RandomResizedCrop and flip; in evaluation the center of the resized
    /// image), or cifar (crop with padding 4 and flip); both normalize with the statistics of their data set.
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "augment")]
    preset: Option<PresetName>,
    /// Resize the shorter side to PIXELS and crop the center of the network's input size, in place of resizing to that size.
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Crop a random part of at least the fraction S of the area, and resize it to the network's input size [default S: 0.08];
    /// evaluation uses --resize, or the whole image.
    #[arg(long, value_name = "S", num_args = 0..=1, require_equals = true, default_missing_value = "0.08")]
    random_resized_crop: Option<f32>,
    /// Interpolation of images that are resized [default: bilinear].
    #[arg(long, value_enum, value_name = "NAME")]
    interpolation: Option<Interpolation>,
    /// Automatic augmentation: the learned policies imagenet or cifar10, rand (RandAugment) or trivial (TrivialAugmentWide).
    #[arg(long, value_enum, value_name = "NAME")]
    auto_augment: Option<AutoAugmentName>,
    /// Convert images to grayscale.
    #[arg(long)]
    grayscale: bool,
    /// Gaussian blur with a standard deviation from 0.1 to SIGMA pixels, in a window of 5 pixels.
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    blur: Option<f32>,
    /// Keep the BITS highest bits of each value, with probability 0.5.
    #[arg(long, value_name = "BITS")]
    posterize: Option<u32>,
    /// Invert values of at least THRESHOLD, 0 to 255, with probability 0.5.
    #[arg(long, value_name = "THRESHOLD", allow_negative_numbers = true)]
    solarize: Option<f32>,
    /// Equalize the histogram with probability P [default P: 0.5].
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    equalize: Option<f32>,
    /// Random horizontal flip with probability P [default P: 0.5].
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    flip: Option<f32>,
    /// Random vertical flip with probability P [default P: 0.5].
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    vertical_flip: Option<f32>,
    /// Pad with zeros and crop to the original size at a random position.
    #[arg(long, value_name = "PIXELS")]
    crop_padding: Option<usize>,
    /// Random rotation by up to DEGREES in either direction.
    #[arg(long, value_name = "DEGREES")]
    rotation: Option<f32>,
    /// Random translation by up to FRACTION of the height and width.
    #[arg(long, value_name = "FRACTION")]
    translate: Option<f32>,
    /// Random scaling by a factor from 1 - FRACTION to 1 + FRACTION.
    #[arg(long, value_name = "FRACTION")]
    scale: Option<f32>,
    /// Random brightness factor from 1 - X to 1 + X.
    #[arg(long, value_name = "X")]
    brightness: Option<f32>,
    /// Random contrast factor from 1 - X to 1 + X.
    #[arg(long, value_name = "X")]
    contrast: Option<f32>,
    /// Random saturation factor from 1 - X to 1 + X; no effect on grayscale images.
    #[arg(long, value_name = "X")]
    saturation: Option<f32>,
    /// Random hue shift of up to X turns, at most 0.5; no effect on grayscale images.
    #[arg(long, value_name = "X")]
    hue: Option<f32>,
    /// Random erasing of a rectangle with probability P [default P: 0.5].
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    erasing: Option<f32>,
    /// Subtract MEAN and divide by STD, per channel [default MEAN/STD: those of the training images].
    ///
    /// Examples: --normalize=0.286/0.353, or --normalize=0.5,0.5,0.4/0.2,0.2,0.3 for three channels. The values are stored in
    /// the checkpoint, and `eval` and `predict` apply them.
    #[arg(
        long,
        value_name = "MEAN/STD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "computed",
        value_parser = normalization
    )]
    normalize: Option<Normalization>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AutoAugmentName {
    Imagenet,
    Cifar10,
    Rand,
    Trivial,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AugmentName {
    None,
    Affine,
}

#[derive(Clone, Debug, PartialEq)]
enum Normalization {
    Computed,
    Given(Normalize),
}

fn normalization(text: &str) -> Result<Normalization, String> {
    if text == "computed" {
        return Ok(Normalization::Computed);
    }
    normalize(text).map(Normalization::Given)
}

impl Transforms {
    /// Whether an argument says how images get the size of the input.
    pub fn set_size(&self) -> bool {
        self.preset.is_some()
            || self.resize.is_some()
            || self.random_resized_crop.is_some()
            || self.interpolation.is_some()
    }

    /// Whether an argument says how pixels are normalized.
    pub fn set_normalization(&self) -> bool {
        self.preset.is_some() || self.normalize.is_some()
    }

    /// Returns the pipeline, in torchvision's usual order. `recipe` is the pipeline without arguments, and `train` the data set
    /// that mean and standard deviation are computed from, for inputs of the shape `input`, `[c, h, w]`.
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub fn pipeline(&self, recipe: Pipeline, train: &dyn Dataset, input: [usize; 3]) -> Result<Pipeline> {
        let [channels, h, w] = input;
        let recipe = self.preset.map_or(recipe, |preset| preset.pipeline(input));
        let base = match self.augment {
            None => recipe,
            Some(AugmentName::None) => Pipeline::default(),
            Some(AugmentName::Affine) => Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]),
        };
        let find = |name: &str| base.steps.iter().find(|step| step.name() == name).cloned();
        let affine = match find("RandomAffine") {
            Some(Step::RandomAffine(affine)) => Some(affine),
            _ => None,
        };
        let filter = self.interpolation.unwrap_or_default().filter();
        let center = |shorter| center(shorter, (h, w), filter);
        let part = self.random_resized_crop.map(|least| {
            let crop = RandomResizedCrop { scale: [least, 1.0], filter, ..RandomResizedCrop::new((h, w)) };
            Step::RandomResizedCrop(crop)
        });
        let part = part.or_else(|| find("RandomResizedCrop"));
        let sizes: Vec<Step> = match (&part, self.resize) {
            (Some(part), _) => vec![part.clone()],
            (None, Some(shorter)) => center(shorter).into(),
            (None, None) => Vec::new(),
        };
        let steps = [
            self.flip.map(|p| Step::RandomHorizontalFlip { p }).or_else(|| find("RandomHorizontalFlip")),
            self.vertical_flip.map(|p| Step::RandomVerticalFlip { p }),
            self.crop_padding.map(|padding| Step::RandomCrop { padding }).or_else(|| find("RandomCrop")),
            self.auto_augment.map(|name| match name {
                AutoAugmentName::Imagenet => Step::AutoAugment(AutoAugment::ImageNet),
                AutoAugmentName::Cifar10 => Step::AutoAugment(AutoAugment::Cifar10),
                AutoAugmentName::Rand => Step::RandAugment(RandAugment::default()),
                AutoAugmentName::Trivial => Step::TrivialAugmentWide(TrivialAugmentWide::default()),
            }),
            self.grayscale.then_some(Step::Grayscale),
            self.blur.map(|sigma| Step::GaussianBlur(GaussianBlur { kernel_size: 5, sigma: [0.1, sigma] })),
            self.posterize.map(|bits| Step::RandomPosterize { bits, p: 0.5 }),
            self.solarize.map(|threshold| Step::RandomSolarize { threshold, p: 0.5 }),
            self.equalize.map(|p| Step::RandomEqualize { p }),
            self.affine(affine).map(Step::RandomAffine),
            self.jitter().map(Step::ColorJitter),
            self.normalization(train, channels)?.map(Step::Normalize).or_else(|| find("Normalize")),
            self.erasing.map(|p| Step::RandomErasing(RandomErasing { p, ..RandomErasing::default() })),
        ];
        let mut pipeline = Pipeline::from_iter(sizes.into_iter().chain(steps.into_iter().flatten()));
        if part.is_some() {
            let mut eval: Vec<Step> = match (self.resize, &base.eval) {
                (Some(shorter), _) => center(shorter).into(),
                (None, Some(eval)) => {
                    eval.iter().filter(|step| step.name() != "Normalize").cloned().collect()
                }
                (None, None) => vec![Step::Resize(Resize { size: ResizeTo::Exact(h, w), filter })],
            };
            let others = pipeline.steps.iter().filter(|step| !step.is_random());
            eval.extend(others.cloned());
            pipeline.eval = Some(eval);
        }
        // Images that no step resizes are resized to the input: bilinear, as by default.
        if self.interpolation.is_some_and(|chosen| chosen != Interpolation::default()) {
            set_filter(&mut pipeline.steps, filter, (h, w));
            if let Some(eval) = &mut pipeline.eval {
                set_filter(eval, filter, (h, w));
            }
        }
        pipeline.check()?;
        Ok(pipeline)
    }

    fn affine(&self, base: Option<RandomAffine>) -> Option<RandomAffine> {
        let changes = [self.rotation, self.translate, self.scale];
        if base.is_none() && changes.iter().all(Option::is_none) {
            return None;
        }
        let RandomAffine { degrees, translate, scale } = base.unwrap_or_default();
        Some(RandomAffine {
            degrees: self.rotation.unwrap_or(degrees),
            translate: self.translate.unwrap_or(translate),
            scale: self.scale.unwrap_or(scale),
        })
    }

    fn jitter(&self) -> Option<ColorJitter> {
        let factors = [self.brightness, self.contrast, self.saturation, self.hue];
        factors.iter().any(Option::is_some).then(|| {
            let [brightness, contrast, saturation, hue] = factors.map(|x| x.unwrap_or(0.0));
            ColorJitter { brightness, contrast, saturation, hue }
        })
    }

    fn normalization(&self, train: &dyn Dataset, channels: usize) -> Result<Option<Normalize>> {
        match &self.normalize {
            None => Ok(None),
            Some(Normalization::Given(normalize)) => {
                Pipeline::from([Step::Normalize(normalize.clone())]).check()?;
                let given = normalize.mean.len();
                if given != 1 && given != channels {
                    return Err(Error::invalid_argument(format!(
                        "--normalize has means of {}, but the images of {} have {channels}",
                        count(given, "channel"),
                        train.name()
                    )));
                }
                Ok(Some(normalize.clone()))
            }
            Some(Normalization::Computed) => {
                if channels != train.channels() {
                    return Err(Error::invalid_argument(format!(
                        "--normalize computes the means of the {} channels of {}, but the network has {channels}; use \
                         --normalize=MEAN/STD",
                        train.channels(),
                        train.name()
                    )));
                }
                let (mean, std) = mean_and_std(train)?;
                let rounded = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
                Ok(Some(Normalize { mean: rounded(mean), std: rounded(std) }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        network: Option<String>,
        #[command(flatten)]
        transforms: Transforms,
    }

    fn parsed(options: &str) -> Result<String> {
        let line = Line::try_parse_from(["train"].into_iter().chain(options.split_whitespace()));
        let line = line.map_err(|e| Error::invalid_argument(e.to_string()))?;
        assert!(line.network.is_none_or(|name| name == "lenet"));
        let digits = neocog_data::load("digits", "data".as_ref())?.train;
        let recipe = Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]);
        Ok(line.transforms.pipeline(recipe, &*digits, [1, 28, 28])?.to_string())
    }

    #[test]
    fn options_become_pipeline_steps() {
        let handwriting = "RandomAffine(degrees=10, translate=0.1, scale=0.1)";
        assert_eq!(parsed("").unwrap(), handwriting);
        assert_eq!(parsed("--augment none").unwrap(), "");
        assert_eq!(parsed("--augment affine").unwrap(), handwriting);
        assert_eq!(parsed("--rotation 30").unwrap(), "RandomAffine(degrees=30, translate=0.1, scale=0.1)");
        assert_eq!(
            parsed("--augment none --flip lenet --crop-padding 2 --rotation 5 --erasing=0.25 --hue 0.1")
                .unwrap(),
            "RandomHorizontalFlip(p=0.5), RandomCrop(padding=2), RandomAffine(degrees=5, translate=0, scale=0), \
             ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.1), \
             RandomErasing(p=0.25, scale=[0.02, 0.33], ratio=[0.3, 3.3], value=0)"
        );
        assert_eq!(
            parsed("--augment none --normalize=0.286/0.353").unwrap(),
            "Normalize(mean=[0.286], std=[0.353])"
        );
        assert_eq!(
            parsed("--augment none --normalize lenet").unwrap(),
            "Normalize(mean=[0.30538613], std=[0.37550712])"
        );
        assert_eq!(
            parsed("--augment none --resize 32 --flip --auto-augment trivial --normalize=0.5/0.25").unwrap(),
            "Resize(size=32), CenterCrop(size=(28, 28)), RandomHorizontalFlip(p=0.5), \
             TrivialAugmentWide(num_magnitude_bins=31), Normalize(mean=[0.5], std=[0.25])"
        );
        assert_eq!(
            parsed("--preset imagenet --erasing --interpolation bilinear").unwrap(),
            "RandomResizedCrop(size=(28, 28), scale=[0.08, 1.0], ratio=[0.75, 1.3333334]), RandomHorizontalFlip(p=0.5), \
             Normalize(mean=[0.449], std=[0.226]), RandomErasing(p=0.5, scale=[0.02, 0.33], ratio=[0.3, 3.3], value=0); \
             in evaluation Resize(size=32), CenterCrop(size=(28, 28)), Normalize(mean=[0.449], std=[0.226])"
        );
        let bicubic = parsed("--preset imagenet --interpolation bicubic").unwrap();
        assert!(bicubic.contains("1.3333334], interpolation=bicubic), RandomHorizontalFlip"), "{bicubic}");
        assert!(
            bicubic.contains("in evaluation Resize(size=32, interpolation=bicubic), CenterCrop"),
            "{bicubic}"
        );
        assert_eq!(
            parsed("--augment none --flip --interpolation bicubic").unwrap(),
            "Resize(size=(28, 28), interpolation=bicubic), RandomHorizontalFlip(p=0.5)"
        );
        assert_eq!(
            parsed("--augment none --random-resized-crop=0.5 --posterize 4").unwrap(),
            "RandomResizedCrop(size=(28, 28), scale=[0.5, 1.0], ratio=[0.75, 1.3333334]), RandomPosterize(bits=4, p=0.5); \
             in evaluation Resize(size=(28, 28))"
        );
    }

    #[test]
    fn parameters_out_of_range_are_rejected() {
        for (options, expected) in [
            ("--flip=2", "RandomHorizontalFlip: p must be a probability from 0 to 1, not 2"),
            ("--rotation=-3", "must not be negative"),
            ("--hue 0.7", "from 0 to 0.5"),
            ("--normalize=0.5", "expected MEAN/STD"),
            ("--normalize=0.5/0", "standard deviations above 0"),
            ("--normalize=0.5,0.4/0.1", "found 2 and 1"),
            ("--normalize=0.5,0.4/0.1,0.2", "means of 2 channels, but the images of digits (train) have 1"),
        ] {
            let e = parsed(options).unwrap_err().to_string();
            assert!(e.contains(expected), "{options}: {e}");
        }
    }
}
