//! Pictures as files.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use neocog_base::file::replace;
use neocog_base::{Error, ErrorKind, Result};

/// Writes a picture as PNG, in place of what is there. Folders that are missing are made.
///
/// # Errors
/// When it cannot be written: then a file that was there is as it was.
pub fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot make the picture {}", path.display())).with_source(e)
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| replace(path, |file| file.write_all(bytes.get_ref())))
        .map_err(|e| Error::io(format!("cannot write the picture {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.png");
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        save(&image, &path).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), image);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        let e = save(&image, &path.join("below-a-file.png")).unwrap_err();
        assert!(e.to_string().contains("below-a-file.png"), "{e}");
        assert_eq!(image::open(&path).unwrap().to_rgb8(), image);
    }
}
