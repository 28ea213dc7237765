//! IDX files: the format of MNIST and its relatives.
//!
//! ```text
//! 0  0  type  rank | size 0 | ... | size rank-1 | elements, row-major
//! 1  1   1     1   |   4    |     |      4      | big-endian
//! ```
//!
//! Only elements of type `0x08`, unsigned byte, are read. A file may be plain or compressed with gzip: its
//! first bytes tell, not its name. Sizes in a header are checked against what the file holds before they are
//! believed, so a header cannot make the reader take more memory than the file has bytes for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use neocog_base::{Error, Result};

const UNSIGNED_BYTE: u8 = 0x08;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// No more than this is set aside on the word of a header alone.
const BELIEVED: usize = 1 << 20;
const ADVICE: &str = "get the file again";

/// An IDX file of unsigned bytes: its sizes and its elements, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// The sizes, outermost first.
    pub sizes: Vec<usize>,
    /// The elements, as many as the product of the sizes.
    pub data: Vec<u8>,
}

/// Images as an IDX file of rank 3 holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images `n`.
    pub count: usize,
    /// Height `h` of each.
    pub height: usize,
    /// Width `w` of each.
    pub width: usize,
    /// `[n, h, w]`, row-major.
    pub pixels: Vec<u8>,
}

/// Reads the images in the file at `path`: rank 3, `[n, h, w]`.
///
/// # Errors
/// `Io` where the file cannot be read, `Format` where it is not an IDX file of images, is truncated, damaged,
/// or has bytes too many. The message names the file and says what was expected.
pub fn read_images(path: &Path) -> Result<IdxImages> {
    read_images_or(path, ADVICE)
}

/// Reads the labels in the file at `path`: rank 1, `[n]`.
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    read_labels_or(path, ADVICE)
}

/// As [`read_images`], from bytes; `name` stands in errors for the file.
///
/// # Errors
/// As [`read_images`].
pub fn parse_images(name: &str, bytes: &[u8]) -> Result<IdxImages> {
    images(Source { name, rank: 3, advice: ADVICE }.decode(bytes)?)
}

/// As [`read_labels`], from bytes; `name` stands in errors for the file.
///
/// # Errors
/// As [`read_images`].
pub fn parse_labels(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Source { name, rank: 1, advice: ADVICE }.decode(bytes)?.data)
}

impl Idx {
    /// The bytes of a plain IDX file.
    ///
    /// # Errors
    /// `Argument` where the sizes do not fit the elements, or do not fit the format (rank up to 255, sizes
    /// below 2^32).
    pub fn encode(&self) -> Result<Vec<u8>> {
        let rank = u8::try_from(self.sizes.len()).map_err(|_| {
            Error::invalid_argument(format!("IDX has at most rank 255, not {}", self.sizes.len()))
        })?;
        if product(&self.sizes) != Some(self.data.len()) {
            return Err(Error::invalid_argument(format!(
                "IDX sizes {:?} do not hold {} elements",
                self.sizes,
                self.data.len()
            )));
        }
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, rank];
        for &size in &self.sizes {
            let size = u32::try_from(size)
                .map_err(|_| Error::invalid_argument(format!("IDX sizes are below 2^32, {size} is not")))?;
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend(&self.data);
        Ok(bytes)
    }
}

/// As [`read_images`]; errors about the content end with `advice`.
pub(crate) fn read_images_or(path: &Path, advice: &str) -> Result<IdxImages> {
    images(read(path, 3, advice)?)
}

/// As [`read_labels`]; errors about the content end with `advice`.
pub(crate) fn read_labels_or(path: &Path, advice: &str) -> Result<Vec<u8>> {
    Ok(read(path, 1, advice)?.data)
}

fn images(idx: Idx) -> Result<IdxImages> {
    match idx.sizes[..] {
        [count, height, width] => Ok(IdxImages { count, height, width, pixels: idx.data }),
        _ => unreachable!("the rank was checked"),
    }
}

fn read(path: &Path, rank: usize, advice: &str) -> Result<Idx> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Error::io(format!("cannot open {name}"), e))?;
    Source { name: &name, rank, advice }.decode(BufReader::with_capacity(1 << 16, file))
}

/// What is read, for the messages, and the rank that is expected.
struct Source<'a> {
    name: &'a str,
    rank: usize,
    advice: &'a str,
}

