//! [`Split`]: the training, validation and test part of a data set; stratified parts and folds of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Subset};
use crate::shuffle::SplitMix64;

/// The parts of a data set.
///
/// Networks are trained on the first part. The best epoch is chosen on the validation part, and the test part is used once,
/// at the end. The small data sets of the course have no validation part unless one is asked for: they are tested after each
/// epoch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Split {
    /// Training part.
    pub train: Arc<dyn Dataset>,
    /// Validation part, if there is one.
    pub validation: Option<Arc<dyn Dataset>>,
    /// Test part, if there is one.
    pub test: Option<Arc<dyn Dataset>>,
    /// What a user should know about the data, such as that the files are those of another data set.
    pub warnings: Vec<String>,
}

/// A part of a [`Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What the parameters are trained on.
    Train,
    /// What the best epoch is chosen on.
    Validation,
    /// What is used once, at the end.
    Test,
}

impl Part {
    /// Returns the name, such as `validation`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Split {
    /// Creates a split of a training and a test set.
    pub fn new(train: impl Into<Arc<dyn Dataset>>, test: impl Into<Arc<dyn Dataset>>) -> Self {
        Split { test: Some(test.into()), ..Split::of(train) }
    }

    /// Creates a split of a training set alone.
    pub fn of(train: impl Into<Arc<dyn Dataset>>) -> Self {
        Split { train: train.into(), validation: None, test: None, warnings: Vec::new() }
    }

    /// Returns a part.
    ///
    /// # Errors
    /// `NotFound` if the data set has no such part.
    pub fn part(&self, part: Part) -> Result<&Arc<dyn Dataset>> {
        let found = match part {
            Part::Train => Some(&self.train),
            Part::Validation => self.validation.as_ref(),
            Part::Test => self.test.as_ref(),
        };
        found.ok_or_else(|| {
            let advice = match part {
                Part::Test => "a folder has one if it has a folder `test`, or with --test FRACTION",
                _ => "use --val FRACTION",
            };
            Error::new(
                neocog_base::ErrorKind::NotFound,
                format!("{} has no {part} part; {advice}", self.train.name()),
            )
        })
    }

    /// Returns the test part.
    ///
    /// # Errors
    /// As [`part`](Self::part).
    pub fn test(&self) -> Result<&Arc<dyn Dataset>> {
        self.part(Part::Test)
    }

    /// Returns the part that is evaluated after each epoch: the validation part, or else the test part.
    ///
    /// # Errors
    /// `NotFound` if there is neither.
    pub fn evaluated(&self) -> Result<(Part, &Arc<dyn Dataset>)> {
        let part =
            if self.validation.is_some() || self.test.is_none() { Part::Validation } else { Part::Test };
        Ok((part, self.part(part)?))
    }

    /// Uses only `count` samples of each part: the first ones, or, of image files, which are in the order of their classes, some
    /// from the whole part.
    ///
    /// # Errors
    /// `InvalidArgument` for a count of 0.
    pub fn limit(&mut self, count: usize) -> Result<()> {
        self.train = Subset::first(&self.train, count)?;
        for part in [&mut self.validation, &mut self.test].into_iter().flatten() {
            *part = Subset::first(part, count)?;
        }
        Ok(())
    }

    /// Splits parts off the training part as `options` say. A part that exists already is kept.
    ///
    /// # Errors
    /// `InvalidArgument` if the options contradict each other or the data, or a class has too few images.
    pub fn divide(&mut self, options: &SplitOptions, seed: u64) -> Result<()> {
        options.check()?;
        if let Some(fraction) = options.test {
            if self.test.is_some() {
                return Err(Error::invalid_argument(format!(
                    "{} has a test part: --test {fraction} would be a second one",
                    self.train.name()
                )));
            }
            let (train, test) = stratified(&self.train, fraction, seed ^ TEST_STREAM, Part::Test)?;
            (self.train, self.test) = (train, Some(test));
        }
        let fraction = match (options.val, options.fold) {
            (None, None) => return Ok(()),
            _ if self.validation.is_some() => {
                return Err(Error::invalid_argument(format!(
                    "{} has a validation part: --val and --folds would make a second one",
                    self.train.name()
                )));
            }
            (_, Some(fold)) => {
                let (train, validation) = folds(&self.train, fold, seed)?;
                (self.train, self.validation) = (train, Some(validation));
                return Ok(());
            }
            (Some(fraction), None) => fraction,
        };
        let (train, validation) = stratified(&self.train, fraction, seed, Part::Validation)?;
        (self.train, self.validation) = (train, Some(validation));
        Ok(())
    }
}

/// Keeps the choice of the test part apart from that of the validation part.
const TEST_STREAM: u64 = 0x7465_7374;

/// Which parts to split off the training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SplitOptions {
    /// Fraction of the training images to validate on, above 0 and below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<f64>,
    /// Fraction of the images to test on, above 0 and below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// The fold to validate on, in place of a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

/// One of several folds of cross-validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// Number of the fold that is the validation part, from 1.
    pub fold: usize,
    /// Number of folds, at least 2.
    pub folds: usize,
}

