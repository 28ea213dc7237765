//! Packed files: the images of a folder in one file, and files that are not what they seem.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, RgbImage};
use neocog_data::dataset::fingerprint;
use neocog_data::{ByteImage, DataOptions, DataSource, Dataset, Part, Split, folder};
use tempfile::TempDir;

/// A folder with three parts, two classes and images of varied sizes and formats, and a place for a packed file.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (part, count) in [("train", 5), ("val", 2), ("test", 3)] {
            for (class, value) in [("b", 40u8), ("a", 200)] {
                for i in 0..count {
                    let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp][i as usize % 3];
                    let shade = |x: u32, y: u32| image::Rgb([value, (x * 9 + i) as u8, (y * 5) as u8]);
                    let mut bytes = Cursor::new(Vec::new());
                    let image: DynamicImage = RgbImage::from_fn(20 + i, 12 + count, shade).into();
                    image.write_to(&mut bytes, format).unwrap();
                    let extension = format.extensions_str()[0];
                    let path = folder.0.path().join(format!("images/{part}/{class}/more/{i}.{extension}"));
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes.into_inner()).unwrap();
                }
            }
        }
        folder
    }

    fn images(&self) -> PathBuf {
        self.0.path().join("images")
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("images.pack")
    }

    fn pack(&self) -> Split {
        folder::pack(&self.images(), &self.file(), false, |_, _| ()).unwrap()
    }

    /// The error of opening the packed file with other content.
    fn error(&self, bytes: &[u8]) -> String {
        fs::write(self.file(), bytes).unwrap();
        let e = folder::open(&self.file(), false).unwrap_err().to_string();
        assert!(e.contains("images.pack"), "{e}");
        e
    }
}

const PARTS: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

fn fingerprint_of(dataset: &dyn Dataset) -> Vec<u8> {
    let mut all = Vec::new();
    fingerprint(dataset, |bytes| all.extend_from_slice(bytes));
    all
}

#[test]
fn a_packed_file_is_the_folder() {
    let folder = Folder::new();
    let (packed, open) = (folder.pack(), folder::open(&folder.images(), false).unwrap());
    for part in PARTS {
        let (a, b) = (packed.part(part).unwrap(), open.part(part).unwrap());
        assert_eq!(a.labels(), b.labels());
        assert_eq!((a.class_names(), a.name(), a.channels()), (b.class_names(), b.name(), b.channels()));
        assert_eq!(fingerprint_of(&**a), fingerprint_of(&**b));
        for i in 0..a.len() {
            let (mut x, mut y) = (ByteImage::default(), ByteImage::default());
            a.read(i, &mut x).unwrap();
            b.read(i, &mut y).unwrap();
            assert_eq!(x, y);
            assert_eq!(a.file_bytes(i).unwrap().unwrap(), b.file_bytes(i).unwrap().unwrap());
        }
    }
    let source = DataSource::find(folder.file().to_str().unwrap()).unwrap();
    assert_eq!(
        (source.short_name(), source.class_names().unwrap()),
        ("images".into(), vec!["a".into(), "b".into()])
    );
    let split = source.open("data".as_ref(), &DataOptions::new().limit(Some(3)), 0).unwrap();
    assert_eq!(split.validation.unwrap().len(), 3);
}

#[test]
fn damaged_packed_files_are_errors() {
    let folder = Folder::new();
    let packed = folder.pack();
    let good = fs::read(folder.file()).unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= value;
        bytes
    };
    drop(packed);
    for length in [0, 7, 11, 12, 39, 40, good.len() / 2, good.len() - 1] {
        assert!(folder.error(&good[..length]).contains("truncated"), "{length}");
    }
    assert!(folder.error(&changed(8, 2)).contains("version 3, expected 1"));
    let index = u64::from_le_bytes(good[good.len() - 28..][..8].try_into().unwrap()) as usize;
    for at in [index, index + 9, good.len() - 29] {
        assert!(folder.error(&changed(at, 1)).contains("index of the packed file is damaged"), "{at}");
    }
    for at in good.len() - 28..good.len() {
        folder.error(&changed(at, 255));
    }
    // Damaged pixels are noticed when the image is read, and named.
    fs::write(folder.file(), changed(index / 2, 4)).unwrap();
    let split = folder::open(&folder.file(), false).unwrap();
    let mut errors = Vec::new();
    for part in PARTS {
        let dataset = split.part(part).unwrap();
        for i in 0..dataset.len() {
            errors.extend(dataset.read(i, &mut ByteImage::default()).err());
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().contains("CRC-32 differs"), "{}", errors[0]);
}

#[test]
fn a_packed_file_that_becomes_shorter_is_an_error() {
    let folder = Folder::new();
    let split = folder.pack();
    fs::File::options().write(true).open(folder.file()).unwrap().set_len(20).unwrap();
    let e = split.train.read(9, &mut ByteImage::default()).unwrap_err().to_string();
    assert!(e.contains("has changed since it was opened"), "{e}");
}

#[test]
fn a_file_that_is_not_packed_is_an_error() {
    let folder = Folder::new();
    fs::write(folder.file(), "no images").unwrap();
    let e = DataSource::find(folder.file().to_str().unwrap()).unwrap_err().to_string();
    assert!(e.contains("is not a packed file"), "{e}");
}
