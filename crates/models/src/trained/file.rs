//! The file format of checkpoints.
//!
//! ```text
//! 0        8         12                20        52
//! | magic  | version | payload length  | SHA-256 | payload: the checkpoint in bincode, fixed-width integers |
//!   8 bytes  u32       u64               32 bytes, of the payload                    all little-endian
//! ```
//!
//! Files are replaced atomically ([`replace`]): a reader sees the old file or the new one.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bincode::config::{self, Configuration, Fixint, LittleEndian};
use bincode::error::{DecodeError, EncodeError};
use neocog_base::fault::FaultWriter;
use neocog_base::file::{open_input, replace};
use neocog_base::memory::try_with_capacity;
use neocog_base::text::count;
use neocog_tensor::{Context as _, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::tensor::NO_MEMORY;

/// The first bytes of every checkpoint.
pub const MAGIC: [u8; 8] = *b"NEOCOGCK";
/// The newest format version. All versions before can be read too. Version 3 has an average of the weights after the other fields of
/// version 2, and version 4 what a compressed exchange of gradients has left out; each is written only where there is such a thing.
pub const VERSION: u32 = 4;

const HEADER: usize = 8 + 4 + 8 + 32;

fn encoding() -> Configuration<LittleEndian, Fixint> {
    config::standard().with_fixed_int_encoding()
}

/// The checked content of a checkpoint file, not decoded yet.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    version: u32,
    content: Vec<u8>,
}

