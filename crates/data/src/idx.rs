//! IDX files, the format of MNIST.
//!
//! ```text
//! 0  0  type  rank | size 0 | ... | size rank-1 | elements, row-major
//! 1  1   1     1   |   4    |     |      4      | big-endian
//! ```
//!
//! Only elements of type `0x08` (unsigned byte) are supported. A file may be gzip-compressed; this is detected from its
//! first bytes, not from its name. The sizes in the header are not trusted: memory grows with the data actually read. A
//! compressed file may expand to 64 MiB and 128 times its size at most ([`gzip_limit`]).

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use neocog_base::file::open_input;
use neocog_base::memory::no_memory;
use neocog_base::text::count;
use neocog_base::{Error, Result};

const UNSIGNED_BYTE: u8 = 0x08;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Upper limit, in bytes, of what is allocated before any data are read.
const MAX_INITIAL_CAPACITY: usize = 1 << 20;
/// Upper limit of the trailing bytes that are counted.
const MAX_TRAILING: u64 = 1 << 20;
const ADVICE: &str = "download the file again";

/// Content of an IDX file of unsigned bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// Size of each dimension, outermost first.
    pub sizes: Vec<usize>,
    /// Elements in row-major order; their number is the product of the sizes.
    pub data: Vec<u8>,
}

/// Images of an IDX file of rank 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images `n`.
    pub count: usize,
    /// Image height `h`.
    pub height: usize,
    /// Image width `w`.
    pub width: usize,
    /// Pixels `[n, h, w]`, row-major.
    pub pixels: Vec<u8>,
}

/// Images and labels as read from a pair of files.
pub(crate) type IdxPair = (IdxImages, Vec<u8>);

/// Reads images from the file at `path`: rank 3, `[n, h, w]`.
///
/// # Errors
/// `Io` if the file cannot be read; `Format` if it is not an IDX file of images, is truncated or damaged, or has
/// trailing bytes. The message names the file and what was expected.
pub fn read_images(path: &Path) -> Result<IdxImages> {
    read_images_or(path, ADVICE)
}

/// Reads labels from the file at `path`: rank 1, `[n]`.
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    read_labels_or(path, ADVICE)
}

/// Parses images from the bytes of a file; `name` is used in error messages.
///
/// # Errors
/// As [`read_images`].
pub fn parse_images(name: &str, bytes: &[u8]) -> Result<IdxImages> {
    into_images(IdxReader { name, rank: 3, advice: ADVICE, file_size: bytes.len() as u64 }.read(bytes)?)
}

/// Parses labels from the bytes of a file; `name` is used in error messages.
///
/// # Errors
/// As [`read_images`].
pub fn parse_labels(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(IdxReader { name, rank: 1, advice: ADVICE, file_size: bytes.len() as u64 }.read(bytes)?.data)
}

impl Idx {
    /// Encodes an uncompressed IDX file.
    ///
    /// # Errors
    /// `InvalidArgument` if the sizes do not match the number of elements or exceed the limits of the format (rank up
    /// to 255, sizes below 2^32).
    pub fn encode(&self) -> Result<Vec<u8>> {
        let rank = u8::try_from(self.sizes.len()).map_err(|_| {
            Error::invalid_argument(format!("IDX supports ranks up to 255, not {}", self.sizes.len()))
        })?;
        if product(&self.sizes) != Some(self.data.len()) {
            return Err(Error::invalid_argument(format!(
                "IDX sizes {:?} do not match {}",
                self.sizes,
                count(self.data.len(), "element")
            )));
        }
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, rank];
        for &size in &self.sizes {
            let size = u32::try_from(size)
                .map_err(|_| Error::invalid_argument(format!("IDX supports sizes below 2^32, not {size}")))?;
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend(&self.data);
        Ok(bytes)
    }
}

/// Reads images; error messages about the content end with `advice`.
pub(crate) fn read_images_or(path: &Path, advice: &str) -> Result<IdxImages> {
    into_images(read(path, 3, advice)?)
}

/// Reads labels; error messages about the content end with `advice`.
pub(crate) fn read_labels_or(path: &Path, advice: &str) -> Result<Vec<u8>> {
    Ok(read(path, 1, advice)?.data)
}

fn into_images(idx: Idx) -> Result<IdxImages> {
    match idx.sizes[..] {
        [count, height, width] => Ok(IdxImages { count, height, width, pixels: idx.data }),
        _ => unreachable!("the rank was checked"),
    }
}

fn read(path: &Path, rank: usize, advice: &str) -> Result<Idx> {
    let name = path.display().to_string();
    let file = open_input(path).map_err(|e| Error::io(format!("cannot open {name}"), e))?;
    let file_size = file.metadata().map_err(|e| Error::io(format!("cannot read {name}"), e))?.len();
    IdxReader { name: &name, rank, advice, file_size }.read(BufReader::with_capacity(1 << 16, file))
}

