//! Files that are in two parts of a data set: what a network has learned by heart makes an accuracy too high.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use neocog_base::text::count;

use crate::dataset::Dataset;
use crate::split::{Part, Split};

/// Number of files that a warning names.
const NAMED: usize = 3;

/// Returns a warning for each part other than the training part of which files are in the training part, too, byte for byte.
/// Files are read only if there are others of the same size. Those that cannot be read are equal to no other.
pub(crate) fn warnings(split: &Split) -> Vec<String> {
    let train = files(&*split.train);
    if train.is_empty() {
        return Vec::new();
    }
    let mut by_size = HashMap::<u64, Vec<&Path>>::new();
    for (path, size) in &train {
        by_size.entry(*size).or_default().push(path);
    }
    let others = [(Part::Validation, &split.validation), (Part::Test, &split.test)];
    others
        .into_iter()
        .filter_map(|(part, dataset)| {
            let files = files(&**dataset.as_ref()?);
            let twins: Vec<(&PathBuf, &Path)> = files
                .iter()
                .filter_map(|(path, size)| {
                    let twin = by_size.get(size)?.iter().find(|other| is_same_content(path, other));
                    Some((path, *twin?))
                })
                .collect();
            (!twins.is_empty()).then(|| warning(part, &twins))
        })
        .collect()
}

fn warning(part: Part, twins: &[(&PathBuf, &Path)]) -> String {
    let named: String = twins
        .iter()
        .take(NAMED)
        .map(|(path, twin)| format!("\n  {} is {}", path.display(), twin.display()))
        .collect();
    let more = match twins.len() - twins.len().min(NAMED) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    format!(
        "{} of the {part} part {} also in the training part, byte for byte: the {part} accuracy is too high{named}{more}",
        count(twins.len(), "image"),
        if twins.len() == 1 { "is" } else { "are" }
    )
}

/// The files of a data set with their sizes in bytes.
fn files(dataset: &dyn Dataset) -> Vec<(PathBuf, u64)> {
    let file = |i| {
        let path = dataset.path(i)?;
        let size = std::fs::metadata(path).ok()?.len();
        Some((path.to_path_buf(), size))
    };
    (0..dataset.len()).filter_map(file).collect()
}

/// Compares two files of the same size, up to the first difference.
fn is_same_content(a: &Path, b: &Path) -> bool {
    let bytes = |path: &Path| File::open(path).map(|file| BufReader::new(file).bytes());
    let (Ok(a), Ok(b)) = (bytes(a), bytes(b)) else { return false };
    a.zip(b).all(|(a, b)| matches!((a, b), (Ok(a), Ok(b)) if a == b))
}
