//! A data set that is made by code: bright halves of images.

use std::path::Path;

use neocog_base::Result;
use neocog_data::{ByteImage, Dataset, DatasetInfo, Split, register_dataset};

register_dataset!(
    DatasetInfo::new("bright_half", &["left", "right"], load)
        .with_about("Images whose left or right half is bright; made by code")
);

/// Color images of 8x8 whose left or right half is bright. Image `i` is of class `i % 2`.
#[derive(Debug)]
pub struct BrightHalf {
    labels: Vec<u32>,
    class_names: Vec<String>,
}

impl BrightHalf {
    /// Creates `count` images.
    pub fn new(info: &DatasetInfo, count: u32) -> Self {
        BrightHalf { labels: (0..count).map(|i| i % 2).collect(), class_names: info.class_names() }
    }
}

fn load(info: &DatasetInfo, _root: &Path) -> Result<Split> {
    let part = |count| -> std::sync::Arc<dyn Dataset> { std::sync::Arc::new(BrightHalf::new(info, count)) };
    Ok(Split::new(part(64), part(16)))
}

impl Dataset for BrightHalf {
    fn name(&self) -> &str {
        "bright_half"
    }

    fn channels(&self) -> usize {
        3
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((8, 8))
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn read(&self, i: usize, image: &mut ByteImage) -> Result<()> {
        let right = self.labels[i] == 1;
        // The brightness differs from image to image, and the colors within a pixel.
        let bright = 150 + (i % 100) as u8;
        for (p, pixel) in image.reset(8, 8, 3).chunks_exact_mut(3).enumerate() {
            let is_bright = (p % 8 >= 4) == right;
            pixel.copy_from_slice(&if is_bright { [bright, bright - 20, bright] } else { [20, 30, 10] });
        }
        Ok(())
    }
}