/// Reads the members of a gzip file one after the other, as `cat a.gz b.gz`, bgzip and pigz make them, up to what is not a member.
struct GzipMembers<R> {
    /// The current member; `None` after an error.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            // One byte decides: the next one may not be in the buffer yet.
            if member.get_mut().fill_buf()?.first() != Some(&GZIP[0]) {
                return Ok(0);
            }
            self.member = self.member.take().map(|member| GzDecoder::new(member.into_inner()));
        }
    }
}

/// Returns the largest number of elements in a compressed file of `file_size` bytes: images of photographs or drawings are
/// compressed to a tenth or so, and a file that expands to more than a hundred times its size holds none.
pub fn gzip_limit(file_size: u64) -> u64 {
    (64 << 20) + file_size.saturating_mul(128)
}

/// Parser of one file: its name and advice for error messages, the expected rank and the size of the file.
struct IdxReader<'a> {
    name: &'a str,
    rank: usize,
    advice: &'a str,
    file_size: u64,
}

impl IdxReader<'_> {
    /// Reads a plain or gzip-compressed file.
    fn read(&self, mut reader: impl BufRead) -> Result<Idx> {
        // `BufReader` fills its buffer with one read, which returns at least two bytes unless the file is shorter.
        let start = reader.fill_buf().map_err(|e| Error::io(format!("cannot read {}", self.name), e))?;
        if start.starts_with(&GZIP) {
            let mut members = GzipMembers { member: Some(GzDecoder::new(reader)) };
            let idx = self.read_plain(&mut members, gzip_limit(self.file_size))?;
            let mut rest = members.member.map(GzDecoder::into_inner);
            let trailing = rest.as_mut().map_or(Ok(0), count_trailing);
            let trailing = trailing.map_err(|e| self.read_error(e))?;
            if trailing > 0 {
                return Err(
                    self.format_error(format!("{} after the gzip stream", count(trailing, "trailing byte")))
                );
            }
            Ok(idx)
        } else {
            self.read_plain(&mut reader, u64::MAX)
        }
    }

    /// Reads uncompressed data to the end of `reader`, so that a gzip decoder also verifies its checksum. More than `limit`
    /// elements are an error.
    fn read_plain(&self, reader: &mut impl Read, limit: u64) -> Result<Idx> {
        let magic: [u8; 4] = self.read_4_bytes(reader)?;
        let [0, 0, element, rank] = magic else {
            return Err(self.format_error(format!(
                "not an IDX file: it starts with the bytes {}, expected 00 00 08 {:02x}",
                hex(&magic),
                self.rank
            )));
        };
        if element != UNSIGNED_BYTE {
            return Err(self.format_error(format!(
                "element type 0x{element:02x} ({}), expected 0x08 (unsigned byte)",
                element_name(element)
            )));
        }
        if usize::from(rank) != self.rank {
            return Err(self.format_error(format!(
                "rank {rank} ({}), expected rank {} ({}); are images and labels swapped?",
                rank_name(rank.into()),
                self.rank,
                rank_name(self.rank)
            )));
        }
        let mut sizes = Vec::with_capacity(self.rank);
        for _ in 0..self.rank {
            let size = u32::from_be_bytes(self.read_4_bytes(reader)?);
            sizes.push(
                usize::try_from(size).map_err(|_| self.format_error(format!("size {size} is too large")))?,
            );
        }
        let declared = join_sizes(&sizes);
        let length = product(&sizes).filter(|&n| isize::try_from(n).is_ok()).ok_or_else(|| {
            self.format_error(format!(
                "the header declares {declared} elements, which exceeds the address space"
            ))
        })?;

        if length as u64 > limit {
            // Nothing of it is kept.
            let found = io::copy(&mut reader.by_ref().take(limit), &mut io::sink());
            let found = found.map_err(|e| self.read_error(e))?;
            return Err(self.format_error(if found < limit {
                format!("truncated: the header declares {declared} = {length} bytes of elements, found {found}")
            } else {
                format!(
                    "the header declares {declared} = {length} bytes of elements, but a compressed file of {} bytes may hold \
                     at most {limit}; decompress it with gunzip if that is right",
                    self.file_size
                )
            }));
        }
        let mut data = Vec::new();
        let capacity = length.min(MAX_INITIAL_CAPACITY);
        data.try_reserve_exact(capacity).map_err(|_| self.no_memory(length))?;
        reader.by_ref().take(length as u64).read_to_end(&mut data).map_err(|e| match e.kind() {
            io::ErrorKind::OutOfMemory => self.no_memory(length),
            _ => self.read_error(e),
        })?;
        if data.len() < length {
            return Err(self.format_error(format!(
                "truncated: the header declares {declared} = {} of elements, found {}",
                count(length, "byte"),
                data.len()
            )));
        }
        // Reading to the end makes a gzip decoder verify its checksum.
        let trailing = count_trailing(reader).map_err(|e| self.read_error(e))?;
        if trailing > 0 {
            return Err(self.format_error(format!(
                "{}: the header declares {declared} = {length} bytes of elements, found {}",
                count(trailing, "trailing byte"),
                length as u64 + trailing
            )));
        }
        Ok(Idx { sizes, data })
    }

    fn read_4_bytes(&self, reader: &mut impl Read) -> Result<[u8; 4]> {
        let mut bytes = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut bytes).map_err(|e| self.read_error(e))?;
        <[u8; 4]>::try_from(bytes.as_slice()).map_err(|_| {
            let header = 4 + 4 * self.rank;
            self.format_error(format!("truncated: it ends within its header of {header} bytes"))
        })
    }

    fn read_error(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.format_error("truncated: the gzip stream is incomplete".into())
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                self.format_error(format!("the gzip stream is damaged ({e})"))
            }
            _ => Error::io(format!("cannot read {}", self.name), e),
        }
    }

    #[cold]
    fn no_memory(&self, length: usize) -> Error {
        no_memory::<u8>(length, "its elements").context(self.name)
    }

    #[cold]
    fn format_error(&self, what: String) -> Error {
        Error::format(format!("{}: {what}; {}", self.name, self.advice))
    }
}

