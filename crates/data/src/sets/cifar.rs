//! CIFAR-10 and CIFAR-100, read from the archives of their binary versions.
//!
//! ```text
//! CIFAR-10:  | label | 32x32 red | green | blue |          CIFAR-100: | coarse label | fine label | red | green | blue |
//!              1       1024        1024    1024                         1              1            1024  1024    1024
//! ```

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use neocog_base::file::open_input;
use neocog_base::{Error, Result};

use crate::catalog::{DatasetInfo, Manifest, RemoteFile};
use crate::memory::{DatasetParts, MemoryDataset};
use crate::register_dataset;
use crate::split::Split;

/// Bytes of the pixels of an image, `[3, 32, 32]`.
const IMAGE: usize = 3 * 32 * 32;
/// Most that a file of the archives may have: twice the largest.
const MAX_FILE: u64 = 400_000_000;

register_dataset!(
    DatasetInfo::new(
        "cifar-10",
        &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        load_cifar10,
    )
    .with_about("60,000 photographs of 10 classes in color, 32x32 (Krizhevsky, 2009)")
    .with_manifest(Manifest::new(
        "cifar-10",
        &["https://www.cs.toronto.edu/~kriz/", "http://www.cs.toronto.edu/~kriz/"],
        &[RemoteFile::new(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )],
    ))
);

register_dataset!(
    DatasetInfo::new("cifar-100", &CIFAR100_NAMES, load_cifar100)
        .with_about("60,000 photographs of 100 classes in color, 32x32 (Krizhevsky, 2009)")
        .with_manifest(Manifest::new(
            "cifar-100",
            &["https://www.cs.toronto.edu/~kriz/", "http://www.cs.toronto.edu/~kriz/"],
            &[RemoteFile::new(
                "cifar-100-binary.tar.gz",
                168_513_733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            )],
        ))
);

fn load_cifar10(info: &DatasetInfo, root: &Path) -> Result<Split> {
    let train: [&str; 5] =
        ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
    load(info, root, &train, &["test_batch.bin"], 1)
}

fn load_cifar100(info: &DatasetInfo, root: &Path) -> Result<Split> {
    load(info, root, &["train.bin"], &["test.bin"], 2)
}

/// Reads the parts from the files of the archive; the last of `label_bytes` bytes is the label.
fn load(info: &DatasetInfo, root: &Path, train: &[&str], test: &[&str], label_bytes: usize) -> Result<Split> {
    let archive = info.manifest.and_then(|manifest| manifest.files.first()).map_or("", |file| file.name);
    let path = info.folder(root).join(archive);
    if !path.exists() {
        return Err(info.not_downloaded(&path, root));
    }
    let names: Vec<&str> = train.iter().chain(test).copied().collect();
    let files = read_files(&path, &names).map_err(|e| info.damaged_archive(e, &path, root))?;
    let (train, test) = files.split_at(train.len());
    let build = |part, files| parse(info, part, files, label_bytes);
    Ok(Split::new(build("train", train)?, build("test", test)?))
}

/// Reads the files `names`, in whatever folder of the archive they are, in the order of `names`.
fn read_files(path: &Path, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let cannot_read = |e: std::io::Error| Error::format(format!("cannot read the archive: {e}"));
    let file = open_input(path).map_err(|e| Error::io(format!("cannot open {}", path.display()), e))?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut found: Vec<Option<Vec<u8>>> = vec![None; names.len()];
    for entry in archive.entries().map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let name = entry.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_string()));
        let Some(position) = name.and_then(|name| names.iter().position(|other| *other == name)) else {
            continue;
        };
        let mut bytes = Vec::new();
        entry.take(MAX_FILE).read_to_end(&mut bytes).map_err(cannot_read)?;
        found[position] = Some(bytes);
    }
    let missing = |i: usize| Error::format(format!("the archive has no file {}", names[i]));
    found.into_iter().enumerate().map(|(i, bytes)| bytes.ok_or_else(|| missing(i))).collect()
}

