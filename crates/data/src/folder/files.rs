//! Image files with labels, in folders or in a packed file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use neocog_base::file::check_inputs;
use neocog_base::{Error, Result};

use super::packed::{PackedFile, PackedRange};
use super::scan;
use crate::dataset::Dataset;
use crate::image::{Alpha, ByteImage, DIVISORS, DecodeOptions, decode, read_file, read_header};

/// Number of broken files that a message lists.
const LISTED: usize = 20;

/// Image files in folders, one for each class, or in a packed file. See the [module](super).
#[derive(Clone, Debug)]
pub struct FolderDataset {
    pub(super) name: String,
    /// The folder that the paths are relative to, in identities.
    pub(super) root: PathBuf,
    pub(super) files: Vec<ImageFile>,
    pub(super) labels: Vec<u32>,
    pub(super) class_names: Vec<String>,
    pub(super) channels: usize,
    pub(super) storage: Storage,
}

/// Where the bytes of the files are.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    /// In the files at their paths.
    Files,
    /// In a packed file, with their ranges in it.
    Packed { file: Arc<PackedFile>, ranges: Vec<PackedRange> },
}

#[derive(Clone, Debug)]
pub(super) struct ImageFile {
    /// In a packed file, below the path of that.
    pub(super) path: PathBuf,
    /// Size of the file in bytes.
    pub(super) length: u64,
    /// Size of the image, `(h, w)`.
    pub(super) size: (usize, usize),
    pub(super) is_color: bool,
}

impl FolderDataset {
    /// Opens the folder of classes at `folder`, as a data set called `name`. With `class_names`, classes are those, and a
    /// folder of another name is an error; without, the names of the folders. Returns warnings, too.
    ///
    /// # Errors
    /// As [`open`](super::open).
    pub fn open(
        folder: &Path,
        name: impl Into<String>,
        class_names: Option<&[String]>,
        skip_broken: bool,
    ) -> Result<(Self, Vec<String>)> {
        let found = scan::classes(folder)?;
        if found.is_empty() {
            return Err(Error::format(format!(
                "no class folders in {}: expected a folder for each class, with its images",
                folder.display()
            )));
        }
        let class_names = match class_names {
            None => found.clone(),
            Some(known) => known.to_vec(),
        };
        let (mut paths, mut labels, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for class in &found {
            let Some(label) = class_names.iter().position(|name| name == class) else {
                return Err(Error::format(format!(
                    "{} has the class {class}, which the training images have not; their classes are {}",
                    folder.display(),
                    shortened(&class_names)
                )));
            };
            let files = scan::image_files(&folder.join(class))?;
            if files.is_empty() {
                empty.push(class.as_str());
            }
            labels.extend(files.iter().map(|_| label as u32));
            paths.extend(files);
        }
        if !empty.is_empty() {
            return Err(Error::format(format!(
                "no images in the class folders {} of {}: remove the folders, or add images (extensions {})",
                empty.join(", "),
                folder.display(),
                crate::image::EXTENSIONS.join(", ")
            )));
        }
        let mut warnings = same_but_for_case(&found);
        let all = labels.clone();
        let (files, labels) = check_all(paths, labels, skip_broken, &mut warnings)?;
        check_classes(&class_names, &all, &labels)?;
        let channels = if files.iter().any(|file| file.is_color) { 3 } else { 1 };
        let root = folder.to_path_buf();
        let dataset = FolderDataset {
            name: name.into(),
            root,
            files,
            labels,
            class_names,
            channels,
            storage: Storage::Files,
        };
        crate::dataset::check(&dataset)?;
        Ok((dataset, warnings))
    }

    /// Returns the bytes of the file of sample `i`.
    pub(super) fn bytes(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        match &self.storage {
            Storage::Files => Ok(Cow::Owned(read_file(&self.files[i].path)?)),
            Storage::Packed { file, ranges } => {
                let bytes = file.image(ranges[i]);
                bytes.map(Cow::Borrowed).map_err(|e| e.context(self.files[i].path.display().to_string()))
            }
        }
    }

    /// Decodes all images with all processors, and leaves those out that cannot be decoded; see
    /// [`FolderParts::check_images`](super::parts::FolderParts::check_images).
    pub(super) fn check_images(&mut self, skip_broken: bool, warnings: &mut Vec<String>) -> Result<()> {
        let decoded = in_parallel(self.files.len(), |i| self.decode(i, None, &mut ByteImage::default()));
        let broken: Vec<String> =
            decoded.iter().filter_map(|result| result.as_ref().err().map(ToString::to_string)).collect();
        let all = self.labels.clone();
        report(broken, all.len(), skip_broken, warnings)?;
        let is_good = |i: &usize| decoded[*i].is_ok();
        self.labels = (0..all.len()).filter(is_good).map(|i| all[i]).collect();
        let files = std::mem::take(&mut self.files).into_iter().enumerate();
        self.files = files.filter(|(i, _)| is_good(i)).map(|(_, file)| file).collect();
        check_classes(&self.class_names, &all, &self.labels)
    }

    /// Sets the number of channels that images are decoded to, 1 or 3.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }
}

impl Dataset for FolderDataset {
    fn name(&self) -> &str {
        &self.name
    }
    fn channels(&self) -> usize {
        self.channels
    }
    fn size(&self) -> Option<(usize, usize)> {
        let size = self.files.first()?.size;
        self.files.iter().all(|file| file.size == size).then_some(size)
    }
    fn labels(&self) -> &[u32] {
        &self.labels
    }
    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn read(&self, i: usize, image: &mut ByteImage) -> Result<()> {
        self.decode(i, None, image)
    }

    fn read_at_least(&self, i: usize, size: (usize, usize), image: &mut ByteImage) -> Result<()> {
        self.decode(i, Some(size), image)
    }