impl Source<'_> {
    fn decode(&self, mut reader: impl BufRead) -> Result<Idx> {
        // A `BufReader` fills its buffer in one read, which for a file gives at least two bytes if there are.
        let start = reader.fill_buf().map_err(|e| Error::io(format!("cannot read {}", self.name), e))?;
        if start.starts_with(&GZIP) {
            let mut inner = GzDecoder::new(reader);
            let idx = self.plain(&mut inner)?;
            let mut rest = inner.into_inner();
            let trailing = io::copy(&mut rest, &mut io::sink()).map_err(|e| self.unreadable(e))?;
            if trailing > 0 {
                return Err(
                    self.bad(format!("{trailing} bytes follow the end of its gzip stream, expected none"))
                );
            }
            Ok(idx)
        } else {
            self.plain(&mut reader)
        }
    }

    /// Reads to the end of `reader`, for gzip up to and with its checksum.
    fn plain(&self, reader: &mut impl Read) -> Result<Idx> {
        let magic: [u8; 4] = self.header(reader)?;
        let [0, 0, element, rank] = magic else {
            return Err(self.bad(format!(
                "it is not an IDX file: it begins with the bytes {}, expected 00 00 08 {:02x}",
                hex(&magic),
                self.rank
            )));
        };
        if element != UNSIGNED_BYTE {
            return Err(self.bad(format!(
                "its elements are of type 0x{element:02x} ({}), expected 0x08 (unsigned byte)",
                element_name(element)
            )));
        }
        if usize::from(rank) != self.rank {
            return Err(self.bad(format!(
                "it has rank {rank} ({}), expected rank {} ({}); were images and labels exchanged?",
                rank_name(rank.into()),
                self.rank,
                rank_name(self.rank)
            )));
        }
        let mut sizes = Vec::with_capacity(self.rank);
        for _ in 0..self.rank {
            let size = u32::from_be_bytes(self.header(reader)?);
            sizes.push(usize::try_from(size).map_err(|_| self.bad(format!("its size {size} is too large")))?);
        }
        let claim = times(&sizes);
        let length = product(&sizes).filter(|&n| isize::try_from(n).is_ok()).ok_or_else(|| {
            self.bad(format!("its header claims {claim} elements, more than memory can hold"))
        })?;

        let mut data = Vec::new();
        data.try_reserve_exact(length.min(BELIEVED))
            .map_err(|_| self.bad("there is no memory to read it".into()))?;
        reader.by_ref().take(length as u64).read_to_end(&mut data).map_err(|e| self.unreadable(e))?;
        if data.len() < length {
            return Err(self.bad(format!(
                "it is truncated: its header says {claim} = {length} bytes of elements, found {}",
                data.len()
            )));
        }
        // Reading on to the end also makes a gzip reader check its checksum.
        let trailing = io::copy(reader, &mut io::sink()).map_err(|e| self.unreadable(e))?;
        if trailing > 0 {
            return Err(self.bad(format!(
                "{trailing} bytes too many: its header says {claim} = {length} bytes of elements, found {}",
                length as u64 + trailing
            )));
        }
        Ok(Idx { sizes, data })
    }

    fn header(&self, reader: &mut impl Read) -> Result<[u8; 4]> {
        let mut bytes = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut bytes).map_err(|e| self.unreadable(e))?;
        <[u8; 4]>::try_from(bytes.as_slice()).map_err(|_| {
            let header = 4 + 4 * self.rank;
            self.bad(format!("it is truncated: it ends within its header of {header} bytes"))
        })
    }

    fn unreadable(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => self.bad("it is truncated: its gzip stream ends too soon".into()),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                self.bad(format!("its gzip stream is damaged ({e})"))
            }
            _ => Error::io(format!("cannot read {}", self.name), e),
        }
    }

    #[cold]
    fn bad(&self, what: String) -> Error {
        Error::format(format!("{}: {what}; {}", self.name, self.advice))
    }
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size))
}

