//! `data --export`: images of a data set as files.

use std::path::Path;
use std::process::ExitCode;

use neocog_base::text;
use neocog_data::Dataset;
use neocog_tensor::Result;
use neocog_viz::save;

use crate::image_file::{file_name, rgb_image};
use crate::output;

/// Writes the first `count` images to `folder`. One that cannot be read is reported, and the others are written; the exit code is then 1.
///
/// # Errors
/// When a file cannot be written.
pub fn export(data: &dyn Dataset, count: usize, folder: &Path) -> Result<ExitCode> {
    let (mut written, mut failed) = (0, 0);
    for i in 0..count.min(data.len()) {
        let class = &data.class_names()[data.labels()[i] as usize];
        match rgb_image(data, i) {
            Ok(image) => {
                save(&image, &folder.join(file_name(i, class)))?;
                written += 1;
            }
            Err(e) => {
                failed += 1;
                output::note(format_args!("error: {e}"));
            }
        }
    }
    output::line(format_args!(
        "wrote {} of {} to {}",
        text::count(written, "image"),
        data.name(),
        folder.display()
    ))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_file::class_in_name;

    #[test]
    fn exported_files_have_the_pixels_of_the_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().test.unwrap();
        export(&*data, 3, folder.path()).unwrap();
        let mut files: Vec<_> = folder.path().read_dir().unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 3);
        for (i, file) in files.iter().enumerate() {
            let image = image::open(file).unwrap().to_luma8();
            let mut expected = neocog_data::ByteImage::default();
            data.read(i, &mut expected).unwrap();
            assert_eq!(image.into_raw(), expected.pixels());
            assert_eq!(class_in_name(file, data.class_names()), Some(data.labels()[i] as usize));
        }
    }
}
