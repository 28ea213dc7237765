//! `data --export`: images of a data set as files.

use std::path::Path;

use image::RgbImage;
use neocog_base::text;
use neocog_data::Dataset;
use neocog_tensor::Result;
use neocog_viz::save;

use crate::image_file::{file_name, rgb_pixels};
use crate::output;

/// Writes the first `count` images to `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn export(data: &Dataset, count: usize, folder: &Path) -> Result<()> {
    let count = count.min(data.len());
    let [_, h, w] = data.shape();
    for i in 0..count {
        let class = &data.class_names()[usize::from(data.labels()[i])];
        let pixels = rgb_pixels(data, i)?;
        let image =
            RgbImage::from_fn(w as u32, h as u32, |x, y| image::Rgb(pixels[y as usize * w + x as usize]));
        save(&image, &folder.join(file_name(i, class)))?;
    }
    output::line(format_args!(
        "wrote {} of {} to {}",
        text::count(count, "image"),
        data.name(),
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_file::class_in_name;

    #[test]
    fn exported_files_have_the_pixels_of_the_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().test;
        export(&data, 3, folder.path()).unwrap();
        let mut files: Vec<_> = folder.path().read_dir().unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 3);
        let levels = data.levels();
        for (i, file) in files.iter().enumerate() {
            let image = image::open(file).unwrap().to_luma8();
            let expected: Vec<u8> = data.image(i).iter().map(|&p| levels[usize::from(p)]).collect();
            assert_eq!(image.into_raw(), expected);
            assert_eq!(class_in_name(file, data.class_names()), Some(usize::from(data.labels()[i])));
        }
    }
}