impl SplitOptions {
    /// The fraction of a folder's images to validate on, if it has no validation part.
    pub const DEFAULT_VAL: f64 = 0.1;

    /// Creates options that split nothing off.
    pub fn new() -> Self {
        SplitOptions::default()
    }

    /// Sets the fraction to validate on.
    #[must_use]
    pub fn val(mut self, fraction: Option<f64>) -> Self {
        self.val = fraction;
        self
    }

    /// Sets the fraction to test on.
    #[must_use]
    pub fn test(mut self, fraction: Option<f64>) -> Self {
        self.test = fraction;
        self
    }

    /// Sets the fold to validate on.
    #[must_use]
    pub fn fold(mut self, fold: Option<Fold>) -> Self {
        self.fold = fold;
        self
    }

    /// Whether nothing is split off.
    pub fn is_empty(&self) -> bool {
        *self == SplitOptions::default()
    }

    /// Checks that fractions are above 0 and below 1, and the fold is one of the folds.
    ///
    /// # Errors
    /// `InvalidArgument` otherwise.
    pub fn check(&self) -> Result<()> {
        if let (Some(val), Some(test)) = (self.val, self.test)
            && val + test >= 1.0
        {
            return Err(Error::invalid_argument(format!(
                "--val {val} and --test {test} leave no images to train on: their sum must be below 1"
            )));
        }
        for (name, fraction) in [("--val", self.val), ("--test", self.test)] {
            if let Some(fraction) = fraction
                && !(fraction > 0.0 && fraction < 1.0)
            {
                return Err(Error::invalid_argument(format!(
                    "{name} must be a fraction above 0 and below 1, such as 0.1, not {fraction}"
                )));
            }
        }
        if let Some(Fold { fold, folds }) = self.fold {
            if folds < 2 || !(1..=folds).contains(&fold) {
                return Err(Error::invalid_argument(format!(
                    "--folds must be at least 2 and --fold from 1 to the number of folds, not {folds} and {fold}"
                )));
            }
            if self.val.is_some() {
                return Err(Error::invalid_argument(
                    "--val and --folds are two ways to choose the validation part",
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fold, self.folds)
    }
}

impl FromStr for Fold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (fold, folds) =
            numbers.ok_or_else(|| Error::invalid_argument("expected FOLD/FOLDS, such as 1/5"))?;
        Ok(Fold { fold, folds })
    }
}

/// Returns the samples of each class, shuffled: a function of the seed and the number of samples of the class alone.
fn shuffled_classes(dataset: &dyn Dataset, seed: u64) -> Vec<Vec<u32>> {
    let mut classes = vec![Vec::new(); dataset.classes()];
    for (i, &label) in (0..).zip(dataset.labels()) {
        classes[label as usize].push(i);
    }
    for (class, samples) in (0..).zip(&mut classes) {
        let mut numbers = SplitMix64::new(seed, class);
        for last in (1..samples.len()).rev() {
            samples.swap(last, numbers.below(last as u32 + 1) as usize);
        }
    }
    classes
}

/// Splits off `fraction` of the samples of each class, rounded, but at least one, and leaves at least one.
fn stratified(
    dataset: &Arc<dyn Dataset>,
    fraction: f64,
    seed: u64,
    part: Part,
) -> Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    let (mut rest, mut taken) = (Vec::new(), Vec::new());
    for (class, samples) in shuffled_classes(&**dataset, seed).into_iter().enumerate() {
        match samples.len() {
            0 => continue,
            1 => {
                return Err(Error::invalid_argument(format!(
                    "the class {} of {} has one image: a {part} part of {fraction} needs at least two of each class; add \
                     images, or remove the class",
                    dataset.class_names()[class],
                    dataset.name()
                )));
            }
            n => {
                let count = ((n as f64 * fraction).round() as usize).clamp(1, n - 1);
                taken.extend(&samples[..count]);
                rest.extend(&samples[count..]);
            }
        }
    }
    parts(dataset, rest, taken, part)
}

/// Takes every `folds`-th sample of each class, shuffled, as validation part.
fn folds(
    dataset: &Arc<dyn Dataset>,
    Fold { fold, folds }: Fold,
    seed: u64,
) -> Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    let (mut rest, mut taken) = (Vec::new(), Vec::new());
    for (class, samples) in shuffled_classes(&**dataset, seed).into_iter().enumerate() {
        if !samples.is_empty() && samples.len() < folds {
            return Err(Error::invalid_argument(format!(
                "the class {} of {} has {} images: {folds} folds need at least {folds} of each class",
                dataset.class_names()[class],
                dataset.name(),
                samples.len()
            )));
        }
        for (i, sample) in samples.into_iter().enumerate() {
            if i % folds + 1 == fold { taken.push(sample) } else { rest.push(sample) }
        }
    }
    parts(dataset, rest, taken, Part::Validation)
}

