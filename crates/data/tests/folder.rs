//! Folders of images: classes and order, parts, and files that are not what they seem.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use neocog_base::ErrorKind;
use neocog_data::transform::{Pipeline, RandomResizedCrop, Step, TrivialAugmentWide};
use neocog_data::{
    ByteImage, DataOptions, DataSource, Dataset, Loader, LoaderOptions, Split, SplitOptions, folder,
};
use tempfile::TempDir;

/// A PNG file of one color.
fn png(h: u32, w: u32, color: [u8; 3]) -> Vec<u8> {
    encoded(RgbImage::from_pixel(w, h, image::Rgb(color)).into(), ImageFormat::Png)
}

fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn jpeg(h: u32, w: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 3) as u8, ((x ^ y) * 7) as u8]);
    encoded(RgbImage::from_fn(w, h, pixel).into(), ImageFormat::Jpeg)
}

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, bytes)| folder.write(name, bytes));
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn open(&self) -> Split {
        folder::open(self.path(), false).unwrap()
    }

    fn error(&self) -> String {
        let e = folder::open(self.path(), false).unwrap_err();
        let text = e.to_string();
        assert!(text.starts_with(&self.path().display().to_string()), "{text}");
        text
    }
}

fn red_values(data: &dyn Dataset) -> Vec<u8> {
    let mut image = ByteImage::default();
    (0..data.len())
        .map(|i| {
            data.read(i, &mut image).unwrap();
            image.pixels()[0]
        })
        .collect()
}

#[test]
fn classes_and_files_are_in_byte_order() {
    let folder = Folder::new(&[
        ("b/1.png", png(2, 3, [1, 0, 0])),
        ("B/2.png", png(4, 1, [2, 0, 0])),
        ("ä/3.png", png(1, 1, [3, 0, 0])),
        ("b/z/4.png", png(1, 1, [4, 0, 0])),
        ("b/z-y/5.png", png(1, 1, [5, 0, 0])),
        ("b/10.png", png(1, 1, [6, 0, 0])),
        ("b/a.PNG", png(1, 1, [7, 0, 0])),
        ("b/Z.Png", png(1, 1, [8, 0, 0])),
        ("b/notes.md", b"no image".to_vec()),
        ("readme.txt", b"no image".to_vec()),
    ]);
    let split = folder.open();
    let data = &*split.train;
    assert_eq!(data.class_names(), ["B", "b", "ä"]);
    assert_eq!(data.labels(), [0, 1, 1, 1, 1, 1, 1, 2]);
    assert_eq!(red_values(data), [2, 1, 6, 8, 7, 4, 5, 3]);
    assert_eq!((data.channels(), data.size()), (3, None));
    assert_eq!(split.warnings, ["the classes B and b differ in case only: are they one?"]);
    assert!(split.validation.is_none() && split.test.is_none());
}

#[test]
fn folders_of_gray_images_have_one_channel() {
    let gray = |value| encoded(GrayImage::from_pixel(5, 4, image::Luma([value])).into(), ImageFormat::Png);
    let folder = Folder::new(&[("a/1.png", gray(7)), ("b/2.png", gray(9))]);
    let data = folder.open().train;
    assert_eq!((data.channels(), data.size()), (1, Some((4, 5))));
    assert_eq!(red_values(&*data), [7, 9]);
}

#[test]
fn parts_are_folders() {
    let image = || png(2, 2, [9, 9, 9]);
    let folder = Folder::new(&[
        ("train/a/1.png", image()),
        ("train/b/1.png", image()),
        ("valid/b/1.png", image()),
        ("test/a/1.png", image()),
        ("test/b/1.png", image()),
    ]);
    let split = folder.open();
    assert_eq!(split.validation.as_ref().unwrap().labels(), [1]);
    assert_eq!((split.test().unwrap().labels(), split.train.class_names().len()), (&[0, 1][..], 2));
    assert_eq!(folder::class_names(folder.path()).unwrap(), ["a", "b"]);

    folder.write("test/c/1.png", &image());
    assert!(
        folder
            .error()
            .contains("has the class c, which the training images have not; their classes are a, b")
    );
    fs::remove_dir_all(folder.path().join("test")).unwrap();
    folder.write("other/1.png", &image());
    assert!(folder.error().contains("there is a folder `train`, and also other"));
}

