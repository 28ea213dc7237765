//! PNG files.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use neocog_base::file::replace;
use neocog_base::{Error, ErrorKind, Result};

/// Writes an image as PNG file, atomically replacing an existing file. Missing directories are created.
///
/// # Errors
/// `Io` if the file cannot be written; an existing file is left unchanged.
pub fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot encode the image {}", path.display())).with_source(e)
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| replace(path, |file| file.write_all(bytes.get_ref())))
        .map_err(|e| Error::io(format!("cannot write the image {}", path.display()), e))
}

#[cfg(test)]
mod tests {
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
