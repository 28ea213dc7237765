//! Pictures as files.

use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use neocog_tensor::{Error, ErrorKind, Result};

/// Writes a picture as PNG, in place of what is there. Folders that are missing are made.
///
/// # Errors
/// When it cannot be written: then a file that was there is as it was.
pub fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|e| {
        Error::new(ErrorKind::Io, format!("cannot make the picture {}", path.display())).with_source(e)
    })?;
    write_whole(path, bytes.get_ref())
        .map_err(|e| Error::io(format!("cannot write the picture {}", path.display()), e))
}

/// Writes a file under another name in the same folder, which is made if it is missing, and gives it its name when all of
/// it is there.
///
/// # Errors
/// When it cannot be written: then a file that was there is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let part = folder.join(format!(".{}.part", name.display()));
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to tell; what is left of the file is of no use to anyone.
        let _ = fs::remove_file(&part);
    }
    written
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
