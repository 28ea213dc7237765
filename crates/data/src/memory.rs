//! [`MemoryDataset`]: 8-bit images of one size in memory.

use std::borrow::Cow;
use std::sync::Arc;

use neocog_base::{Error, Result};

use crate::dataset::{self, Dataset};
use crate::image::ByteImage;

/// 8-bit images `[n, c, h, w]` of one size, each with a label.
///
/// Invariants: there is at least one image, each image has one label, each label is below the number of classes, and
/// no value exceeds [`max_value`](Dataset::max_value).
#[derive(Clone, Debug)]
pub struct MemoryDataset {
    parts: DatasetParts,
    levels: [u8; 256],
}

/// The unchecked content of a [`MemoryDataset`], the argument of [`MemoryDataset::new`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DatasetParts {
    /// Name, used in error messages.
    pub name: String,
    /// Shape of one image, `[c, h, w]`.
    pub shape: [usize; 3],
    /// Pixels `[n, c, h, w]`, row-major, from 0 (black) to `max_value` (white).
    pub pixels: Vec<u8>,
    /// Class of each image, `[n]`.
    pub labels: Vec<u32>,
    /// Class names, indexed by label.
    pub class_names: Vec<String>,
    /// Pixel value of white.
    pub max_value: u8,
}

impl DatasetParts {
    /// Describes images of shape `[c, h, w]` with pixels from 0 to 255.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        pixels: Vec<u8>,
        labels: Vec<u32>,
        class_names: Vec<String>,
    ) -> Self {
        DatasetParts { name: name.into(), shape, pixels, labels, class_names, max_value: 255 }
    }

    /// Sets the pixel value of white.
    #[must_use]
    pub fn max_value(mut self, max_value: u8) -> Self {
        self.max_value = max_value;
        self
    }
}

impl MemoryDataset {
    /// Creates a data set from `parts` after checking the invariants of the type.
    ///
    /// # Errors
    /// `Format` if the parts are inconsistent; the message names the data set and what was expected.
    pub fn new(parts: DatasetParts) -> Result<Self> {
        let invalid = |what: String| Err(Error::format(what).context(&parts.name));
        let image = parts.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(0);
        if image == 0 {
            return invalid(format!("images of shape {:?} (channels, height, width) are empty", parts.shape));
        }
        if parts.max_value == 0 {
            return invalid("the maximum pixel value is 0, expected 1 to 255".into());
        }
        if !parts.pixels.len().is_multiple_of(image) {
            return invalid(format!(
                "{} pixels are not a whole number of images of shape {:?}",
                parts.pixels.len(),
                parts.shape
            ));
        }
        let count = parts.pixels.len() / image;
        if count != parts.labels.len() {
            return invalid(format!(
                "{count} images but {} labels, expected one label per image; are they from the same data set?",
                parts.labels.len()
            ));
        }
        if parts.max_value < 255
            && let Some(i) = parts.pixels.iter().position(|&p| p > parts.max_value)
        {
            return invalid(format!(
                "image {} has a pixel value of {}, expected 0 to {}",
                i / image,
                parts.pixels[i],
                parts.max_value
            ));
        }
        let dataset = MemoryDataset { levels: levels(parts.max_value), parts };
        dataset::check(&dataset)?;
        Ok(dataset)
    }

    /// Returns the shape of one image, `[c, h, w]`.
    pub fn shape(&self) -> [usize; 3] {
        self.parts.shape
    }

    /// Returns image `i`, `[c, h, w]` row-major, with values from 0 to [`max_value`](Dataset::max_value).
    ///
    /// # Panics
    /// If `i` is not below [`len`](Dataset::len).
    pub fn image(&self, i: usize) -> &[u8] {
        let size = self.parts.shape.iter().product::<usize>();
        &self.parts.pixels[i * size..][..size]
    }

    /// Returns all pixels, `[n, c, h, w]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.parts.pixels
    }

    /// Returns the lookup table from pixel values to 0 to 255: `v * 255 / max_value`, halves rounded up, and 255 for
    /// values above [`max_value`](Dataset::max_value).
    pub fn levels(&self) -> [u8; 256] {
        self.levels
    }
}

fn levels(max_value: u8) -> [u8; 256] {
    let max = u32::from(max_value);
    let mut levels = [255; 256];
    for (v, level) in levels.iter_mut().enumerate().take(max as usize + 1) {
        *level = ((v as u32 * 255 + max / 2) / max) as u8;
    }
    levels
}

impl Dataset for MemoryDataset {
    fn name(&self) -> &str {
        &self.parts.name
    }
    fn channels(&self) -> usize {
        self.parts.shape[0]
    }
    fn size(&self) -> Option<(usize, usize)> {
        let [_, h, w] = self.parts.shape;
        Some((h, w))
    }
    fn labels(&self) -> &[u32] {
        &self.parts.labels
    }
    fn class_names(&self) -> &[String] {
        &self.parts.class_names
    }

