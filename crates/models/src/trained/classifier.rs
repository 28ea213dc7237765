//! [`Classifier`]: classification of image files with a trained network.

use std::fmt;
use std::path::Path;

use neocog_data::resize::ResizeCache;
use neocog_data::{ByteImage, Preprocessed, Preprocessing};
use neocog_layers::{Layer, Predictor};
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Tensor};

use super::network::SavedNetwork;
use super::predict::{Prediction, predict};

/// A trained network with what turns an image into its input, and the names of its classes.
///
/// ```no_run
/// # fn main() -> neocog_base::Result<()> {
/// use neocog_models::Classifier;
///
/// let classifier = Classifier::open("runs/resnet-flowers/best.ckpt")?;
/// let result = classifier.classify("rose.jpg")?;
/// println!("{} ({:.1} %)", result.class(), 100.0 * result.probability());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Classifier {
    predictor: Predictor,
    preprocessing: Preprocessing,
    class_names: Vec<String>,
    device: Device,
}

impl Classifier {
    /// Opens the checkpoint at `path`, for the CPU.
    ///
    /// # Errors
    /// As [`SavedNetwork::read`] and [`SavedNetwork::network`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(path, &Device::Cpu)
    }

    /// Opens the checkpoint at `path`, for `device`.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub fn open_on(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let trained = SavedNetwork::read(path)?;
        let network = trained.network(device).context(|| path.display().to_string())?;
        let preprocessing = trained.preprocessing();
        Ok(Self::new(network, preprocessing, trained.class_names, device))
    }

    /// Creates a classifier of a network, whose parameters are on `device`.
    pub fn new(
        network: Box<dyn Layer>,
        preprocessing: Preprocessing,
        class_names: Vec<String>,
        device: &Device,
    ) -> Self {
        Classifier { predictor: Predictor::new(network), preprocessing, class_names, device: *device }
    }

    /// Returns the names of the classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Classifies an image file, of any format that data sets are read from.
    ///
    /// # Errors
    /// As [`Preprocessing::read`]; `Diverged` if the output of the network is not finite; when the device fails.
    pub fn classify(&self, path: impl AsRef<Path>) -> Result<Classification> {
        let path = path.as_ref();
        let image = self.preprocessing.read(path, &mut ResizeCache::default())?;
        self.run(&image).context(|| path.display().to_string())
    }

    /// Classifies an image in memory.
    ///
    /// # Errors
    /// As [`Preprocessing::apply`], and as [`Classifier::classify`].
    pub fn classify_image(&self, image: ByteImage) -> Result<Classification> {
        self.run(&self.preprocessing.apply(image, &mut ResizeCache::default())?)
    }

    fn run(&self, image: &Preprocessed) -> Result<Classification> {
        let [c, h, w] = self.preprocessing.input;
        let input = Tensor::from_f32([1, c, h, w], &image.pixels, &self.device)?;
        let no_prediction = || Error::invalid_argument("the network has no output");
        let prediction = predict(&self.predictor, &input)?.pop().ok_or_else(no_prediction)?;
        Classification::new(prediction, &self.class_names)
    }
}

/// The result of a classification: classes with their names and probabilities, the most likely first.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    classes: Vec<ClassProbability>,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassProbability {
    /// Index of the class.
    pub class: usize,
    /// Its name, or `class N` if it has none.
    pub name: String,
    /// Its probability, from 0 to 1.
    pub probability: f64,
}

impl Classification {
    /// Adds names to a prediction.
    ///
    /// # Errors
    /// `Diverged` if a probability is not finite, or there is no class.
    fn new(prediction: Prediction, names: &[String]) -> Result<Self> {
        if prediction.classes.is_empty() || prediction.classes.iter().any(|(_, p)| !p.is_finite()) {
            return Err(Error::new(ErrorKind::Diverged, "the output of the network is not finite"));
        }
        let named = |(class, probability): (usize, f64)| {
            let name = names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
            ClassProbability { class, name, probability }
        };
        Ok(Classification { classes: prediction.classes.into_iter().map(named).collect() })
    }

    /// Returns all classes, in descending order of probability; at least one.
    pub fn classes(&self) -> &[ClassProbability] {
        &self.classes
    }

    /// Returns the name of the most likely class.
    pub fn class(&self) -> &str {
        &self.classes[0].name
    }

    /// Returns the probability of the most likely class.
    pub fn probability(&self) -> f64 {
        self.classes[0].probability
    }
}

/// The most likely class and its probability, such as `rose (97.3 %)`.
impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1} %)", self.class(), 100.0 * self.probability())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_get_names() {
        let prediction = Prediction { classes: vec![(1, 0.75), (2, 0.25)] };
        let result = Classification::new(prediction, &["cat".into(), "dog".into()]).unwrap();
        assert_eq!(result.to_string(), "dog (75.0 %)");
        assert_eq!((result.class(), result.probability()), ("dog", 0.75));
        assert_eq!(result.classes()[1].name, "class 2");
        for classes in [vec![], vec![(0, f64::NAN)]] {
            let e = Classification::new(Prediction { classes }, &[]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Diverged);
        }
    }
}