fn times(sizes: &[usize]) -> String {
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

    /// The message for a file of images that is wrong; it must be of kind `Format` and name file and advice.
    fn complaint(bytes: &[u8]) -> String {
        let e = parse_images("x.gz", bytes).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Format, "{e}");
        let text = e.to_string();
        assert!(text.starts_with("x.gz: ") && text.ends_with("; get the file again"), "{text}");
        text
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(n in 0usize..5, h in 0usize..6, w in 0usize..6, seed in any::<u8>()) {
            let data: Vec<u8> = (0..n * h * w).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let bytes = Idx { sizes: vec![n, h, w], data: data.clone() }.encode().unwrap();
            let expected = IdxImages { count: n, height: h, width: w, pixels: data.clone() };
            prop_assert_eq!(&parse_images("x", &bytes).unwrap(), &expected);
            prop_assert_eq!(&parse_images("x", &gzip(&bytes)).unwrap(), &expected);
            let labels = Idx { sizes: vec![data.len()], data: data.clone() }.encode().unwrap();
            prop_assert_eq!(parse_labels("x", &labels).unwrap(), data);
        }

        #[test]
        fn a_file_cut_anywhere_is_an_error(cut in 0usize..28) {
            let bytes = two_images();
            prop_assert!(complaint(&bytes[..cut]).contains("truncated"));
        }

        #[test]
        fn a_gzip_file_cut_anywhere_is_an_error(cut in 0.0f64..1.0) {
            let bytes = gzip(&two_images());
            let cut = (bytes.len() as f64 * cut) as usize;
            complaint(&bytes[..cut]);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_images("x", &bytes);
            let _ = parse_labels("x", &bytes);
            let _ = parse_labels("x", &gzip(&bytes));
        }
    }

    #[test]
    fn a_flipped_bit_in_gzip_is_an_error() {
        let good = gzip(&two_images());
        let mut harmless = 0;
        // The header before holds a time stamp and the like, which change nothing.
        for at in 10..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                match parse_images("x.gz", &bytes) {
                    Ok(images) => {
                        assert_eq!(images.pixels, (0..12).collect::<Vec<u8>>());
                        harmless += 1;
                    }
                    Err(_) => drop(complaint(&bytes)),
                }
            }
        }
        assert!(harmless < 8, "only the bits that fill up the last byte of the stream may be harmless");
    }

    #[test]
    fn wrong_magic_type_and_rank() {
        assert!(
            complaint(b"<html>404</html>")
                .contains("begins with the bytes 3c 68 74 6d, expected 00 00 08 03")
        );
        let mut floats = two_images();
        floats[2] = 0x0d;
        assert!(complaint(&floats).contains("0x0d (32-bit float), expected 0x08"));
        let labels = Idx { sizes: vec![3], data: vec![1, 2, 3] }.encode().unwrap();
        assert!(complaint(&labels).contains("rank 1 (labels), expected rank 3 (images)"));
        let e = parse_labels("y", &two_images()).unwrap_err().to_string();
        assert!(e.contains("rank 3 (images), expected rank 1 (labels)"), "{e}");
    }

    #[test]
    fn sizes_that_lie() {
        let mut bytes = two_images();
        bytes[7] = 3;
        assert!(complaint(&bytes).contains("header says 3x3x2 = 18 bytes of elements, found 12"));
        bytes[7] = 1;
        assert!(complaint(&bytes).contains("6 bytes too many: its header says 1x3x2 = 6 bytes"));
        assert!(complaint(&gzip(&bytes)).contains("6 bytes too many"));
    }

    #[test]
    fn a_header_that_claims_too_much_allocates_nothing() {
        let mut huge = vec![0, 0, 8, 3];
        huge.extend([0xff; 12]); // (2^32 - 1)^3 overflows
        assert!(complaint(&huge).contains("more than memory can hold"));
        let mut large = vec![0, 0, 8, 3];
        for size in [1u32 << 20; 3] {
            large.extend(size.to_be_bytes()); // 2^60 fits the address space: it must be found out by reading
        }
        large.extend([7; 5]);
        assert!(complaint(&large).contains("truncated: its header says 1048576x1048576x1048576"));
        assert!(complaint(&gzip(&large)).contains("found 5"));
    }

    #[test]
    fn bytes_after_gzip() {
        let mut junk = gzip(&two_images());
        junk.extend(b"junk");
        assert!(complaint(&junk).contains("4 bytes follow the end of its gzip stream"));
        let member = gzip(&two_images());
        let twice = [member.clone(), member.clone()].concat();
        assert!(complaint(&twice).contains(&format!("{} bytes follow", member.len())));
    }

    #[test]
    fn a_missing_file_is_named() {
        let e = read_images(Path::new("no/such/file")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().starts_with("cannot open no/such/file"), "{e}");
    }
}