    fn read(&self, i: usize, image: &mut ByteImage) -> Result<()> {
        let [c, h, w] = self.parts.shape;
        let pixels = image.reset(h, w, c);
        for (channel, plane) in self.image(i).chunks_exact(h * w).enumerate() {
            for (pixel, &value) in pixels[channel..].iter_mut().step_by(c).zip(plane) {
                *pixel = self.levels[usize::from(value)];
            }
        }
        Ok(())
    }

    fn identity(&self, i: usize) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.image(i))
    }
    fn max_value(&self) -> u8 {
        self.parts.max_value
    }

    fn count_values(&self, i: usize, counts: &mut [[u64; 256]]) -> Result<()> {
        let [_, h, w] = self.parts.shape;
        for (plane, counts) in self.image(i).chunks_exact(h * w).zip(counts) {
            plane.iter().for_each(|&value| counts[usize::from(value)] += 1);
        }
        Ok(())
    }
}

impl From<MemoryDataset> for Arc<dyn Dataset> {
    fn from(dataset: MemoryDataset) -> Self {
        Arc::new(dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::mean_and_std;
    use neocog_base::ErrorKind;

    fn parts() -> DatasetParts {
        DatasetParts {
            name: "tiny".into(),
            shape: [1, 2, 2],
            pixels: vec![0, 1, 2, 3, 4, 5, 6, 7],
            labels: vec![1, 0],
            class_names: vec!["cat".into(), "dog".into()],
            max_value: 255,
        }
    }

    fn error_message(parts: DatasetParts) -> String {
        let e = MemoryDataset::new(parts).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format);
        assert!(e.to_string().starts_with("tiny: "), "{e}");
        e.to_string()
    }

    #[test]
    fn inconsistent_parts_are_rejected() {
        assert!(MemoryDataset::new(parts()).is_ok());
        let text = error_message(DatasetParts { labels: vec![1, 0, 1], ..parts() });
        assert!(text.contains("2 images but 3 labels"), "{text}");
        let text = error_message(DatasetParts { labels: vec![1, 2], ..parts() });
        assert!(
            text.contains("the label of image 1 is 2, but there are 2 classes: expected 0 to 1"),
            "{text}"
        );
        let text = error_message(DatasetParts { max_value: 6, ..parts() });
        assert!(text.contains("image 1 has a pixel value of 7, expected 0 to 6"), "{text}");
        let text = error_message(DatasetParts { pixels: vec![0; 7], ..parts() });
        assert!(text.contains("7 pixels are not a whole number of images"), "{text}");
        let text = error_message(DatasetParts { pixels: vec![], labels: vec![], ..parts() });
        assert!(text.contains("has no images"), "{text}");
        error_message(DatasetParts { max_value: 0, ..parts() });
        error_message(DatasetParts { shape: [1, 0, 2], ..parts() });
        error_message(DatasetParts { shape: [1, usize::MAX, 3], ..parts() });
        error_message(DatasetParts { class_names: vec![], ..parts() });
    }

    #[test]
    fn labels_have_32_bits() {
        let class_names = (0..22_000).map(|i| format!("class {i}")).collect();
        let labels = vec![21_999, 256];
        let data = MemoryDataset::new(DatasetParts { labels, class_names, ..parts() }).unwrap();
        assert_eq!((data.labels(), data.classes()), (&[21_999, 256][..], 22_000));
    }

    #[test]
    fn planes_are_interleaved_and_scaled() {
        let data = MemoryDataset::new(DatasetParts { shape: [2, 1, 2], max_value: 7, ..parts() }).unwrap();
        let mut image = ByteImage::default();
        data.read(0, &mut image).unwrap();
        assert_eq!((image.height(), image.width(), image.channels()), (1, 2, 2));
        assert_eq!(image.pixels(), [0, 73, 36, 109]);
    }

    #[test]
    fn mean_and_std_of_each_channel() {
        let pixels = vec![0, 200, 100, 100, 0, 200, 100, 100];
        let data = MemoryDataset::new(DatasetParts { shape: [2, 1, 2], pixels, max_value: 200, ..parts() });
        let (mean, std) = mean_and_std(&data.unwrap()).unwrap();
        assert_eq!((mean, std), (vec![0.5, 0.5], vec![0.5, 0.0]));
    }

    #[test]
    fn levels_round_halves_up() {
        let data = MemoryDataset::new(parts()).unwrap();
        assert!(data.levels().iter().enumerate().all(|(v, &l)| v == usize::from(l)));
        let expected = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255];
        assert_eq!(levels(16)[..17], expected);
    }
}
