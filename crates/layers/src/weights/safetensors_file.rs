//! Safetensors files.
//!
//! ```text
//! | length of the header | header: JSON with type, shape and offsets of each tensor | elements |
//!   u64 little-endian
//! ```
//!
//! The header is validated against the size of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use neocog_base::memory::try_vec;
use neocog_base::text::count;
use neocog_tensor::{Error, Result};
use safetensors::tensor::Metadata;

use super::element::ElementType;
use super::stored::{StoredTensor, TensorFile};

/// An open file with its validated header.
pub(super) struct SafetensorsFile {
    file: File,
    /// Offset of the elements.
    data: u64,
    stored: Vec<StoredTensor>,
    /// The range of each tensor within the elements.
    offsets: Vec<(usize, usize)>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Reads the header of a file of `size` bytes.
    ///
    /// # Errors
    /// `Format` when it is not a safetensors file, truncated or damaged.
    pub fn open(mut file: File, size: u64) -> Result<Self> {
        let cannot_read = |e| Error::io("cannot read the header", e);
        let mut length = [0; 8];
        if size < 8 {
            let why = format!("it has {}, less than the length of the header (8 bytes)", count(size, "byte"));
            return Err(not_safetensors(&why));
        }
        file.seek(SeekFrom::Start(0)).map_err(cannot_read)?;
        file.read_exact(&mut length).map_err(cannot_read)?;
        let rest = size - 8;
        let length = header_length(length, rest)?;
        let mut header = try_vec(length, "the header of the weights")?;
        file.read_exact(&mut header).map_err(cannot_read)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| not_safetensors("its header is invalid").with_source(e))?;
        let (described, actual) = (header.data_len() as u64, rest - length as u64);
        if described != actual {
            let what = if described > actual { "it is truncated or damaged" } else { "data was appended" };
            return Err(Error::format(format!(
                "the header describes {described} bytes of elements, found {actual}: {what}"
            )));
        }
        let (stored, offsets) = header
            .offset_keys()
            .into_iter()
            .filter_map(|name| {
                let info = header.info(&name)?;
                let element = ElementType::of_safetensors(info.dtype);
                Some((StoredTensor { name, element, shape: info.shape.clone() }, info.data_offsets))
            })
            .unzip();
        let metadata =
            header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect();
        Ok(SafetensorsFile { file, data: 8 + length as u64, stored, offsets, metadata })
    }
}

impl TensorFile for SafetensorsFile {
    fn stored(&self) -> &[StoredTensor] {
        &self.stored
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata.clone()
    }

    fn bytes(&mut self, index: usize) -> Result<Vec<u8>> {
        let (start, end) = self.offsets[index];
        let mut bytes = try_vec(end - start, "its elements")?;
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::io("cannot read its elements", e))?;
        Ok(bytes)
    }
}

/// Validates the length of the header against the number of bytes that follow.
fn header_length(bytes: [u8; 8], rest: u64) -> Result<usize> {
    /// The limit of the safetensors library.
    const MAX_LENGTH: u64 = 100_000_000;
    let length = u64::from_le_bytes(bytes);
    match &bytes {
        b"NEOCOGCK" => Err(not_safetensors("it is a neocog checkpoint, `export` writes its weights")),
        _ if length > rest => Err(not_safetensors(&format!(
            "its first bytes specify a header of {}, but the rest of the file has {}: it has another format or is truncated",
            count(length, "byte"),
            count(rest, "byte")
        ))),
        _ if length > MAX_LENGTH => {
            Err(not_safetensors(&format!("its header has {length} bytes, the maximum is {MAX_LENGTH}")))
        }
        _ => Ok(length as usize),
    }
}

/// Returns the error for a file of another format.
fn not_safetensors(why: &str) -> Error {
    Error::format(format!("not a safetensors file: {why}"))
}
