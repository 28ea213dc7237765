//! Packed files: the image files of a folder one behind the other in one file, which is mapped to memory. Opening it reads no
//! header of an image, and reading an image opens no file: faster where there are many small files, or files are far away.
//!
//! ```text
//! magic, version | image files | index (JSON) | offset, length and CRC-32 of the index, magic
//! ```
//!
//! The images are those of the folder, byte for byte, with the same identities: a training gives the same bits with either.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
use neocog_base::file::open_input;
use neocog_base::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::split::Part;

const MAGIC: [u8; 8] = *b"NEOCOGPK";
const VERSION: u32 = 1;
pub(super) const START: u64 = 12;
/// Offset, length and CRC-32 of the index, and the magic again.
const TRAILER: u64 = 8 + 8 + 4 + 8;
/// Maximum size of an index, in bytes.
const MAX_INDEX: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) class_names: Vec<String>,
    pub(super) parts: Vec<(Part, PartIndex)>,
}

/// The images of a part. Their files follow one another in this order, behind those of the part before.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct PartIndex {
    pub(super) name: String,
    pub(super) channels: usize,
    /// Paths relative to the folder of the part, with `/`.
    pub(super) paths: Vec<String>,
    pub(super) labels: Vec<u32>,
    /// Sizes of the files in bytes, and their CRC-32.
    pub(super) lengths: Vec<u64>,
    pub(super) crcs: Vec<u32>,
    /// Heights and widths of the images.
    pub(super) sizes: Vec<(usize, usize)>,
    pub(super) is_color: Vec<bool>,
}

/// A packed file that is mapped to memory.
#[derive(Debug)]
pub(super) struct PackedFile {
    file: File,
    map: Mmap,
}

/// Where an image file is in a packed file.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedRange {
    offset: u64,
    length: u64,
    crc: u32,
}

impl PartIndex {
    /// Returns where the files are if the first one is at `offset`, and the end of the last one.
    ///
    /// # Errors
    /// `Format` if the lists do not have the same length.
    pub(super) fn ranges(&self, mut offset: u64) -> Result<(Vec<PackedRange>, u64)> {
        let count = self.paths.len();
        let counts =
            [self.labels.len(), self.lengths.len(), self.crcs.len(), self.sizes.len(), self.is_color.len()];
        if counts != [count; 5] {
            return Err(Error::format("the index of the packed file is damaged: its lists differ in length"));
        }
        let ranges = self.lengths.iter().zip(&self.crcs).map(|(&length, &crc)| {
            let range = PackedRange { offset, length, crc };
            offset = offset.saturating_add(length);
            range
        });
        let ranges = ranges.collect();
        Ok((ranges, offset))
    }
}

impl PackedFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot_read = |e| Error::io("cannot read the packed file", e);
        let file = open_input(path).map_err(cannot_read)?;
        let length = file.metadata().map_err(cannot_read)?.len();
        if length < START + TRAILER {
            return Err(Error::format("the packed file is truncated"));
        }
        // SAFETY: the bytes are only read. They must not change while they are mapped: the documentation of `data --pack` says so,
        // packed files are replaced by renaming, and each access checks that the file was not truncated.
        let map = unsafe { Mmap::map(&file) }.map_err(cannot_read)?;
        Ok(PackedFile { file, map })
    }

    /// Returns bytes of the file.
    ///
    /// # Errors
    /// `Format` if the file has become shorter since it was opened, or never had them.
    fn bytes(&self, range: Range<u64>) -> Result<&[u8]> {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        let range = (range.end <= length).then_some(range.start as usize..range.end as usize);
        range
            .and_then(|range| self.map.get(range))
            .ok_or_else(|| Error::format("the packed file is truncated, or has changed since it was opened"))
    }

    /// Returns the bytes of an image file.
    ///
    /// # Errors
    /// `Format` if they are not those that were packed.
    pub(super) fn image(&self, PackedRange { offset, length, crc }: PackedRange) -> Result<&[u8]> {
        let end =
            offset.checked_add(length).ok_or_else(|| Error::format("the position of an image is damaged"))?;
        let bytes = self.bytes(offset..end)?;
        if crc32fast::hash(bytes) != crc {
            return Err(Error::format("damaged: the CRC-32 differs; pack the folder again"));
        }
        Ok(bytes)
    }

    /// Reads the index.
    ///
    /// # Errors
    /// `Format` if it is truncated, damaged or of another version.
    pub(super) fn index(&self) -> Result<Index> {
        let length = self.map.len() as u64;
        let start = self.bytes(0..START)?;
        if start[..MAGIC.len()] != MAGIC {
            return Err(Error::format("not a packed file"));
        }
        let version = u32_at(start, 8);
        if version != VERSION {
            return Err(Error::format(format!(
                "a packed file of version {version}, expected {VERSION}; pack the folder with this version of neocog"
            )));
        }
        let trailer = self.bytes(length - TRAILER..length)?;
        let (offset, size, crc) = (u64_at(trailer, 0), u64_at(trailer, 8), u32_at(trailer, 16));
        let is_complete = trailer[20..] == MAGIC && offset.checked_add(size) == Some(length - TRAILER);
        if !is_complete || size > MAX_INDEX as u64 {
            return Err(Error::format("the packed file is truncated or damaged"));
        }
        let bytes = self.bytes(offset..offset + size)?;
        if crc32fast::hash(bytes) != crc {
            return Err(Error::format("the index of the packed file is damaged (its CRC-32 differs)"));
        }
        serde_json::from_slice(bytes)
            .map_err(|e| Error::format(format!("the index of the packed file is damaged: {e}")))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Whether the file at `path` starts as a packed file does.
pub(crate) fn is_packed(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let mut read = || File::open(path)?.read_exact(&mut start);
    path.is_file() && read().is_ok() && start == MAGIC
}

/// Writes a packed file.
pub(super) struct Writer<'a> {
    out: BufWriter<&'a mut File>,
    offset: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a mut File) -> io::Result<Self> {
        let mut out = BufWriter::new(file);
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Writer { out, offset: START })
    }

    /// Writes an image file, and returns its CRC-32.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<u32> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(crc32fast::hash(bytes))
    }

    /// Writes the index.
    pub(super) fn finish(mut self, index: &Index) -> io::Result<()> {
        let index = serde_json::to_vec(index)?;
        if index.len() > MAX_INDEX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many images for a packed file"));
        }
        self.out.write_all(&index)?;
        self.out.write_all(&self.offset.to_le_bytes())?;
        self.out.write_all(&(index.len() as u64).to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&index).to_le_bytes())?;
        self.out.write_all(&MAGIC)?;
        self.out.flush()
    }
}
