//! Files that are in two parts of a data set: what a network has learned by heart makes an accuracy too high.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use neocog_base::text::count;

use crate::dataset::Dataset;
use crate::split::{Part, Split};

/// Number of files that a warning names.
const NAMED: usize = 3;

/// Returns a warning for each part other than the training part of which files are in the training part, too, byte for byte.
/// Files are read, once, only if there are others of the same size. Those that cannot be read are equal to no other.
pub(crate) fn warnings(split: &Split) -> Vec<String> {
    let mut training = TrainingFiles::of(&*split.train);
    if training.by_size.is_empty() {
        return Vec::new();
    }
    let others = [(Part::Validation, &split.validation), (Part::Test, &split.test)];
    others
        .into_iter()
        .filter_map(|(part, dataset)| {
            let dataset = &**dataset.as_ref()?;
            let twins: Vec<(&Path, &Path)> = (0..dataset.len())
                .filter_map(|i| Some((dataset.file(i)?.0, training.twin(dataset, i)?)))
                .collect();
            (!twins.is_empty()).then(|| warning(part, &twins))
        })
        .collect()
}

/// The files of the training part by size and content.
struct TrainingFiles<'a> {
    train: &'a dyn Dataset,
    by_size: HashMap<u64, Vec<usize>>,
    /// For each size that was asked for, the files by the hash of their content.
    by_hash: HashMap<u64, HashMap<u64, Vec<usize>>>,
}

impl<'a> TrainingFiles<'a> {
    fn of(train: &'a dyn Dataset) -> Self {
        let mut by_size = HashMap::<u64, Vec<usize>>::new();
        for i in 0..train.len() {
            if let Some((_, size)) = train.file(i) {
                by_size.entry(size).or_default().push(i);
            }
        }
        TrainingFiles { train, by_size, by_hash: HashMap::new() }
    }

    /// The training file with the content of file `i` of `dataset`.
    fn twin(&mut self, dataset: &dyn Dataset, i: usize) -> Option<&'a Path> {
        let train = self.train;
        let size = dataset.file(i)?.1;
        let same_size = self.by_size.get(&size)?;
        let bytes = dataset.file_bytes(i)?.ok()?;
        let same_hash = self.by_hash.entry(size).or_insert_with(|| {
            let mut by_hash = HashMap::<u64, Vec<usize>>::new();
            for &j in same_size {
                if let Some(Ok(other)) = train.file_bytes(j) {
                    by_hash.entry(hash(&other)).or_default().push(j);
                }
            }
            by_hash
        });
        let is_twin = |&&j: &&usize| matches!(train.file_bytes(j), Some(Ok(other)) if other == bytes);
        Some(train.file(*same_hash.get(&hash(&bytes))?.iter().find(is_twin)?)?.0)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
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
