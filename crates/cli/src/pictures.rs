//! Pictures of data sets: their pixels, and names of files that tell their class.

use std::path::Path;

use neocog_data::Dataset;
use neocog_tensor::{Error, Result};

/// Image `i` as `[h, w]` colours.
pub fn rgb(data: &Dataset, i: usize) -> Result<Vec<[u8; 3]>> {
    let [c, h, w] = data.shape();
    let levels = data.levels();
    let value =
        |channel: usize, i_pixel: usize| levels[usize::from(data.image(i)[channel * h * w + i_pixel])];
    match c {
        1 => Ok((0..h * w).map(|p| [value(0, p); 3]).collect()),
        3 => Ok((0..h * w).map(|p| [0, 1, 2].map(|channel| value(channel, p))).collect()),
        _ => Err(Error::shape(format!("images of {c} channels are no pictures"))),
    }
}

/// `00012-ankle_boot.png` for image 12 of the class "Ankle boot".
pub fn file_name(i: usize, class: &str) -> String {
    format!("{i:05}-{}.png", plain(class))
}

/// The class that the name of a file ends with after a `-`, as [`file_name`] writes it.
pub fn class_in_name(path: &Path, class_names: &[String]) -> Option<usize> {
    let (_, told) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    class_names.iter().position(|name| plain(name) == told.to_lowercase())
}

/// Lower case, with `_` for what is no letter or digit.
fn plain(class: &str) -> String {
    class.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_class() {
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