impl CheckpointFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Io` when it cannot be read; `Format` when it is not a checkpoint, has a newer version, or is truncated or
    /// damaged. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot_read = |e| Error::io(format!("cannot read the checkpoint {}", path.display()), e);
        let mut file = open_input(path).map_err(cannot_read)?;
        let size = file.metadata().map_err(cannot_read)?.len();
        let location = || path.display().to_string();
        let mut header = [0; HEADER];
        if size < HEADER as u64 {
            return Err(too_short(size)).context(location);
        }
        file.read_exact(&mut header).map_err(cannot_read)?;
        let header = Header::parse(&header, size).context(location)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let mut content = try_with_capacity(length, "the content of the checkpoint").context(location)?;
        file.take(header.length).read_to_end(&mut content).map_err(cannot_read)?;
        Self::checked(&header, content).context(location)
    }

    /// Checks the bytes of a file.
    ///
    /// # Errors
    /// `Format` as of [`CheckpointFile::read`]; `OutOfMemory`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(too_short(bytes.len() as u64));
        };
        let header = Header::parse(header, bytes.len() as u64)?;
        let mut content = try_with_capacity(rest.len(), "the content of the checkpoint")?;
        content.extend_from_slice(rest);
        Self::checked(&header, content)
    }

    fn checked(header: &Header, content: Vec<u8>) -> Result<Self> {
        if content.len() as u64 != header.length || Sha256::digest(&content)[..] != header.sum {
            return Err(Error::format("checksum mismatch: the file is damaged"));
        }
        Ok(CheckpointFile { version: header.version, content })
    }

    /// Returns the format version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Decodes the content.
    ///
    /// # Errors
    /// `Format` when it is not a `T`, or longer; `OutOfMemory`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let (decoded, used) = self.decode_counted()?;
        if used != self.content.len() {
            let extra = self.content.len() - used;
            return Err(Error::format(format!("unexpected {} after the content", count(extra, "byte"))));
        }
        Ok(decoded)
    }

    /// Decodes what the content starts with.
    ///
    /// # Errors
    /// `Format` when it does not start with a `T`; `OutOfMemory`.
    pub fn decode_start<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(self.decode_counted()?.0)
    }

    fn decode_counted<T: DeserializeOwned>(&self) -> Result<(T, usize)> {
        decode_limited(&self.content).map_err(|e| {
            if let DecodeError::OtherString(text) = &e
                && text.starts_with(NO_MEMORY)
            {
                return Error::out_of_memory(text.as_str());
            }
            Error::format("the checksum is correct, but the content is not a checkpoint").with_source(e)
        })
    }
}

struct Header {
    version: u32,
    length: u64,
    sum: [u8; 32],
}

impl Header {
    /// Parses a header and checks it against the size of the file.
    fn parse(bytes: &[u8; HEADER], size: u64) -> Result<Self> {
        let field = |from: usize, to: usize| &bytes[from..to];
        if field(0, 8) != MAGIC {
            return Err(not_a_checkpoint("its first bytes are not those of a checkpoint"));
        }
        let version = u32::from_le_bytes(array(field(8, 12)));
        if !(1..=VERSION).contains(&version) {
            return Err(Error::format(format!(
                "the checkpoint has format version {version}, supported are versions up to {VERSION}; \
                 it was written by a newer release, or is damaged"
            )));
        }
        let length = u64::from_le_bytes(array(field(12, 20)));
        let actual = size - HEADER as u64;
        if length != actual {
            let what = if length > actual { "it is truncated or damaged" } else { "data was appended" };
            return Err(Error::format(format!(
                "the header specifies {length} bytes of content, found {actual}: {what}"
            )));
        }
        Ok(Header { version, length, sum: array(field(20, HEADER)) })
    }
}

/// Decodes with a limit on the lengths in the content. The limit is part of bincode's type, so the smallest of some limits that
/// the content fits in is used: memory stays proportional to the size of the file.
fn decode_limited<T: DeserializeOwned>(content: &[u8]) -> Result<(T, usize), DecodeError> {
    fn within<T: DeserializeOwned, const LIMIT: usize>(content: &[u8]) -> Result<(T, usize), DecodeError> {
        bincode::serde::decode_from_slice(content, encoding().with_limit::<LIMIT>())
    }
    const MIB: usize = 1 << 20;
    match content.len() {
        len if len <= MIB => within::<T, MIB>(content),
        len if len <= 16 * MIB => within::<T, { 16 * MIB }>(content),
        len if len <= 256 * MIB => within::<T, { 256 * MIB }>(content),
        len if len <= 0x7000_0000 => within::<T, 0x7000_0000>(content),
        _ => within::<T, { usize::MAX / 2 }>(content),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

fn too_short(size: u64) -> Error {
    not_a_checkpoint(&format!("it has {}, less than the header of {HEADER}", count(size, "byte")))
}

fn not_a_checkpoint(why: &str) -> Error {
    Error::format(format!("not a neocog checkpoint: {why}"))
}

/// Writes a checkpoint file of format `version` to `path`, replacing an existing file; `content` writes the content.
///
/// # Errors
/// `Io` when it cannot be written; an existing file is not changed then.
pub fn write(
    path: &Path,
    version: u32,
    content: impl Fn(&mut ContentWriter<'_>) -> io::Result<()>,
) -> Result<()> {
    replace(path, |file| write_to(file, version, &content)).map_err(|e| {
        let kept = if path.exists() { "; the existing file was not changed" } else { "" };
        Error::io(format!("cannot write the checkpoint {}{kept}", path.display()), e)
    })
}

/// Streams the content, then fills in the header, which has its length and checksum.
fn write_to(
    out: &mut (impl Write + Seek),
    version: u32,
    content: impl Fn(&mut ContentWriter<'_>) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(&[0; HEADER])?;
    let out = &mut FaultWriter(out);
    let mut buffered = BufWriter::with_capacity(1 << 16, &mut *out);
    let mut writer =
        ContentWriter { out: HashingWriter { out: &mut buffered, sum: Sha256::new(), length: 0 } };
    content(&mut writer)?;
    let HashingWriter { sum, length, .. } = writer.out;
    buffered.flush()?;
    drop(buffered);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(version.to_le_bytes());
    header.extend(length.to_le_bytes());
    header.extend(sum.finalize());
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header)?;
    out.flush()
}

/// Writes the content of a checkpoint file.
pub struct ContentWriter<'a> {
    out: HashingWriter<'a>,
}

impl ContentWriter<'_> {
    /// Appends `value`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn encode(&mut self, value: impl Serialize) -> io::Result<()> {
        let written = bincode::serde::encode_into_std_write(value, &mut self.out, encoding());
        written.map(drop).map_err(|e| match e {
            EncodeError::Io { inner, .. } => inner,
            other => io::Error::other(other),
        })
    }
}

/// A writer that counts and hashes what is written.
struct HashingWriter<'a> {
    out: &'a mut dyn Write,
    sum: Sha256,
    length: u64,
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
