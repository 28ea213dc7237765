//! Whether the files of a data set are its own: checksums of their content, compressed or not.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::catalog::DatasetInfo;
use crate::idx::IdxPair;

/// A file whose content is known.
struct KnownFile {
    set: &'static str,
    /// Position among the files of the set: training images, training labels, test images, test labels.
    position: usize,
    /// SHA-256 of the uncompressed file.
    sha256: &'static str,
}

const fn known(set: &'static str, position: usize, sha256: &'static str) -> KnownFile {
    KnownFile { set, position, sha256 }
}

const KNOWN: [KnownFile; 8] = [
    known("fashion-mnist", 0, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    known("fashion-mnist", 1, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    known("fashion-mnist", 2, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    known("fashion-mnist", 3, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    known("mnist", 0, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    known("mnist", 1, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    known("mnist", 2, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    known("mnist", 3, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
];

const PARTS: [&str; 4] = ["training images", "training labels", "test images", "test labels"];

/// Returns a warning if the files of `info` in `folder` are not those that its name promises.
pub(crate) fn check(info: &DatasetInfo, folder: &Path, train: &IdxPair, test: &IdxPair) -> Option<String> {
    let sums = [images(train), labels(train), images(test), labels(test)];
    describe(info.name, folder, &sums.each_ref().map(|sum| find(sum)))
}

fn find(sum: &str) -> Option<&'static KnownFile> {
    KNOWN.iter().find(|known| known.sha256 == sum)
}

fn describe(set: &str, folder: &Path, found: &[Option<&KnownFile>; 4]) -> Option<String> {
    let folder = folder.display();
    let is = |i: usize, set: &str| found[i].is_some_and(|file| file.set == set && file.position == i);
    if (0..4).all(|i| is(i, set)) {
        return None;
    }
    if let Some(other) = found[0].map(|file| file.set)
        && (0..4).all(|i| is(i, other))
    {
        return Some(format!(
            "the files in {folder} are those of {other}, not of {set}: their classes have wrong names"
        ));
    }
    let lines = (0..4).filter(|&i| !is(i, set)).map(|i| match found[i] {
        Some(file) => format!("the {} are the {} of {}", PARTS[i], PARTS[file.position], file.set),
        None => format!("the {} have an unknown checksum", PARTS[i]),
    });
    let lines: Vec<String> = lines.collect();
    Some(format!("the files in {folder} are not those of {set}: {}", lines.join(", ")))
}

fn images((images, _): &IdxPair) -> String {
    checksum(&[images.count, images.height, images.width], &images.pixels)
}

fn labels((_, labels): &IdxPair) -> String {
    checksum(&[labels.len()], labels)
}

/// SHA-256 of the IDX file with this content.
fn checksum(sizes: &[usize], data: &[u8]) -> String {
    let mut sum = Sha256::new();
    sum.update([0, 0, 8, sizes.len() as u8]);
    for &size in sizes {
        // The sizes were read from a file of 32-bit sizes.
        sum.update((size as u32).to_be_bytes());
    }
    sum.update(data);
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idx::{Idx, IdxImages};

    #[test]
    fn the_checksum_is_that_of_the_file() {
        let file = Idx { sizes: vec![2, 1, 3], data: vec![1, 2, 3, 4, 5, 6] };
        let bytes = file.encode().unwrap();
        let expected: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(checksum(&file.sizes, &file.data), expected);
    }

    #[test]
    fn files_of_another_set_and_unknown_files_are_named() {
        let folder = Path::new("data/mnist");
        let of = |first: usize| [0, 1, 2, 3].map(|i| Some(&KNOWN[first + i]));
        assert_eq!(describe("mnist", folder, &of(4)), None);
        assert_eq!(
            describe("mnist", folder, &of(0)).unwrap(),
            "the files in data/mnist are those of fashion-mnist, not of mnist: their classes have wrong names"
        );
        let mixed = [Some(&KNOWN[6]), Some(&KNOWN[5]), None, Some(&KNOWN[3])];
        assert_eq!(
            describe("mnist", folder, &mixed).unwrap(),
            "the files in data/mnist are not those of mnist: the training images are the test images of mnist, \
             the test images have an unknown checksum, the test labels are the test labels of fashion-mnist"
        );
        let pair = (IdxImages { count: 1, height: 1, width: 1, pixels: vec![7] }, vec![0]);
        let info = DatasetInfo::find("mnist").unwrap();
        assert!(check(info, folder, &pair, &pair).unwrap().contains("unknown checksum"));
    }
}
