//! PNG files.

use std::io::{Cursor, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};
use neocog_base::file;
use neocog_base::{Error, ErrorKind, Result};

/// Encodes an image as PNG.
///
/// # Errors
/// `Io` if it cannot be encoded, as an image without pixels.
pub fn encode(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot encode an image as PNG").with_source(e))?;
    Ok(bytes.into_inner())
}

/// Encodes an image as PNG within a `data:` URI, which a page can show without another file.
///
/// # Errors
/// As [`encode`].
pub fn data_uri(image: &RgbImage) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(encode(image)?)))
}

/// Writes an image as PNG file, atomically replacing an existing file. Missing directories are created.
///
/// # Errors
/// `Io` if the file cannot be written; an existing file is left unchanged.
pub fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let bytes = encode(image).map_err(|e| e.context(path.display().to_string()))?;
    file::write(path, |file| file.write_all(&bytes))
        .map_err(|e| Error::io(format!("cannot write the image {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn saved_images_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.png");
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        save(&image, &path).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), image);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary files remain");
        let e = save(&image, &path.join("below-a-file.png")).unwrap_err();
        assert!(e.to_string().contains("below-a-file.png"), "{e}");
        assert_eq!(image::open(&path).unwrap().to_rgb8(), image);
    }
}