#[test]
fn a_folder_is_divided_by_seed() {
    let files: Vec<(String, Vec<u8>)> =
        (0..60).map(|i| (format!("{}/{i:02}.png", i % 3), png(1, 1, [i, 0, 0]))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let folder = Folder::new(&files);
    let source = DataSource::find(folder.path().to_str().unwrap()).unwrap();
    let open = |options: SplitOptions, seed| {
        source.open("data".as_ref(), &DataOptions::new().split(options), seed).unwrap()
    };
    let split = open(SplitOptions::new(), 3);
    assert_eq!((split.train.len(), split.validation.as_ref().unwrap().len()), (54, 6));
    let parts = |split: &Split| red_values(&**split.validation.as_ref().unwrap());
    assert_eq!(parts(&split), parts(&open(SplitOptions::new(), 3)));
    assert_ne!(parts(&split), parts(&open(SplitOptions::new(), 4)));
    let split = open(SplitOptions::new().test(Some(0.2)), 3);
    assert_eq!((split.train.len(), split.test().unwrap().len()), (42, 12));
}

#[test]
fn broken_files_are_listed_or_left_out() {
    let whole = jpeg(60, 80);
    let mut bomb = png(1, 1, [0; 3]);
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let folder = Folder::new(&[
        ("a/good.jpg", whole.clone()),
        ("a/also good.jpg", [whole.clone(), vec![0; 500]].concat()),
        ("a/empty.png", Vec::new()),
        ("a/page.jpg", b"<!DOCTYPE html><html>404</html>".to_vec()),
        ("a/cut.jpg", whole[..whole.len() * 3 / 10].to_vec()),
        ("a/bomb.png", bomb),
        ("a/text.gif", b"hello, world".to_vec()),
        ("b/good.png", png(3, 3, [1, 2, 3])),
    ]);
    let text = folder.error();
    for expected in [
        "5 of 8 images cannot be read; remove them, or use --skip-broken to go on without them",
        "empty.png: the file is empty",
        "page.jpg: not an image in JPEG, PNG, WebP, BMP, GIF, TIFF or PNM format (it starts like an HTML or XML page)",
        "cut.jpg: the JPEG file is truncated: it has no end-of-image marker",
        "bomb.png: the header declares an image of 30000x30000: expected sides of 1 to 65535 and at most 178956970 pixels",
        "text.gif: not an image",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let split = folder::open(folder.path(), true).unwrap();
    assert_eq!(split.train.labels(), [0, 0, 1]);
    assert!(
        split.warnings[0].starts_with("5 of 8 images cannot be read and are skipped:"),
        "{:?}",
        split.warnings
    );
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn folders_without_images_are_errors() {
    let empty = Folder::new(&[]);
    assert!(empty.error().contains("no class folders"));
    empty.write("1.png", &png(1, 1, [0; 3]));
    assert!(empty.error().contains("expected a folder for each class"));
    empty.write("a/1.png", &png(1, 1, [0; 3]));
    fs::create_dir(empty.path().join("b")).unwrap();
    assert!(empty.error().contains("no images in the class folders b"));
    empty.write("b/1.png", b"x");
    let e = folder::open(empty.path(), true).unwrap_err().to_string();
    assert!(e.contains("no image of the class b can be read"), "{e}");

    let single = Folder::new(&[("a/1.png", png(1, 1, [0; 3]))]);
    let source = DataSource::find(single.path().to_str().unwrap()).unwrap();
    let e = source.open("data".as_ref(), &DataOptions::new(), 0).unwrap_err().to_string();
    assert!(e.contains("the class a of") && e.contains("has one image"), "{e}");
    let e = DataSource::find("no/such/folder").unwrap_err();
    assert!(
        e.kind() == ErrorKind::NotFound && e.to_string().contains("there is no folder no/such/folder"),
        "{e}"
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_and_broken_ones_are_listed() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new(&[("a/1.png", png(1, 1, [1; 3])), ("b/2.png", png(1, 1, [2; 3]))]);
    symlink("..", folder.path().join("a/up")).unwrap();
    symlink(folder.path().join("b/2.png"), folder.path().join("a/3.png")).unwrap();
    let split = folder.open();
    // From a/up, both classes are seen once more, and a is not entered again.
    assert_eq!(split.train.labels(), [0, 0, 0, 1]);
    symlink("nowhere", folder.path().join("b/4.png")).unwrap();
    assert!(folder.error().contains("b/4.png: cannot read the file: No such file"), "{}", folder.error());
}

#[cfg(target_os = "linux")]
#[test]
fn files_that_are_in_two_parts_are_reported() {
    let folder = Folder::new(&[
        ("train/a/1.png", png(2, 2, [1, 0, 0])),
        ("train/b/2.png", png(2, 2, [2, 0, 0])),
        ("val/a/3.png", png(2, 2, [3, 0, 0])),
        ("val/b/4.png", png(2, 2, [1, 0, 0])),
        ("test/a/5.png", png(2, 2, [5, 0, 0])),
        ("test/b/6.png", png(2, 2, [6, 0, 0])),
    ]);
    let warnings = || {
        let source = DataSource::find(folder.path().to_str().unwrap()).unwrap();
        source.open(Path::new("none"), &DataOptions::new(), 0).unwrap().warnings
    };
    let found = warnings();
    assert_eq!(found.len(), 1, "{found:?}");
    let start = "1 image of the validation part is also in the training part, byte for byte";
    assert!(found[0].starts_with(start), "{found:?}");
    assert!(found[0].contains("4.png is") && found[0].ends_with("1.png"), "{found:?}");
    folder.write("val/b/4.png", &png(2, 2, [4, 0, 0]));
    assert_eq!(warnings(), Vec::<String>::new());
}

#[test]
fn fast_decoding_is_close_and_never_too_small() {
    // Smooth, so that how it is made smaller matters little.
    let pixel = |x: u32, y: u32| image::Rgb([(x / 2) as u8, (y / 2) as u8, ((x + y) / 4) as u8]);
    let smooth = |h: u32, w: u32| encoded(RgbImage::from_fn(w, h, pixel).into(), ImageFormat::Jpeg);
    let folder = Folder::new(&[
        ("a/1.jpg", smooth(301, 402)),
        ("b/2.jpg", smooth(64, 70)),
        ("b/3.png", png(90, 90, [9, 9, 9])),
    ]);
    let data = folder.open().train;
    let mut image = ByteImage::default();
    for (least, sizes) in [
        ((32, 32), [(38, 51), (32, 35), (90, 90)]),
        ((39, 10), [(76, 101), (64, 70), (90, 90)]),
        ((301, 402), [(301, 402), (64, 70), (90, 90)]),
    ] {
        for (i, size) in sizes.into_iter().enumerate() {
            data.read_at_least(i, least, &mut image).unwrap();
            assert_eq!(image.size(), size, "image {i} of at least {least:?}");
        }
    }
    let pixels = |fast: bool| {
        let options = LoaderOptions::new().batch_size(3).image_size((32, 32)).fast_decode(fast);
        let batch =
            Loader::new(Arc::clone(&data), options).unwrap().epoch(0).unwrap().next().unwrap().unwrap();
        batch.pixels.clone()
    };
    let (fast, whole) = (pixels(true), pixels(false));
    let largest = fast.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest > 0.0 && largest < 0.04, "{largest}");
    // A crop needs every pixel.
    let crop = Pipeline::from([Step::RandomResizedCrop(RandomResizedCrop::new((8, 8)))]);
    assert_eq!(neocog_data::Transform::least_size(&crop, (8, 8)), None);
}

#[test]
fn names_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    let folder = Folder::new(&[("a/1.png", png(1, 1, [1; 3]))]);
    fs::write(folder.path().join("a").join(name(b"\xff.png")), png(1, 1, [2; 3])).unwrap();
    assert_eq!(red_values(&*folder.open().train), [1, 2]);
    fs::create_dir(folder.path().join(name(b"b\xfe"))).unwrap();
    assert!(folder.error().contains("the name of this class folder is not UTF-8"), "{}", folder.error());
}

fn loader(data: &Arc<dyn Dataset>, workers: usize, cache: u64) -> Loader {
    let pipeline = Pipeline::from([
        Step::RandomResizedCrop(RandomResizedCrop::new((16, 16))),
        Step::RandomHorizontalFlip { p: 0.5 },
        Step::TrivialAugmentWide(TrivialAugmentWide::default()),
    ]);
    let options = LoaderOptions::new()
        .batch_size(5)
        .image_size((16, 16))
        .shuffle(Some(1))
        .cache_bytes(cache)
        .augment(pipeline.into_augment(1))
        .workers(workers);
    Loader::new(Arc::clone(data), options).unwrap()
}

type Content = Vec<(Vec<u32>, Vec<f32>)>;

fn content(loader: &Loader, epoch: u64, first: usize) -> Content {
    let batches = loader.epoch_from(epoch, first).unwrap();
    batches.map(|batch| batch.unwrap()).map(|b| (b.indices.clone(), b.pixels.clone())).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_any_cache() {
    let files: Vec<(String, Vec<u8>)> =
        (0..24).map(|i| (format!("{}/{i}.jpg", i % 2), jpeg(20 + i, 50 - i))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let folder = Folder::new(&files);
    let data = folder.open().train;
    let one = loader(&data, 1, 0);
    let (first, second) = (content(&one, 0, 0), content(&one, 1, 0));
    assert_ne!(first, second);
    for (workers, cache) in [(2, 0), (8, 0), (2, 1 << 20), (1, 20_000)] {
        let other = loader(&data, workers, cache);
        assert!(content(&other, 0, 0) == first && content(&other, 1, 0) == second, "{workers} {cache}");
        assert!(content(&other, 1, 2) == second[2..]);
        assert!(
            other.cached_bytes() <= cache
                && (cache == 0 || other.cached_bytes() > cache / 2 || cache > 100_000)
        );
    }
}

#[test]
fn a_file_that_changes_during_a_run_is_left_out_and_listed() {
    let files: Vec<(String, Vec<u8>)> = (0..10).map(|i| (format!("a/{i}.jpg"), jpeg(30, 30))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let folder = Folder::new(&files);
    let loader = loader(&folder.open().train, 2, 0);
    folder.write("a/3.jpg", &jpeg(31, 30));
    folder.write("a/5.jpg", &jpeg(30, 30)[..300]);
    fs::remove_file(folder.path().join("a/7.jpg")).unwrap();
    let mut seen: Vec<u32> = content(&loader, 0, 0).into_iter().flat_map(|(indices, _)| indices).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 4, 6, 8, 9]);
    let unreadable = loader.unreadable();
    assert_eq!(unreadable.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [3, 5, 7]);
    assert!(
        unreadable[0].1.contains("the file has changed: an image of 30x30, now of 31x30"),
        "{unreadable:?}"
    );
    for (i, _) in &files {
        fs::remove_file(folder.path().join(i)).ok();
    }
    let empty = content(&loader, 1, 0);
    assert!(
        empty.len() == 2 && empty.iter().all(|(indices, pixels)| indices.is_empty() && pixels.is_empty())
    );
}

#[test]
fn classes_are_drawn_as_often_as_their_weights_say() {
    let files: Vec<(String, Vec<u8>)> =
        (0..200).map(|i| (format!("{}/{i}.png", u32::from(i >= 180)), png(1, 1, [0; 3]))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let data = Folder::new(&files);
    let data = data.open().train;
    let draw = |weights: Vec<f64>, workers, epoch| {
        let options =
            LoaderOptions::new().batch_size(30).image_size((1, 1)).shuffle(Some(2)).workers(workers);
        let loader = Loader::new(Arc::clone(&data), options.class_weights(Some(weights.into())));
        let batches = loader.map(|loader| loader.epoch(epoch).unwrap().map(|b| b.unwrap().labels.clone()));
        batches.map(|batches| batches.flatten().collect::<Vec<u32>>()).map_err(|e| e.to_string())
    };
    // The files are gone: labels and order do not depend on them.
    let _ = draw(vec![1.0, 9.0], 1, 0);
    let e = draw(vec![1.0], 1, 0).unwrap_err();
    assert!(e.contains("expected one for each of the 2 classes"), "{e}");
    assert!(draw(vec![0.0, -1.0], 1, 0).is_err() && draw(vec![0.0, 0.0], 1, 0).is_err());
    let order = |seed| neocog_data::shuffle::weighted_order([1.0; 180].into_iter().chain([9.0; 20]), seed, 0);
    let rare = order(5).iter().filter(|&&i| i >= 180).count();
    assert!((80..=120).contains(&rare), "{rare} of 200 are of the rare class");
    assert_eq!(order(5), order(5));
    assert_ne!(order(5), order(6));
}
