//! EMNIST: handwritten letters and digits in six divisions, read from one archive, with images put upright.
//!
//! The files are IDX files of MNIST's size whose images are transposed. Classes are numbered in the order digits, capital
//! letters, small letters; `letters` numbers the 26 letters from 1, so class 0 is unused, as in torchvision.

use std::io::{BufReader, Read};
use std::path::Path;

use neocog_base::file::open_input;
use neocog_base::{Error, Result};

use super::idx_files::{DIGIT_NAMES, build};
use crate::catalog::{DatasetInfo, Manifest, RemoteFile};
use crate::idx::{self, IdxImages};
use crate::register_dataset;
use crate::split::Split;

const MANIFEST: Manifest<'static> = Manifest::new(
    "emnist",
    &["https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/"],
    &[RemoteFile::new(
        "gzip.zip",
        561_753_746,
        "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    )],
);

/// Most that an uncompressed file of the archive may have: twice the largest.
const MAX_FILE: u64 = 1_200_000_000;

const fn emnist(name: &'static str, classes: &'static [&'static str], about: &'static str) -> DatasetInfo {
    DatasetInfo::new(name, classes, load_emnist).with_about(about).bright_on_dark().with_manifest(MANIFEST)
}

register_dataset!(emnist(
    "emnist-balanced",
    BY_MERGE,
    "131,600 characters of 47 classes, 28x28 (Cohen et al., 2017)"
));
register_dataset!(emnist(
    "emnist-byclass",
    BY_CLASS,
    "814,255 characters of 62 classes, 28x28 (Cohen et al., 2017)"
));
register_dataset!(emnist(
    "emnist-bymerge",
    BY_MERGE,
    "814,255 characters of 47 classes, 28x28 (Cohen et al., 2017)"
));
register_dataset!(emnist("emnist-digits", DIGIT_NAMES, "280,000 digits, 28x28 (Cohen et al., 2017)"));
register_dataset!(emnist(
    "emnist-letters",
    LETTERS,
    "145,600 letters of 26 classes, 28x28 (Cohen et al., 2017)"
));
register_dataset!(emnist("emnist-mnist", DIGIT_NAMES, "70,000 digits, 28x28 (Cohen et al., 2017)"));

#[rustfmt::skip]
const BY_CLASS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"];
#[rustfmt::skip]
const BY_MERGE: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "a", "b", "d", "e", "f", "g", "h", "n", "q", "r", "t"];
#[rustfmt::skip]
const LETTERS: &[&str] = &["N/A", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"];

fn load_emnist(info: &DatasetInfo, root: &Path) -> Result<Split> {
    let path = info.folder(root).join("gzip.zip");
    if !path.exists() {
        return Err(info.not_downloaded(&path, root));
    }
    let read = |part: &str| -> Result<_> {
        let images = read_entry(&path, &format!("{}-{part}-images-idx3-ubyte.gz", info.name))?;
        let labels = read_entry(&path, &format!("{}-{part}-labels-idx1-ubyte.gz", info.name))?;
        let images = upright(idx::parse_images(info.name, &images)?)?;
        build(info, part, (images, idx::parse_labels(info.name, &labels)?), 255)
    };
    let located = |e: Error| info.damaged_archive(e, &path, root);
    Ok(Split::new(read("train").map_err(located)?, read("test").map_err(located)?))
}

/// Reads the file of the archive whose name, without folders, is `name`.
fn read_entry(path: &Path, name: &str) -> Result<Vec<u8>> {
    let damaged = |e: String| Error::format(format!("cannot read the archive: {e}"));
    let file = open_input(path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(e.to_string()))?;
    let is_it = |entry: &str| entry.rsplit('/').next() == Some(name);
    let Some(entry) = archive.file_names().find(|entry| is_it(entry)).map(str::to_string) else {
        return Err(Error::format(format!("the archive has no file {name}")));
    };
    let entry = archive.by_name(&entry).map_err(|e| damaged(e.to_string()))?;
    let mut bytes = Vec::new();
    entry.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(bytes)
}

/// Exchanges rows and columns of square images.
fn upright(mut images: IdxImages) -> Result<IdxImages> {
    let side = images.height;
    if side != images.width {
        return Err(Error::format(format!("images of {side}x{}, expected squares", images.width)));
    }
    for image in images.pixels.chunks_exact_mut((side * side).max(1)) {
        for y in 0..side {
            for x in 0..y {
                image.swap(y * side + x, x * side + y);
            }
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use neocog_base::ErrorKind;

    use super::*;
    use crate::idx::Idx;
    use crate::image::ByteImage;

    fn gzip(sizes: &[usize], data: Vec<u8>) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&Idx { sizes: sizes.to_vec(), data }.encode().unwrap()).unwrap();
        encoder.finish().unwrap()
    }

    fn write_archive(root: &Path, files: &[(&str, Vec<u8>)]) {
        fs::create_dir_all(root.join("emnist")).unwrap();
        let mut archive = zip::ZipWriter::new(fs::File::create(root.join("emnist/gzip.zip")).unwrap());
        for (name, bytes) in files {
            let options = zip::write::SimpleFileOptions::default();
            archive.start_file(format!("gzip/emnist-{name}.gz"), options).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn images_are_put_upright() {
        let root = tempfile::tempdir().unwrap();
        let e = crate::load("emnist-letters", root.path()).unwrap_err();
        assert!(e.to_string().contains("fetch-data emnist-letters"), "{e}");
        let mut files = vec![
            ("letters-train-images-idx3-ubyte", gzip(&[2, 3, 3], (0..18).collect())),
            ("letters-train-labels-idx1-ubyte", gzip(&[2], vec![1, 26])),
            ("letters-test-images-idx3-ubyte", gzip(&[1, 3, 3], vec![5; 9])),
            ("letters-test-labels-idx1-ubyte", gzip(&[1], vec![2])),
        ];
        write_archive(root.path(), &files);
        let split = crate::load("emnist-letters", root.path()).unwrap();
        let mut image = ByteImage::default();
        split.train.read(0, &mut image).unwrap();
        assert_eq!(image.pixels(), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
        let names: Vec<&str> =
            split.train.labels().iter().map(|&l| split.train.class_names()[l as usize].as_str()).collect();
        assert_eq!(names, ["a", "z"]);
        let e = crate::load("emnist-digits", root.path()).unwrap_err().to_string();
        assert!(e.contains("has no file emnist-digits-train-images-idx3-ubyte.gz"), "{e}");
        files[0].1 = gzip(&[2, 3, 2], vec![0; 12]);
        write_archive(root.path(), &files);
        let e = crate::load("emnist-letters", root.path()).unwrap_err().to_string();
        assert!(e.contains("3x2, expected squares"), "{e}");
        fs::write(root.path().join("emnist/gzip.zip"), b"<html>").unwrap();
        let e = crate::load("emnist-letters", root.path()).unwrap_err();
        assert!(e.kind() == ErrorKind::Format && e.to_string().contains("download it again"), "{e}");
    }
}