    fn identity(&self, i: usize) -> Cow<'_, [u8]> {
        let file = &self.files[i];
        let path = file.path.strip_prefix(&self.root).unwrap_or(&file.path);
        let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
        bytes.push(0);
        bytes.extend(file.length.to_le_bytes());
        Cow::Owned(bytes)
    }

    fn file(&self, i: usize) -> Option<(&Path, u64)> {
        Some((&self.files[i].path, self.files[i].length))
    }

    fn file_bytes(&self, i: usize) -> Option<Result<Cow<'_, [u8]>>> {
        Some(self.bytes(i))
    }

    fn is_on_disk(&self) -> bool {
        true
    }
}

impl FolderDataset {
    /// Decodes the file of sample `i`, perhaps to a smaller size; see [`DecodeOptions::at_least`].
    fn decode(&self, i: usize, at_least: Option<(usize, usize)>, image: &mut ByteImage) -> Result<()> {
        let file = &self.files[i];
        let options = DecodeOptions::new(self.channels).alpha(Alpha::Drop).at_least(at_least);
        decode(&self.bytes(i)?, options, image).map_err(|e| e.context(file.path.display().to_string()))?;
        let (h, w) = file.size;
        let divided = |divisor: &usize| image.size() == (h.div_ceil(*divisor), w.div_ceil(*divisor));
        let is_same = image.size() == file.size || at_least.is_some() && DIVISORS.iter().any(divided);
        if !is_same {
            return Err(Error::format(format!(
                "{}: the file has changed: an image of {}x{}, now of {}x{}",
                file.path.display(),
                file.size.0,
                file.size.1,
                image.height(),
                image.width()
            )));
        }
        Ok(())
    }
}

/// Reads the headers of all files with all processors.
fn check_all(
    paths: Vec<PathBuf>,
    labels: Vec<u32>,
    skip_broken: bool,
    warnings: &mut Vec<String>,
) -> Result<(Vec<ImageFile>, Vec<u32>)> {
    // An image that an output of this command would replace is an error of its own, not a broken image to leave out.
    check_inputs(paths.iter().map(PathBuf::as_path))?;
    let count = paths.len();
    let headers = read_headers(&paths);
    let (mut files, mut kept, mut broken) =
        (Vec::with_capacity(count), Vec::with_capacity(count), Vec::new());
    for ((path, label), header) in paths.into_iter().zip(labels).zip(headers) {
        match header {
            Ok((length, size, is_color)) => {
                files.push(ImageFile { path, length, size, is_color });
                kept.push(label);
            }
            Err(e) => broken.push(format!("{}: {e}", path.display())),
        }
    }
    report(broken, count, skip_broken, warnings)?;
    Ok((files, kept))
}

/// Reports the images that cannot be read, of `count`: as a warning with `skip_broken`, if there are others.
fn report(
    mut broken: Vec<String>,
    count: usize,
    skip_broken: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    let total = broken.len();
    if skip_broken && total < count {
        warnings.push(format!(
            "{total} of {count} images cannot be read and are skipped:\n  {}",
            broken.join("\n  ")
        ));
        return Ok(());
    }
    broken.truncate(LISTED);
    if total > LISTED {
        broken.push(format!("and {} more", total - LISTED));
    }
    Err(Error::format(format!(
        "{total} of {count} images cannot be read; remove them, or use --skip-broken to go on without them:\n  {}",
        broken.join("\n  ")
    )))
}

/// Checks that each class of the labels `all` is among those that are `left`.
fn check_classes(class_names: &[String], all: &[u32], left: &[u32]) -> Result<()> {
    let (all, left): (BTreeSet<&u32>, BTreeSet<&u32>) = (all.iter().collect(), left.iter().collect());
    match all.difference(&left).next() {
        Some(&&lost) => {
            Err(Error::format(format!("no image of the class {} can be read", class_names[lost as usize])))
        }
        None => Ok(()),
    }
}

type Header = Result<(u64, (usize, usize), bool)>;

fn read_headers(paths: &[PathBuf]) -> Vec<Header> {
    in_parallel(paths.len(), |i| file_header(&paths[i]))
}

/// Returns the results of `work` for 0 to `count`, computed by all processors; an error where it panicked.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Vec<Result<T>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut found = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return found;
            }
            found.push((i, work(i)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    let found = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut found = run();
        for worker in workers {
            found.extend(worker.join().unwrap_or_default());
        }
        found
    });
    let mut results: BTreeMap<usize, Result<T>> = found.into_iter().collect();
    let lost = || Err(Error::format("the thread that reads it panicked"));
    (0..count).map(|i| results.remove(&i).unwrap_or_else(lost)).collect()
}

fn file_header(path: &Path) -> Header {
    let metadata = fs::metadata(path).map_err(|e| Error::io("cannot read the file", e))?;
    let length = metadata.len();
    if !metadata.is_file() {
        return Err(Error::format("not a regular file"));
    }
    if length == 0 {
        return Err(Error::format("the file is empty"));
    }
    let header = read_header(path)?;
    Ok((length, header.size(), header.is_color))
}

/// A warning for each two classes whose names differ in case only.
fn same_but_for_case(classes: &[String]) -> Vec<String> {
    let mut seen = BTreeMap::<String, &str>::new();
    let mut warnings = Vec::new();
    for class in classes {
        if let Some(other) = seen.insert(class.to_lowercase(), class) {
            warnings.push(format!("the classes {other} and {class} differ in case only: are they one?"));
        }
    }
    warnings
}

fn shortened(names: &[String]) -> String {
    match names {
        [first @ .., _] if names.len() > LISTED => {
            format!("{} and {} more", first[..LISTED].join(", "), names.len() - LISTED)
        }
        _ => names.join(", "),
    }
}
