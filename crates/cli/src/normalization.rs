//! What turns an image into the input of a network, as arguments: size and normalization.

use neocog_data::resize::Filter;
use neocog_data::transform::{CenterCrop, Normalize, Pipeline, Preset, Resize, ResizeTo, Step};
use neocog_tensor::Result;

/// Parses MEAN/STD.
///
/// # Errors
/// When the text is not two lists of numbers, or the numbers are not valid.
pub fn normalize(text: &str) -> Result<Normalize, String> {
    let numbers =
        |text: &str| text.split(',').map(|n| n.trim().parse::<f32>().ok()).collect::<Option<Vec<f32>>>();
    let parts = text.split_once('/').and_then(|(mean, std)| Some((numbers(mean)?, numbers(std)?)));
    let (mean, std) = parts.ok_or("expected MEAN/STD, such as 0.286/0.353 or 0.5,0.5,0.4/0.2,0.2,0.3")?;
    Ok(Normalize { mean, std })
}

/// Parses MEAN/STD, or `none`, as the transforms of a network's input.
///
/// # Errors
/// As [`normalize`], and when the numbers are not valid.
pub fn input_transforms(text: &str) -> Result<Pipeline, String> {
    if text == "none" {
        return Ok(Pipeline::default());
    }
    let pipeline = Pipeline::from([Step::Normalize(normalize(text)?)]);
    pipeline.check().map_err(|e| e.to_string())?;
    Ok(pipeline)
}

/// The preprocessing of a trained network, where it is not that of its file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InputTransforms {
    /// Mean and standard deviation that the network's input was normalized with, per channel, or none [default: those of the
    /// checkpoint, or of the metadata of the weights].
    #[arg(long, value_name = "MEAN/STD|none", value_parser = input_transforms)]
    normalize: Option<Pipeline>,
    /// Resize the shorter side of images to PIXELS and crop the center of the network's input size [default: as in training].
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Interpolation of images that are resized [default: as in training].
    #[arg(long, value_enum, value_name = "NAME")]
    interpolation: Option<Interpolation>,
    /// Preprocessing of images as in the evaluation of a training: imagenet (shorter side resized to 256/224 of the input, and the
    /// center of it), or cifar; both normalize with the statistics of their data set [default: as in training].
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<PresetName>,
}

/// How images are resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Interpolation {
    #[default]
    Bilinear,
    Bicubic,
}

impl Interpolation {
    /// The filter.
    pub fn filter(self) -> Filter {
        match self {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
        }
    }
}

/// The name of a preset.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum PresetName {
    Imagenet,
    Cifar,
}

impl PresetName {
    /// The transforms for inputs of the shape `[c, h, w]`.
    pub fn pipeline(self, [c, h, w]: [usize; 3]) -> Pipeline {
        let preset = match self {
            PresetName::Imagenet => Preset::ImageNet,
            PresetName::Cifar => Preset::Cifar,
        };
        preset.pipeline(c, (h, w))
    }
}

/// The shorter side resized to `shorter`, and the center of the size `(h, w)`.
pub fn center(shorter: usize, size: (usize, usize), filter: Filter) -> [Step; 2] {
    let resize = Resize { size: ResizeTo::Shorter(shorter), filter };
    [Step::Resize(resize), Step::CenterCrop(CenterCrop { size })]
}

/// Adds the steps that are the same for every image to random ones, in torchvision's usual order: sizes first, the normalization
/// after all but erasing.
pub fn add_fixed(steps: &mut Vec<Step>, fixed: impl IntoIterator<Item = Step>) {
    let (normalization, sizes): (Vec<Step>, Vec<Step>) =
        fixed.into_iter().partition(|step| step.name() == "Normalize");
    let erasing = steps.iter().position(|step| step.name() == "RandomErasing").unwrap_or(steps.len());
    steps.splice(erasing..erasing, normalization);
    steps.splice(0..0, sizes);
}

/// Sets the filter of the steps that resize; if there is none, adds one that resizes to `(h, w)`.
pub fn set_filter(steps: &mut Vec<Step>, filter: Filter, (h, w): (usize, usize)) {
    let mut found = false;
    for step in steps.iter_mut() {
        match step {
            Step::Resize(Resize { filter: of, .. }) => (*of, found) = (filter, true),
            Step::RandomResizedCrop(crop) => (crop.filter, found) = (filter, true),
            _ => {}
        }
    }
    if !found {
        steps.insert(0, Step::Resize(Resize { size: ResizeTo::Exact(h, w), filter }));
    }
}

impl InputTransforms {
    /// Whether no argument is given.
    pub fn is_empty(&self) -> bool {
        let InputTransforms { normalize, resize, interpolation, preset } = self;
        normalize.is_none() && resize.is_none() && interpolation.is_none() && preset.is_none()
    }

    /// Returns the transforms of images for inputs of the shape `[c, h, w]`: `own` with what the arguments change.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn apply(&self, own: &Pipeline, input: [usize; 3]) -> Result<Pipeline> {
        let size = (input[1], input[2]);
        let base = self.preset.map_or_else(|| own.clone(), |preset| preset.pipeline(input).fixed());
        let mut steps = base.steps;
        if let Some(shorter) = self.resize {
            steps.retain(|step| !matches!(step, Step::Resize(_) | Step::CenterCrop(_)));
            let filter = self.interpolation.unwrap_or_default().filter();
            steps.splice(0..0, center(shorter, size, filter));
        } else if let Some(interpolation) = self.interpolation {
            set_filter(&mut steps, interpolation.filter(), size);
        }
        if let Some(normalize) = &self.normalize {
            steps.retain(|step| step.name() != "Normalize");
            steps.extend(normalize.steps.iter().cloned());
        }
        let pipeline = Pipeline::from(steps);
        pipeline.check()?;
        Ok(pipeline)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn arguments_change_what_they_name_and_keep_the_rest() {
        let names = |pipeline: &Pipeline| pipeline.to_string();
        let own = PresetName::Imagenet.pipeline([3, 224, 224]).fixed();
        let none = InputTransforms::default();
        assert!(none.is_empty());
        assert_eq!(none.apply(&own, [3, 224, 224]).unwrap(), own);
        let resized = InputTransforms { resize: Some(40), ..none.clone() };
        let changed = resized.apply(&own, [3, 32, 32]).unwrap();
        assert_eq!(changed.steps.len(), 3, "{}", names(&changed));
        assert_eq!(changed.steps[..2], center(40, (32, 32), Filter::Bilinear));
        assert_eq!(changed.steps[2], own.steps[2]);
        let bicubic = InputTransforms { interpolation: Some(Interpolation::Bicubic), ..none.clone() };
        let Step::Resize(resize) = &bicubic.apply(&own, [3, 224, 224]).unwrap().steps[0] else { panic!() };
        assert_eq!((resize.size, resize.filter), (ResizeTo::Shorter(256), Filter::Bicubic));
        let exact = bicubic.apply(&Pipeline::default(), [3, 8, 9]).unwrap();
        assert_eq!(
            exact.steps,
            [Step::Resize(Resize { size: ResizeTo::Exact(8, 9), filter: Filter::Bicubic })]
        );
        let without = InputTransforms { normalize: Some(Pipeline::default()), ..none.clone() };
        assert_eq!(without.apply(&own, [3, 224, 224]).unwrap().steps, own.steps[..2]);
        let preset = InputTransforms { preset: Some(PresetName::Imagenet), ..none };
        assert_eq!(preset.apply(&Pipeline::default(), [3, 224, 224]).unwrap(), own);
    }
}