/// Both parts in the order of the data set.
fn parts(
    dataset: &Arc<dyn Dataset>,
    mut rest: Vec<u32>,
    mut taken: Vec<u32>,
    part: Part,
) -> Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    rest.sort_unstable();
    taken.sort_unstable();
    let base = dataset.name();
    // The name of a part of a data set is `name (train)`.
    let stem = base.strip_suffix(" (train)").unwrap_or(base);
    let rest = Subset::new(Arc::clone(dataset), rest, base)?;
    let taken = Subset::new(Arc::clone(dataset), taken, format!("{stem} ({part})"))?;
    Ok((Arc::new(rest), Arc::new(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{DatasetParts, MemoryDataset};

    /// Images of a pixel with the index as value; `counts[i]` of class `i`, interleaved.
    fn data(counts: &[usize]) -> Arc<dyn Dataset> {
        let mut labels = Vec::new();
        for i in 0..*counts.iter().max().unwrap() {
            labels.extend((0..counts.len()).filter(|&c| i < counts[c]).map(|c| c as u32));
        }
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        let names = (0..counts.len()).map(|i| format!("class {i}")).collect();
        MemoryDataset::new(DatasetParts::new("set (train)", [1, 1, 1], pixels, labels, names)).unwrap().into()
    }

    fn counts(dataset: &dyn Dataset) -> Vec<usize> {
        let mut counts = vec![0; dataset.classes()];
        dataset.labels().iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    fn indices(dataset: &dyn Dataset) -> Vec<u32> {
        (dataset as &dyn std::any::Any).downcast_ref::<Subset>().unwrap().indices().to_vec()
    }

    #[test]
    fn parts_are_stratified_disjoint_and_complete() {
        let mut split = Split::of(data(&[40, 20, 3]));
        split.divide(&SplitOptions::new().val(Some(0.2)), 1).unwrap();
        let validation = split.validation.as_ref().unwrap();
        assert_eq!(counts(&**validation), [8, 4, 1]);
        assert_eq!(counts(&*split.train), [32, 16, 2]);
        assert_eq!((split.train.name(), validation.name()), ("set (train)", "set (validation)"));
        let mut all = [indices(&*split.train), indices(&**validation)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..63));

        let mut other = Split::of(data(&[40, 20, 3]));
        other.divide(&SplitOptions::new().val(Some(0.2)), 2).unwrap();
        assert_ne!(indices(&**other.validation.as_ref().unwrap()), indices(&**validation));
    }

    #[test]
    fn a_test_part_is_split_off_before_the_validation_part() {
        let mut split = Split::of(data(&[50, 50]));
        split.divide(&SplitOptions::new().test(Some(0.2)).val(Some(0.25)), 1).unwrap();
        let sizes =
            [&split.train, split.validation.as_ref().unwrap(), split.test().unwrap()].map(|p| p.len());
        assert_eq!(sizes, [60, 20, 20]);
        // Other fractions or folds of validation do not change what is tested on.
        let mut folded = Split::of(data(&[50, 50]));
        let fold = Some(Fold { fold: 2, folds: 4 });
        folded.divide(&SplitOptions::new().test(Some(0.2)).fold(fold), 1).unwrap();
        assert_eq!(indices(&**folded.test().unwrap()), indices(&**split.test().unwrap()));
        let e = split.divide(&SplitOptions::new().test(Some(0.1)), 1).unwrap_err().to_string();
        assert!(e.contains("set (train) has a test part"), "{e}");
        let e = split.divide(&SplitOptions::new().val(Some(0.1)), 1).unwrap_err().to_string();
        assert!(e.contains("has a validation part"), "{e}");
    }

    #[test]
    fn every_sample_is_validated_on_in_one_fold() {
        let mut seen = Vec::new();
        for fold in 1..=3 {
            let mut split = Split::of(data(&[10, 7]));
            split.divide(&SplitOptions::new().fold(Some(Fold { fold, folds: 3 })), 5).unwrap();
            seen.extend(indices(&**split.validation.as_ref().unwrap()));
            assert_eq!(split.train.len() + split.validation.unwrap().len(), 17);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..17));
    }

    #[test]
    fn classes_that_are_too_small_and_wrong_options_are_errors() {
        let divide = |counts: &[usize], options: SplitOptions| {
            Split::of(data(counts)).divide(&options, 0).unwrap_err().to_string()
        };
        let e = divide(&[5, 1], SplitOptions::new().val(Some(0.1)));
        assert!(e.contains("the class class 1 of set (train) has one image"), "{e}");
        let e = divide(&[5, 2], SplitOptions::new().fold(Some(Fold { fold: 1, folds: 3 })));
        assert!(e.contains("class 1 of set (train) has 2 images: 3 folds need at least 3"), "{e}");
        for fraction in [0.0, 1.0, -0.5, f64::NAN] {
            let e = divide(&[5, 5], SplitOptions::new().val(Some(fraction)));
            assert!(e.contains("--val must be a fraction above 0 and below 1"), "{e}");
        }
        let e = divide(&[5, 5], SplitOptions::new().fold(Some(Fold { fold: 4, folds: 3 })));
        assert!(e.contains("not 3 and 4"), "{e}");
        let both = SplitOptions::new().val(Some(0.1)).fold(Some(Fold { fold: 1, folds: 3 }));
        assert!(divide(&[5, 5], both).contains("two ways"));
    }
}