/// Returns the number of bytes up to the end of `reader`, or a limit: a compressed file may have very many.
fn count_trailing(reader: &mut impl Read) -> io::Result<u64> {
    io::copy(&mut reader.take(MAX_TRAILING), &mut io::sink())
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size))
}

fn join_sizes(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn element_name(element: u8) -> &'static str {
    match element {
        0x09 => "signed byte",
        0x0b => "16-bit integer",
        0x0c => "32-bit integer",
        0x0d => "32-bit float",
        0x0e => "64-bit float",
        _ => "unknown",
    }
}

fn rank_name(rank: usize) -> &'static str {
    match rank {
        1 => "labels",
        3 => "images",
        _ => "neither images nor labels",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use neocog_base::ErrorKind;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn two_images() -> Vec<u8> {
        Idx { sizes: vec![2, 3, 2], data: (0..12).collect() }.encode().unwrap()
    }

    /// Returns the error message for an invalid image file, after checking its kind, file name and advice.
    fn error_message(bytes: &[u8]) -> String {
        let e = parse_images("x.gz", bytes).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format, "{e}");
        let text = e.to_string();
        assert!(text.starts_with("x.gz: ") && text.ends_with("; download the file again"), "{text}");
        text
    }

    proptest! {
        #[test]
        fn encoded_files_are_parsed(n in 0usize..5, h in 0usize..6, w in 0usize..6, seed in any::<u8>()) {
            let data: Vec<u8> = (0..n * h * w).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let bytes = Idx { sizes: vec![n, h, w], data: data.clone() }.encode().unwrap();
            let expected = IdxImages { count: n, height: h, width: w, pixels: data.clone() };
            prop_assert_eq!(&parse_images("x", &bytes).unwrap(), &expected);
            prop_assert_eq!(&parse_images("x", &gzip(&bytes)).unwrap(), &expected);
            let labels = Idx { sizes: vec![data.len()], data: data.clone() }.encode().unwrap();
            prop_assert_eq!(parse_labels("x", &labels).unwrap(), data);
        }

        #[test]
        fn a_truncated_file_is_an_error(cut in 0usize..28) {
            let bytes = two_images();
            prop_assert!(error_message(&bytes[..cut]).contains("truncated"));
        }

        #[test]
        fn a_truncated_gzip_file_is_an_error(cut in 0.0f64..1.0) {
            let bytes = gzip(&two_images());
            let cut = (bytes.len() as f64 * cut) as usize;
            error_message(&bytes[..cut]);
        }

        #[test]
        fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_images("x", &bytes);
            let _ = parse_labels("x", &bytes);
            let _ = parse_labels("x", &gzip(&bytes));
        }
    }

    #[test]
    fn a_flipped_bit_in_gzip_is_an_error() {
        let good = gzip(&two_images());
        let mut harmless = 0;
        // The first 10 bytes are the gzip header, whose time stamp and flags do not affect the data.
        for at in 10..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                match parse_images("x.gz", &bytes) {
                    Ok(images) => {
                        assert_eq!(images.pixels, (0..12).collect::<Vec<u8>>());
                        harmless += 1;
                    }
                    Err(_) => drop(error_message(&bytes)),
                }
            }
        }
        assert!(harmless < 8, "only the padding bits of the last byte of the stream may be harmless");
    }

    #[test]
    fn wrong_magic_type_or_rank_is_an_error() {
        assert!(
            error_message(b"<html>404</html>")
                .contains("starts with the bytes 3c 68 74 6d, expected 00 00 08 03")
        );
        let mut floats = two_images();
        floats[2] = 0x0d;
        assert!(error_message(&floats).contains("0x0d (32-bit float), expected 0x08"));
        let labels = Idx { sizes: vec![3], data: vec![1, 2, 3] }.encode().unwrap();
        assert!(error_message(&labels).contains("rank 1 (labels), expected rank 3 (images)"));
        let e = parse_labels("y", &two_images()).unwrap_err().to_string();
        assert!(e.contains("rank 3 (images), expected rank 1 (labels)"), "{e}");
    }

    #[test]
    fn wrong_sizes_are_errors() {
        let mut bytes = two_images();
        bytes[7] = 3;
        assert!(error_message(&bytes).contains("header declares 3x3x2 = 18 bytes of elements, found 12"));
        bytes[7] = 1;
        assert!(error_message(&bytes).contains("6 trailing bytes: the header declares 1x3x2 = 6 bytes"));
        assert!(error_message(&gzip(&bytes)).contains("6 trailing bytes"));
    }

    #[test]
    fn huge_declared_sizes_do_not_allocate() {
        let mut huge = vec![0, 0, 8, 3];
        huge.extend([0xff; 12]); // (2^32 - 1)^3 overflows
        assert!(error_message(&huge).contains("exceeds the address space"));
        let mut large = vec![0, 0, 8, 3];
        for size in [1u32 << 20; 3] {
            large.extend(size.to_be_bytes()); // 2^60 fits the address space: detected by reading
        }
        large.extend([7; 5]);
        assert!(error_message(&large).contains("truncated: the header declares 1048576x1048576x1048576"));
        assert!(error_message(&gzip(&large)).contains("found 5"));
    }

    #[test]
    fn compressed_files_expand_within_a_limit() {
        // 2^27 zeros in 130 kB.
        let mut plain = vec![0, 0, 8, 3];
        [1u32 << 13, 1 << 7, 1 << 7].iter().for_each(|size| plain.extend(size.to_be_bytes()));
        plain.resize(16 + (1 << 27), 0);
        let bytes = gzip(&plain);
        let limit = gzip_limit(bytes.len() as u64);
        assert!(limit < 1 << 27, "{limit}");
        let text = error_message(&bytes);
        assert!(text.contains("8192x128x128 = 134217728 bytes"), "{text}");
        assert!(text.contains(&format!("may hold at most {limit}")), "{text}");
        assert_eq!(parse_images("x", &plain).unwrap().count, 1 << 13);
        // What follows the declared elements is not decompressed to its end.
        plain[6..8].fill(0);
        plain[6] = 1;
        plain[4..6].fill(0);
        let text = error_message(&gzip(&plain));
        assert!(text.contains("1048576 trailing bytes"), "{text}");
    }

    #[test]
    fn bytes_after_the_gzip_stream_are_errors() {
        let mut junk = gzip(&two_images());
        junk.extend(b"junk");
        assert!(error_message(&junk).contains("4 trailing bytes after the gzip stream"));
        let member = gzip(&two_images());
        let twice = [member.clone(), member.clone()].concat();
        assert!(error_message(&twice).contains("28 trailing bytes: the header declares"));
    }

    #[test]
    fn a_gzip_file_may_have_several_members() {
        let plain = two_images();
        for cut in 0..=plain.len() {
            let members = [gzip(&plain[..cut]), gzip(&[]), gzip(&plain[cut..])].concat();
            assert_eq!(parse_images("x", &members).unwrap(), parse_images("x", &plain).unwrap());
            // From a reader whose buffer ends anywhere.
            let idx = IdxReader { name: "x", rank: 3, advice: ADVICE, file_size: 100 };
            for size in [2, 3, 7] {
                let read = idx.read(BufReader::with_capacity(size, members.as_slice())).unwrap();
                assert_eq!(read.data, plain[16..]);
            }
            let damaged = [&members[..], b"\x1f"].concat();
            assert!(error_message(&damaged).contains("gzip stream"), "{}", error_message(&damaged));
            assert!(error_message(&members[..members.len() - 1]).contains("truncated"));
        }
    }

    #[test]
    fn a_missing_file_is_named_in_the_error() {
        let e = read_images(Path::new("no/such/file")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().starts_with("cannot open no/such/file"), "{e}");
    }
}