fn parse(info: &DatasetInfo, part: &str, files: &[Vec<u8>], label_bytes: usize) -> Result<MemoryDataset> {
    let record = label_bytes + IMAGE;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for bytes in files {
        if !bytes.len().is_multiple_of(record) {
            return Err(Error::format(format!(
                "{} ({part}): {} bytes are not a whole number of images of {record} bytes",
                info.name,
                bytes.len()
            )));
        }
        for record in bytes.chunks_exact(record) {
            labels.push(u32::from(record[label_bytes - 1]));
            pixels.extend(&record[label_bytes..]);
        }
    }
    let name = format!("{} ({part})", info.name);
    MemoryDataset::new(DatasetParts::new(name, [3, 32, 32], pixels, labels, info.class_names()))
}

#[rustfmt::skip]
const CIFAR100_NAMES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle",
    "bicycle", "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel",
    "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud",
    "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
    "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree",
    "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter",
    "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea",
    "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television",
    "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
];

#[cfg(test)]
mod tests {
    use std::fs;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use neocog_base::ErrorKind;

    use super::*;
    use crate::image::ByteImage;

    /// An archive in the format of the originals, with the given files in a folder.
    fn write_archive(root: &Path, name: &str, files: &[(&str, Vec<u8>)]) {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = fs::File::create(folder.join(format!("{name}-binary.tar.gz"))).unwrap();
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        for (file, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{name}-batches-bin/{file}"), bytes.as_slice()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
    }

    /// A record: the labels, and 1024 times each of three values.
    fn record(labels: &[u8], rgb: [u8; 3]) -> Vec<u8> {
        let planes = rgb.into_iter().flat_map(|value| [value; 1024]);
        labels.iter().copied().chain(planes).collect()
    }

    #[test]
    fn images_are_read_from_the_archive() {
        let root = tempfile::tempdir().unwrap();
        let batches: Vec<(String, Vec<u8>)> =
            (1..=5).map(|i| (format!("data_batch_{i}.bin"), record(&[i], [i, 10 * i, 20 * i]))).collect();
        let mut files: Vec<(&str, Vec<u8>)> = batches.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        files.insert(0, ("test_batch.bin", [record(&[9], [1, 2, 3]), record(&[0], [4, 5, 6])].concat()));
        files.push(("readme.html", b"<html>".to_vec()));
        write_archive(root.path(), "cifar-10", &files);
        let split = crate::load("cifar-10", root.path()).unwrap();
        let (train, test) = (&split.train, split.test().unwrap());
        assert_eq!((train.labels(), test.labels()), (&[1, 2, 3, 4, 5][..], &[9, 0][..]));
        assert_eq!((train.channels(), train.size(), train.classes()), (3, Some((32, 32)), 10));
        let mut image = ByteImage::default();
        train.read(1, &mut image).unwrap();
        assert_eq!(image.pixels()[..6], [2, 20, 40, 2, 20, 40]);

        files.remove(3);
        write_archive(root.path(), "cifar-10", &files);
        let e = crate::load("cifar-10", root.path()).unwrap_err().to_string();
        assert!(e.contains("has no file data_batch_3.bin") && e.contains("fetch-data cifar-10"), "{e}");
    }

    #[test]
    fn fine_labels_are_those_of_cifar_100() {
        let root = tempfile::tempdir().unwrap();
        let e = crate::load("cifar-100", root.path()).unwrap_err();
        assert!(e.kind() == ErrorKind::Io && e.to_string().contains("fetch-data cifar-100"), "{e}");
        let files = [("train.bin", record(&[3, 99], [7, 8, 9])), ("test.bin", record(&[19, 0], [1, 1, 1]))];
        write_archive(root.path(), "cifar-100", &files);
        let split = crate::load("cifar-100", root.path()).unwrap();
        assert_eq!((split.train.labels(), split.test().unwrap().labels()), (&[99][..], &[0][..]));
        assert_eq!(
            (split.train.class_names()[0].as_str(), split.train.class_names()[99].as_str()),
            ("apple", "worm")
        );

        let cut = record(&[3, 99], [7, 8, 9])[..3000].to_vec();
        write_archive(root.path(), "cifar-100", &[("train.bin", cut), ("test.bin", record(&[0, 0], [0; 3]))]);
        let e = crate::load("cifar-100", root.path()).unwrap_err().to_string();
        assert!(e.contains("3000 bytes are not a whole number of images of 3074 bytes"), "{e}");
        let path = root.path().join("cifar-100/cifar-100-binary.tar.gz");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let e = crate::load("cifar-100", root.path()).unwrap_err();
        assert!(e.kind() == ErrorKind::Format && e.to_string().contains("cannot read the archive"), "{e}");
    }
}
