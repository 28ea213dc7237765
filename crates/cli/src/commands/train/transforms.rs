//! The options that say what is done to the images.

use neocog_data::Dataset;
use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_tensor::{Error, Result};

/// What is done to training images each time they are seen; names and meanings are torchvision's. All of it is off if it is not
/// asked for, except for the digits, which are few: their images are turned, shifted and scaled.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Augmentation and normalisation")]
pub struct Transforms {
    /// What the other options start from: none, or affine (--rotation 10 --translate 0.1 --scale 0.1). If absent: affine for
    /// the digits, else none.
    #[arg(long, value_enum)]
    augment: Option<AugmentName>,
    /// Left and right change places, with probability P.
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    flip: Option<f32>,
    /// Top and bottom change places, with probability P.
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    vertical_flip: Option<f32>,
    /// A black border of so many pixels, and a piece of the old size cut out at random.
    #[arg(long, value_name = "PIXELS")]
    crop_padding: Option<usize>,
    /// Turned by at most so much, either way.
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    rotation: Option<f32>,
    /// Shifted by at most this share of the size, each way.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    translate: Option<f32>,
    /// Scaled by at most this: 0.1 for 0.9 to 1.1 times.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    scale: Option<f32>,
    /// Brightness times 1 - X to 1 + X.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    brightness: Option<f32>,
    /// Contrast times 1 - X to 1 + X.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    contrast: Option<f32>,
    /// Saturation times 1 - X to 1 + X; grey pictures have none.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    saturation: Option<f32>,
    /// Hue turned by at most this share of the colour circle, up to 0.5; grey pictures have none.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    hue: Option<f32>,
    /// A random rectangle is painted over, with probability P.
    #[arg(long, value_name = "P", num_args = 0..=1, require_equals = true, default_missing_value = "0.5")]
    erasing: Option<f32>,
    /// Takes the mean away and divides by the standard deviation: those of the training images, or MEAN/STD (with commas
    /// between the channels). It belongs to the network from then on: eval and predict do it, too.
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
    let numbers =
        |text: &str| text.split(',').map(|n| n.trim().parse::<f32>().ok()).collect::<Option<Vec<f32>>>();
    let parts = text.split_once('/').and_then(|(mean, std)| Some((numbers(mean)?, numbers(std)?)));
    let (mean, std) = parts.ok_or("expected MEAN/STD, such as 0.286/0.353 or 0.5,0.5,0.4/0.2,0.2,0.3")?;
    Ok(Normalization::Given(Normalize { mean, std }))
}

impl Transforms {
    /// The steps, in torchvision's usual order, for a recipe's; `train` is what means are computed of.
    ///
    /// # Errors
    /// For numbers that are not allowed.
    pub fn pipeline(&self, recipe: Pipeline, train: &Dataset) -> Result<Pipeline> {
        let base = match self.augment {
            None => recipe,
            Some(AugmentName::None) => Pipeline::default(),
            Some(AugmentName::Affine) => Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]),
        };
        let affine = base.steps.iter().find_map(|step| match step {
            Step::RandomAffine(affine) => Some(*affine),
            _ => None,
        });
        let steps = [
            self.flip.map(|p| Step::RandomHorizontalFlip { p }),
            self.vertical_flip.map(|p| Step::RandomVerticalFlip { p }),
            self.crop_padding.map(|padding| Step::RandomCrop { padding }),
            self.affine(affine).map(Step::RandomAffine),
            self.jitter().map(Step::ColorJitter),
            self.normalization(train)?.map(Step::Normalize),
            self.erasing.map(|p| Step::RandomErasing(RandomErasing { p, ..RandomErasing::default() })),
        ];
        let pipeline = Pipeline { steps: steps.into_iter().flatten().collect() };
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
        let asked = [self.brightness, self.contrast, self.saturation, self.hue];
        asked.iter().any(Option::is_some).then(|| {
            let [brightness, contrast, saturation, hue] = asked.map(|x| x.unwrap_or(0.0));
            ColorJitter { brightness, contrast, saturation, hue }
        })
    }

    fn normalization(&self, train: &Dataset) -> Result<Option<Normalize>> {
        match &self.normalize {
            None => Ok(None),
            Some(Normalization::Given(normalize)) => {
                Pipeline::from([Step::Normalize(normalize.clone())]).check()?;
                let (channels, given) = (train.shape()[0], normalize.mean.len());
                if given != 1 && given != channels {
                    return Err(Error::invalid_argument(format!(
                        "--normalize has means of {given} channels, the images of {} have {channels}",
                        train.name()
                    )));
                }
                Ok(Some(normalize.clone()))
            }
            Some(Normalization::Computed) => {
                let (mean, std) = train.mean_and_std();
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
    struct JsonRow {
        network: Option<String>,
        #[command(flatten)]
        transforms: Transforms,
    }

    fn asked(options: &str) -> Result<String> {
        let line = JsonRow::try_parse_from(["train"].into_iter().chain(options.split_whitespace()));
        let line = line.map_err(|e| Error::invalid_argument(e.to_string()))?;
        assert!(line.network.is_none_or(|name| name == "lenet"));
        let digits = neocog_data::load("digits", "data".as_ref())?.train;
        let recipe = Pipeline::from([Step::RandomAffine(RandomAffine::HANDWRITING)]);
        Ok(line.transforms.pipeline(recipe, &digits)?.to_string())
    }

    #[test]
    fn options_become_steps() {
        let handwriting = "RandomAffine(degrees=10, translate=0.1, scale=0.1)";
        assert_eq!(asked("").unwrap(), handwriting);
        assert_eq!(asked("--augment none").unwrap(), "");
        assert_eq!(asked("--augment affine").unwrap(), handwriting);
        assert_eq!(asked("--rotation 30").unwrap(), "RandomAffine(degrees=30, translate=0.1, scale=0.1)");
        assert_eq!(
            asked("--augment none --flip lenet --crop-padding 2 --rotation 5 --erasing=0.25 --hue 0.1")
                .unwrap(),
            "RandomHorizontalFlip(p=0.5), RandomCrop(padding=2), RandomAffine(degrees=5, translate=0, scale=0), \
             ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.1), \
             RandomErasing(p=0.25, scale=[0.02, 0.33], ratio=[0.3, 3.3], value=0)"
        );
        assert_eq!(
            asked("--augment none --normalize=0.286/0.353").unwrap(),
            "Normalize(mean=[0.286], std=[0.353])"
        );
        assert_eq!(
            asked("--augment none --normalize lenet").unwrap(),
            "Normalize(mean=[0.30538613], std=[0.37550712])"
        );
    }

    #[test]
    fn numbers_that_are_not_allowed() {
        for (options, says) in [
            ("--flip=2", "RandomHorizontalFlip: p is a probability from 0 to 1, not 2"),
            ("--rotation -3", "must not be negative"),
            ("--hue 0.7", "from 0 to 0.5"),
            ("--normalize=0.5", "expected MEAN/STD"),
            ("--normalize=0.5/0", "standard deviations above 0"),
            ("--normalize=0.5,0.4/0.1", "there are 2 and 1"),
            ("--normalize=0.5,0.4/0.1,0.2", "means of 2 channels, the images of digits (train) have 1"),
        ] {
            let e = asked(options).unwrap_err().to_string();
            assert!(e.contains(says), "{options}: {e}");
        }
    }
}
