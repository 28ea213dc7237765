//! Files that are in two parts of a data set: what a network has learned by heart makes an accuracy too high.

use std::collections::HashMap;
use std::path::Path;

use neocog_base::text::count;

use crate::split::{Part, Split};

/// Number of files that a warning names.
const NAMED: usize = 3;

/// Returns a warning for each part other than the training part of which files are in the training part, too, byte for byte.
/// Files are read only if there are others of the same size. Those that cannot be read are equal to no other.
pub(crate) fn warnings(split: &Split) -> Vec<String> {
    let train = &*split.train;
    let mut by_size = HashMap::<u64, Vec<usize>>::new();
    for i in 0..train.len() {
        if let Some((_, size)) = train.file(i) {
            by_size.entry(size).or_default().push(i);
        }
    }
    if by_size.is_empty() {
        return Vec::new();
    }
    let others = [(Part::Validation, &split.validation), (Part::Test, &split.test)];
    others
        .into_iter()
        .filter_map(|(part, dataset)| {
            let dataset = &**dataset.as_ref()?;
            let twins: Vec<(&Path, &Path)> = (0..dataset.len())
                .filter_map(|i| {
                    let (path, size) = dataset.file(i)?;
                    let same_size = by_size.get(&size)?;
                    let bytes = dataset.file_bytes(i)?.ok()?;
                    let is_twin =
                        |&&j: &&usize| matches!(train.file_bytes(j), Some(Ok(other)) if other == bytes);
                    Some((path, train.file(*same_size.iter().find(is_twin)?)?.0))
                })
                .collect();
            (!twins.is_empty()).then(|| warning(part, &twins))
        })
        .collect()
}

fn warning(part: Part, twins: &[(&Path, &Path)]) -> String {
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
