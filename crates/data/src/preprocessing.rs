//! [`Preprocessing`]: what turns an image file into the input of a network, as it was in training.

use std::collections::BTreeMap;
use std::path::Path;

use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::catalog::DatasetInfo;
use crate::image::{Alpha, ByteImage, DecodeOptions, decode_file};
use crate::resize::ResizeCache;
use crate::sample::{SampleId, Transform};
use crate::transform::Pipeline;

/// Whether bright and dark are exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Inversion {
    /// They are not.
    #[default]
    Never,
    /// They are if the border of the image is bright: for networks that were trained on bright objects on a dark background.
    Auto,
    /// They always are.
    Always,
}

/// What turns an image file into the input of a network. It is a part of the network: checkpoints hold it, and weights files
/// have it in their metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preprocessing {
    /// Shape of the input, `[c, h, w]`.
    pub input: [usize; 3],
    /// The deterministic transforms.
    #[serde(default)]
    pub transforms: Pipeline,
    /// What becomes of transparent pixels.
    #[serde(default)]
    pub alpha: Alpha,
    /// Whether bright and dark are exchanged.
    #[serde(default)]
    pub inversion: Inversion,
}

/// An image that is ready for a network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Preprocessed {
    /// The input of the network, `[c, h, w]`.
    pub pixels: Vec<f32>,
    /// The image before it was normalized, `[c, h, w]`, values from 0 to 1.
    pub shown: Vec<f32>,
    /// Whether bright and dark were exchanged.
    pub inverted: bool,
}

impl Preprocessing {
    /// The key of the metadata of a weights file that holds the preprocessing, as JSON.
    pub const METADATA: &'static str = "neocog.preprocessing";
    /// The key of the metadata of a weights file that holds the class names, as a JSON list.
    pub const CLASS_NAMES: &'static str = "neocog.class_names";

    /// Creates the preprocessing of a network that was trained with `transforms` on the data set called `data`, or on an
    /// unknown one. A name that is not in the catalog is that of a folder. Networks for grayscale images whose data are not known are
    /// taken for trained on bright objects.
    pub fn new(input: [usize; 3], transforms: &Pipeline, data: Option<&str>) -> Self {
        // The file system has no part in it: the result is the same wherever the network is used.
        let bright = match data {
            Some(data) => DatasetInfo::find(data).is_ok_and(|info| info.is_bright_on_dark),
            None => input[0] == 1,
        };
        let (alpha, inversion) = match (bright, input[0]) {
            (true, 1) => (Alpha::OnWhite, Inversion::Auto),
            (true, _) => (Alpha::OnWhite, Inversion::Never),
            (false, _) => (Alpha::Drop, Inversion::Never),
        };
        Preprocessing { input, transforms: transforms.fixed(), alpha, inversion }
    }

    /// Reads the preprocessing from the metadata of a weights file; `None` if there is none.
    ///
    /// # Errors
    /// `Format` if it is damaged.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let Some(text) = metadata.get(Self::METADATA) else { return Ok(None) };
        let found: Self = serde_json::from_str(text)
            .map_err(|e| Error::format("the preprocessing in the metadata is damaged").with_source(e))?;
        found.transforms.check()?;
        Ok(Some(found))
    }

    /// Returns the metadata of a weights file, with the class names.
    pub fn metadata(&self, class_names: &[String]) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let values = [
            (Self::METADATA, serde_json::to_string(self)),
            (Self::CLASS_NAMES, serde_json::to_string(class_names)),
        ];
        for (key, value) in values {
            // Numbers, names and lists can always be written.
            metadata.extend(value.ok().map(|value| (key.to_string(), value)));
        }
        metadata
    }

    /// Reads an image file and preprocesses it.
    ///
    /// # Errors
    /// As [`decode_file`]; when a transform fails. The message names the file.
    pub fn read(&self, path: &Path, resizer: &mut ResizeCache) -> Result<Preprocessed> {
        let mut image = ByteImage::default();
        decode_file(path, DecodeOptions::new(self.input[0]).alpha(self.alpha), &mut image)?;
        self.apply(image, resizer).map_err(|e| e.context(path.display().to_string()))
    }

    /// Preprocesses an image.
    ///
    /// # Errors
    /// When it cannot be converted or resized, or a transform fails.
    pub fn apply(&self, mut image: ByteImage, resizer: &mut ResizeCache) -> Result<Preprocessed> {
        let [c, h, w] = self.input;
        image.convert(c)?;
        let inverted = match self.inversion {
            Inversion::Never => false,
            Inversion::Always => true,
            Inversion::Auto => border_is_bright(&image),
        };
        self.transforms.start(&mut image, (h, w), resizer)?;
        if inverted {
            image.pixels_mut().iter_mut().for_each(|value| *value = 255 - *value);
        }
        let mut shown = vec![0.0; c * h * w];
        let visible = self.transforms.without_normalization();
        visible.finish(&mut image.clone(), &mut shown, self.input, SampleId::default(), resizer)?;
        let mut pixels = vec![0.0; c * h * w];
        self.transforms.finish(&mut image, &mut pixels, self.input, SampleId::default(), resizer)?;
        Ok(Preprocessed { pixels, shown, inverted })
    }
}

