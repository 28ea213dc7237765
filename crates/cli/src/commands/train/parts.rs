//! Arguments of `train` about the data: its parts, broken files, memory, and classes with few images.

use std::str::FromStr;

use neocog_data::split::Fold;
use neocog_data::{DataOptions, Dataset, Split, SplitOptions};
use neocog_tensor::{Error, Result};
use neocog_train::ClassBalance;

use crate::byte_size::ByteSize;

/// The default of --cache.
pub const CACHE: ByteSize = ByteSize(1 << 30);

/// Parts of the data set, and how images are read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct PartArgs {
    /// Validate on FRACTION of the training images, the same of each class [default: 0.1 for a folder without val/, else none].
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    val: Option<f64>,
    /// Test on FRACTION of the images, the same of each class; they are not used before --final-test or `eval`.
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    test: Option<f64>,
    /// Number of folds of cross-validation; validate on the one that --fold names.
    #[arg(long, value_name = "K", requires = "fold", conflicts_with = "val")]
    folds: Option<usize>,
    /// The fold to validate on, from 1 to --folds.
    #[arg(long, value_name = "I", requires = "folds")]
    fold: Option<usize>,
    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_broken: bool,
    /// Decode JPEG files that are larger than the network's input at 1/2, 1/4 or 1/8 of their size for training, if they are only
    /// resized; faster, but not the same values. Validation and test images are decoded whole.
    #[arg(long)]
    fast_decode: bool,
    /// Weights of the classes in the loss: "balanced" gives each class the same part of it, whatever its number of images; or a
    /// weight for each class in the order of the classes; or those of some by name, the others are 1.
    #[arg(long, value_name = "balanced|W,W,...|CLASS=W,...", conflicts_with = "sampler")]
    class_weights: Option<Weights>,
    /// Draw training images at random, each class as often as any other, instead of each image once an epoch.
    #[arg(long, value_enum, value_name = "HOW")]
    sampler: Option<Sampler>,
}

/// Weights of classes as they are written.
#[derive(Clone, Debug)]
enum Weights {
    Balanced,
    Each(Vec<f64>),
    Named(Vec<(String, f64)>),
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "balanced" {
            return Ok(Weights::Balanced);
        }
        let parts = || text.split(',').map(str::trim);
        if !text.contains('=') {
            return parts().map(weight).collect::<Result<_, _>>().map(Weights::Each);
        }
        let named = |part: &str| {
            let (name, text) = part
                .rsplit_once('=')
                .ok_or_else(|| format!("expected CLASS=W in each part, found \"{part}\""))?;
            Ok((name.trim().to_string(), weight(text.trim())?))
        };
        parts().map(named).collect::<Result<_, String>>().map(Weights::Named)
    }
}

fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(weight),
        _ => Err(format!(
            "expected \"balanced\", or weights above 0 such as 1,1,2.5 or CLASS=2.5, found \"{text}\""
        )),
    }
}

impl Weights {
    /// Returns the weights of the classes `names`.
    fn resolve(&self, names: &[String]) -> Result<ClassBalance> {
        match self {
            Weights::Balanced => Ok(ClassBalance::BalancedWeights),
            Weights::Each(weights) if weights.len() == names.len() => {
                Ok(ClassBalance::Weights(weights.clone()))
            }
            Weights::Each(weights) => Err(Error::invalid_argument(format!(
                "--class-weights: {} weights for {} classes ({})",
                weights.len(),
                names.len(),
                names.join(", ")
            ))),
            Weights::Named(named) => {
                let mut weights = vec![1.0; names.len()];
                for (class, weight) in named {
                    let at = names.iter().position(|name| name == class).ok_or_else(|| {
                        Error::not_found("class", class, names.iter().map(String::as_str))
                            .context("--class-weights")
                    })?;
                    weights[at] = *weight;
                }
                Ok(ClassBalance::Weights(weights))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sampler {
    Weighted,
}

impl PartArgs {
    /// Returns how the data set is read and divided.
    pub fn options(&self, limit: Option<usize>) -> DataOptions {
        let fold = self.folds.zip(self.fold).map(|(folds, fold)| Fold { fold, folds });
        let split = SplitOptions::new().val(self.val).test(self.test).fold(fold);
        DataOptions::new().split(split).skip_broken(self.skip_broken).limit(limit)
    }

    /// Whether images that cannot be read are left out.
    pub fn skip_broken(&self) -> bool {
        self.skip_broken
    }

    /// Whether training images may be decoded at a smaller size.
    pub fn fast_decode(&self) -> bool {
        self.fast_decode
    }

    /// Returns how training makes up for classes with few images, of the classes `names`.
    ///
    /// # Errors
    /// When the weights are not those of these classes.
    pub fn class_balance(&self, names: &[String]) -> Result<ClassBalance> {
        match (&self.class_weights, self.sampler) {
            (Some(weights), _) => weights.resolve(names),
            (None, Some(Sampler::Weighted)) => Ok(ClassBalance::WeightedSampler),
            (None, None) => Ok(ClassBalance::None),
        }
    }
}

/// Describes the parts: `1437 training and 360 test images`.
pub fn sizes(data: &Split) -> String {
    let mut parts = vec![format!("{} training", data.train.len())];
    parts.extend(data.validation.as_ref().map(|part| format!("{} validation", part.len())));
    parts.extend(data.test.as_ref().map(|part| format!("{} test", part.len())));
    let last = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        format!("{last} images")
    } else {
        format!("{} and {last} images", parts.join(", "))
    }
}

/// Checks that there are classes to tell apart.
///
/// # Errors
/// When there is one class only.
pub fn check_classes(data: &dyn Dataset) -> Result<()> {
    match data.class_names() {
        [name] => Err(Error::invalid_argument(format!(
            "{} has one class ({name}): expected a folder for each of at least two classes",
            data.name()
        ))),
        _ => Ok(()),
    }
}

/// Checks that there is a test part for --final-test before a long run.
///
/// # Errors
/// When there is none.
pub fn check_final_test(data: &Split) -> Result<()> {
    data.test().map(drop).map_err(|e| Error::invalid_argument(format!("--final-test: {e}")))
}
