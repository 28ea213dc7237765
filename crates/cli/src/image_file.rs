//! Images of data sets as files: RGB pixels, and file names that contain the class.

use std::path::Path;

use image::RgbImage;
use neocog_data::{ByteImage, Dataset};
use neocog_tensor::{Error, Result};

/// Returns image `i` in RGB.
///
/// # Errors
/// When it cannot be read, or has neither 1 nor 3 channels.
pub fn rgb_image(data: &dyn Dataset, i: usize) -> Result<RgbImage> {
    let mut image = ByteImage::default();
    data.read(i, &mut image)?;
    if !matches!(image.channels(), 1 | 3) {
        let channels = image.channels();
        return Err(Error::shape(format!("cannot write images with {channels} channels; expected 1 or 3")));
    }
    image.convert(3)?;
    let (h, w) = image.size();
    let pixel = |x: u32, y: u32| {
        let pixel = &image.pixels()[3 * (y as usize * w + x as usize)..];
        image::Rgb([pixel[0], pixel[1], pixel[2]])
    };
    Ok(RgbImage::from_fn(w as u32, h as u32, pixel))
}

/// The file name of image `i`: `00012-ankle_boot.png` for image 12 of the class "Ankle boot".
pub fn file_name(i: usize, class: &str) -> String {
    format!("{i:05}-{}.png", slug(class))
}

/// The class that a file name ends with, as written by [`file_name`].
pub fn class_in_name(path: &Path, class_names: &[String]) -> Option<usize> {
    let (_, class) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    class_names.iter().position(|name| slug(name) == class.to_lowercase())
}

/// The name in lower case, with `_` in place of other characters than letters and digits.
fn slug(class: &str) -> String {
    class.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_contain_the_class() {
        let classes = ["T-shirt/top", "Ankle boot", "7"].map(String::from);
        assert_eq!(file_name(12, &classes[1]), "00012-ankle_boot.png");
        for (i, class) in classes.iter().enumerate() {
            assert_eq!(class_in_name(Path::new(&format!("a/b/{}", file_name(3, class))), &classes), Some(i));
        }
        for other in ["boot.png", "00001-shoe.png", "7.png", "-", ""] {
            assert_eq!(class_in_name(Path::new(other), &classes), None, "{other}");
        }
    }
}