/// Whether the mean of the outermost pixels is above half of the maximum.
fn border_is_bright(image: &ByteImage) -> bool {
    let (h, w, c) = (image.height(), image.width(), image.channels());
    let (mut sum, mut count) = (0u64, 0u64);
    for (i, pixel) in image.pixels().chunks_exact(c).enumerate() {
        let (y, x) = (i / w, i % w);
        if x == 0 || y == 0 || x + 1 == w || y + 1 == h {
            sum += pixel.iter().map(|&value| u64::from(value)).sum::<u64>();
            count += c as u64;
        }
    }
    sum > 127 * count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{Normalize, Step};

    fn gray(height: usize, width: usize, pixels: Vec<u8>) -> ByteImage {
        ByteImage::new(height, width, 1, pixels).unwrap()
    }

    #[test]
    fn images_with_a_bright_border_are_inverted() {
        let mut pixels = vec![250; 25];
        pixels[12] = 3;
        let image = gray(5, 5, pixels);
        let apply = |preprocessing: &Preprocessing| {
            preprocessing.apply(image.clone(), &mut ResizeCache::default()).unwrap()
        };
        let mut preprocessing = Preprocessing::new([1, 5, 5], &Pipeline::default(), Some("mnist"));
        assert_eq!((preprocessing.inversion, preprocessing.alpha), (Inversion::Auto, Alpha::OnWhite));
        let inverted = apply(&preprocessing);
        assert!(inverted.inverted);
        assert_eq!((inverted.pixels[12], inverted.pixels[0]), (252.0 / 255.0, 5.0 / 255.0));
        preprocessing.inversion = Inversion::Never;
        assert_eq!(apply(&preprocessing).pixels[12], 3.0 / 255.0);
        assert!(!border_is_bright(&gray(1, 2, vec![0, 254])));
    }

    #[test]
    fn photographs_are_not_inverted() {
        let of = |data: Option<&str>, channels| {
            Preprocessing::new([channels, 8, 8], &Pipeline::default(), data).inversion
        };
        for folder in ["./flowers", "flowers", "flowers.pack"] {
            assert_eq!(of(Some(folder), 1), Inversion::Never, "{folder}");
        }
        assert_eq!(of(Some("cifar-10"), 3), Inversion::Never);
        assert_eq!(of(Some("digits"), 1), Inversion::Auto);
        assert_eq!((of(None, 1), of(None, 3)), (Inversion::Auto, Inversion::Never));
    }

    #[test]
    fn preprocessing_travels_in_metadata() {
        let normalize = Step::Normalize(Normalize { mean: vec![0.25], std: vec![0.5] });
        let transforms = Pipeline::from([Step::RandomHorizontalFlip { p: 0.5 }, normalize]);
        let preprocessing = Preprocessing::new([1, 2, 2], &transforms, None);
        let names = vec!["a \"b\"".to_string()];
        let metadata = preprocessing.metadata(&names);
        assert_eq!(metadata["format"], "pt");
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&metadata[Preprocessing::CLASS_NAMES]).unwrap(),
            names
        );
        assert_eq!(Preprocessing::from_metadata(&metadata).unwrap(), Some(preprocessing.clone()));
        assert_eq!(Preprocessing::from_metadata(&BTreeMap::new()).unwrap(), None);
        let image = preprocessing.apply(gray(2, 2, vec![0, 255, 0, 0]), &mut ResizeCache::default()).unwrap();
        assert_eq!(image.pixels, [-0.5, 1.5, -0.5, -0.5]);
        assert_eq!(image.shown, [0.0, 1.0, 0.0, 0.0]);
        let damaged = BTreeMap::from([(Preprocessing::METADATA.to_string(), "{".to_string())]);
        assert!(Preprocessing::from_metadata(&damaged).unwrap_err().to_string().contains("damaged"));
    }
}
