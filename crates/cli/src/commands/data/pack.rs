//! `data --pack`: all images of a folder in one file.

use std::path::Path;

use indicatif::ProgressBar;
use neocog_base::memory::readable_bytes;
use neocog_base::text::count;
use neocog_data::{DataSource, Part, folder};
use neocog_tensor::{Error, Result};

use crate::output;
use crate::outputs;

/// Packs the folder `data` into `file`.
///
/// # Errors
/// When `data` is not a folder, an image cannot be read, or the file cannot be written.
pub fn pack(data: &str, file: &Path, skip_broken: bool) -> Result<()> {
    let DataSource::Folder(path) = DataSource::find(data)? else {
        return Err(Error::invalid_argument(format!(
            "--pack packs a folder of images; {data} is a data set of files that are read whole"
        )));
    };
    if !path.is_dir() {
        return Err(Error::invalid_argument(format!("{data} is packed already")));
    }
    outputs::check(None, [file])?;
    let bar = ProgressBar::no_length();
    let packed = folder::pack(&path, file, skip_broken, |written, total| {
        bar.set_length(total as u64);
        bar.set_position(written as u64);
    });
    bar.finish_and_clear();
    let packed = packed?;
    output::warnings(&packed);
    let parts = [Part::Train, Part::Validation, Part::Test].into_iter().filter_map(|part| {
        let images = packed.part(part).ok()?.len();
        Some(format!("{part} {images}"))
    });
    let parts: Vec<String> = parts.collect();
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    output::line(format_args!(
        "packed {} of {} ({}) into {}, {}",
        data,
        count(packed.train.classes(), "class"),
        parts.join(", "),
        file.display(),
        readable_bytes(size)
    ))
}
