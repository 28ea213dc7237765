//! The file format of checkpoints.
//!
//! ```text
//! 0        8         12                20        52
//! | magic  | version | payload length  | SHA-256 | payload: the checkpoint in bincode, fixed-width integers |
//!   8 bytes  u32       u64               32 bytes, of the payload                    all little-endian
//! ```
//!
//! Files are replaced atomically ([`replace`]): a reader sees the old file or the new one.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bincode::config::{self, Configuration, Fixint, LittleEndian};
use bincode::error::DecodeError;
use neocog_base::fault::FaultWriter;
use neocog_base::file::replace;
use neocog_base::memory::try_with_capacity;
use neocog_base::text::count;
use neocog_tensor::{Context as _, Error, Result};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::content::{Checkpoint, NO_MEMORY, SavedAverage, SavedFeedback};
use super::version1::Version1;

/// The first bytes of every checkpoint.
pub const MAGIC: [u8; 8] = *b"NEOCOGCK";
/// The newest format version. All versions before can be read too. Version 3 has an average of the weights after the other fields of
/// version 2, and version 4 what a compressed exchange of gradients has left out; each is written only where there is such a thing.
pub const VERSION: u32 = 4;

/// The format version that a checkpoint is written in.
fn version_of(checkpoint: &Checkpoint) -> u32 {
    match (&checkpoint.average, checkpoint.feedback.is_empty()) {
        (_, false) => VERSION,
        (Some(_), true) => 3,
        (None, true) => 2,
    }
}

const HEADER: usize = 8 + 4 + 8 + 32;

fn encoding() -> Configuration<LittleEndian, Fixint> {
    config::standard().with_fixed_int_encoding()
}

impl Checkpoint {
    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Format` when it is not a checkpoint, has a newer version, or is truncated or
    /// damaged. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        read(path)
    }

    /// Parses a checkpoint from the bytes of a file.
    ///
    /// # Errors
    /// `Format` as of [`Checkpoint::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
            let size = bytes.len();
            return Err(not_a_checkpoint(&format!("it has {size} bytes, less than the header of {HEADER}")));
        };
        decode(&Header::parse(header, bytes.len() as u64)?, payload)
    }

    /// Writes the checkpoint to `path`, replacing an existing file.
    ///
    /// # Errors
    /// `Io` when it cannot be written; an existing file is not changed then.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace(path, |file| write_to(self, file)).map_err(|e| {
            let kept = if path.exists() { "; the existing file was not changed" } else { "" };
            Error::io(format!("cannot write the checkpoint {}{kept}", path.display()), e)
        })
    }
}

/// Streams the payload, then fills in the header, which has its length and checksum.
fn write_to(checkpoint: &Checkpoint, out: &mut (impl Write + Seek)) -> io::Result<()> {
    out.write_all(&[0; HEADER])?;
    let out = &mut FaultWriter(out);
    let (length, sum) = write_payload(checkpoint, BufWriter::with_capacity(1 << 16, &mut *out))?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(version_of(checkpoint).to_le_bytes());
    header.extend(length.to_le_bytes());
    header.extend(sum);
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&header)?;
    out.flush()
}

/// Returns the payload's length and SHA-256.
fn write_payload(checkpoint: &Checkpoint, out: impl Write) -> io::Result<(u64, [u8; 32])> {
    let mut payload = HashingWriter { out, sum: Sha256::new(), length: 0 };
    let failed = |e| match e {
        bincode::error::EncodeError::Io { inner, .. } => inner,
        other => io::Error::other(other),
    };
    bincode::serde::encode_into_std_write(checkpoint, &mut payload, encoding()).map_err(failed)?;
    let Checkpoint { average, feedback, .. } = checkpoint;
    if !feedback.is_empty() {
        bincode::serde::encode_into_std_write((average, feedback), &mut payload, encoding())
            .map_err(failed)?;
    } else if let Some(average) = average {
        bincode::serde::encode_into_std_write(average, &mut payload, encoding()).map_err(failed)?;
    }
    payload.flush()?;
    Ok((payload.length, payload.sum.finalize().into()))
}

/// A writer that counts and hashes what is written.
struct HashingWriter<W> {
    out: W,
    sum: Sha256,
    length: u64,
}

impl<W: Write> Write for HashingWriter<W> {
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

fn read(path: &Path) -> Result<Checkpoint> {
    let cannot_read = |e| Error::io(format!("cannot read the checkpoint {}", path.display()), e);
    let mut file = File::open(path).map_err(cannot_read)?;
    let size = file.metadata().map_err(cannot_read)?.len();
    let location = || path.display().to_string();
    let mut header = [0; HEADER];
    if size < HEADER as u64 {
        return Err(not_a_checkpoint(&format!(
            "it has {}, less than the header of {HEADER}",
            count(size, "byte")
        )))
        .context(location);
    }
    file.read_exact(&mut header).map_err(cannot_read)?;
    let header = Header::parse(&header, size).context(location)?;
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    let mut payload = try_with_capacity(length, "the content of the checkpoint").context(location)?;
    file.take(header.length).read_to_end(&mut payload).map_err(cannot_read)?;
    decode(&header, &payload).context(location)
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

fn decode(header: &Header, payload: &[u8]) -> Result<Checkpoint> {
    if payload.len() as u64 != header.length || Sha256::digest(payload)[..] != header.sum {
        return Err(Error::format("checksum mismatch: the file is damaged"));
    }
    let decoded = match header.version {
        1 => decode_limited::<Version1>(payload).map(|(old, used)| (Checkpoint::from(old), used)),
        2 => decode_limited(payload),
        3 => decode_limited::<(Checkpoint, SavedAverage)>(payload)
            .map(|((checkpoint, average), used)| (Checkpoint { average: Some(average), ..checkpoint }, used)),
        _ => decode_limited::<(Checkpoint, (Option<SavedAverage>, Vec<SavedFeedback>))>(payload).map(
            |((checkpoint, (average, feedback)), used)| {
                (Checkpoint { average, feedback, ..checkpoint }, used)
            },
        ),
    };
    let (checkpoint, used) = decoded.map_err(|e| {
        if let DecodeError::OtherString(text) = &e
            && text.starts_with(NO_MEMORY)
        {
            return Error::out_of_memory(text.as_str());
        }
        Error::format("the checksum is correct, but the content is not a checkpoint").with_source(e)
    })?;
    if used != payload.len() {
        let extra = payload.len() - used;
        return Err(Error::format(format!("unexpected {} after the content", count(extra, "byte"))));
    }
    checkpoint.check()?;
    Ok(checkpoint)
}

/// Decodes with a limit on the lengths in the payload. The limit is part of bincode's type, so the smallest of some limits that
/// the payload fits in is used: memory stays proportional to the size of the file.
fn decode_limited<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, usize), DecodeError> {
    fn within<T: DeserializeOwned, const LIMIT: usize>(payload: &[u8]) -> Result<(T, usize), DecodeError> {
        bincode::serde::decode_from_slice(payload, encoding().with_limit::<LIMIT>())
    }
    const MIB: usize = 1 << 20;
    match payload.len() {
        len if len <= MIB => within::<T, MIB>(payload),
        len if len <= 16 * MIB => within::<T, { 16 * MIB }>(payload),
        len if len <= 256 * MIB => within::<T, { 256 * MIB }>(payload),
        len if len <= 0x7000_0000 => within::<T, 0x7000_0000>(payload),
        _ => within::<T, { usize::MAX / 2 }>(payload),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

fn not_a_checkpoint(why: &str) -> Error {
    Error::format(format!("not a neocog checkpoint: {why}"))
}
