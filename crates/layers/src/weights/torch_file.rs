//! Files of `torch.save`: tensors of a `state_dict`.
//!
//! A file is a zip archive, since PyTorch 1.6:
//!
//! ```text
//! NAME/data.pkl     the object; storages are persistent ids with a key
//! NAME/data/KEY     the elements of a storage, not compressed
//! NAME/byteorder    "little", if it is there
//! ```
//!
//! or, in the format before that, pickles followed by storages:
//!
//! ```text
//! | magic number | protocol version | properties of the system | object | keys of the storages | length, elements | .. |
//!   pickle         pickle             pickle                     pickle   pickle                 u64
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

use neocog_base::memory::{try_collect, try_vec, try_with_capacity};
use neocog_tensor::{Error, Result};
use zip::{CompressionMethod, ZipArchive};

use super::element::ElementType;
use super::pickle::{Pickle, StridedTensor, Value};
use super::stored::{StoredTensor, TensorFile};

/// The first value of a file in the format before zip archives.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// The keys of an object under which people save the `state_dict` of a network.
const NESTED: [&str; 6] = ["state_dict", "model_state_dict", "model", "model_state", "net", "network"];

/// An open file whose pickle has been read.
pub(super) struct TorchFile {
    file: File,
    /// Where the elements of each storage are, and their number of bytes.
    storages: HashMap<String, (u64, u64)>,
    stored: Vec<StoredTensor>,
    sources: Vec<Source>,
}

/// Where the elements of a tensor are.
enum Source {
    Tensor(StridedTensor),
    /// A number of Python.
    Number(f64),
}

/// Whether a file that starts with these bytes looks like one of `torch.save`.
pub(super) fn is_torch(start: &[u8]) -> bool {
    // A pickle of protocol 2 or later starts with the protocol, and the magic number is a long integer.
    start.starts_with(b"PK\x03\x04")
        || matches!(start, [0x80, 2..=5, 0x8a, 10, ..])
        || matches!(start, [0x80, 4..=5, 0x95, ..])
}

impl TorchFile {
    /// Reads the pickle of a file.
    ///
    /// # Errors
    /// `Format` when the file is damaged, or contains something else than tensors.
    pub fn open(mut file: File, size: u64, start: &[u8]) -> Result<Self> {
        let (pickle, storages) =
            if start.starts_with(b"PK") { read_zip(&mut file, size)? } else { read_legacy(&mut file, size)? };
        let (stored, sources) = tensors(&pickle)?;
        Ok(TorchFile { file, storages, stored, sources })
    }
}

impl TensorFile for TorchFile {
    fn stored(&self) -> &[StoredTensor] {
        &self.stored
    }

    fn bytes(&mut self, index: usize) -> Result<Vec<u8>> {
        let tensor = match &self.sources[index] {
            Source::Number(number) => return Ok(number.to_le_bytes().to_vec()),
            Source::Tensor(tensor) => tensor,
        };
        let element = tensor.element.size();
        let elements = tensor.shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        let total = elements.and_then(|elements| elements.checked_mul(element));
        let total = total.ok_or_else(|| Error::format("the number of its elements overflows"))?;
        if total == 0 {
            return Ok(Vec::new());
        }
        let &(position, length) = self
            .storages
            .get(&tensor.storage.key)
            .ok_or_else(|| Error::format(format!("the file has no storage {}", tensor.storage.key)))?;
        // Counted from the first element of the tensor.
        let last = tensor.shape.iter().zip(&tensor.strides).try_fold(0u64, |sum, (extent, stride)| {
            (*extent as u64 - 1).checked_mul(*stride).and_then(|step| sum.checked_add(step))
        });
        let end = last
            .and_then(|last| last.checked_add(tensor.offset)?.checked_add(1)?.checked_mul(element as u64))
            .filter(|end| *end <= length);
        let (Some(last), Some(_)) = (last, end) else {
            return Err(Error::format(format!(
                "its elements are outside of the storage {}, which has {length} bytes",
                tensor.storage.key
            )));
        };
        let mut all = try_vec((last as usize + 1) * element, "its elements")?;
        self.file
            .seek(SeekFrom::Start(position + tensor.offset * element as u64))
            .and_then(|_| self.file.read_exact(&mut all))
            .map_err(|e| Error::io("cannot read its elements", e))?;
        gather(&all, tensor, element, total)
    }
}

/// Returns the elements of a tensor in row-major order; `all` starts with its first element.
fn gather(all: &[u8], tensor: &StridedTensor, element: usize, total: usize) -> Result<Vec<u8>> {
    let mut expected = 1;
    let is_contiguous = tensor.shape.iter().zip(&tensor.strides).rev().all(|(extent, stride)| {
        let fits = *extent == 1 || *stride == expected;
        expected *= *extent as u64;
        fits
    });
    if is_contiguous {
        return try_collect(total, all.iter().copied(), "its elements");
    }
    let mut bytes = try_with_capacity(total, "its elements")?;
    let mut index = vec![0usize; tensor.shape.len()];
    let mut at = 0u64;
    while bytes.len() < total {
        let start = at as usize * element;
        bytes.extend_from_slice(&all[start..start + element]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            at += tensor.strides[axis];
            if index[axis] < tensor.shape[axis] {
                break;
            }
            at -= tensor.strides[axis] * tensor.shape[axis] as u64;
            index[axis] = 0;
        }
    }
    Ok(bytes)
}

type Contents = (Pickle, HashMap<String, (u64, u64)>);

fn read_zip(file: &mut File, size: u64) -> Result<Contents> {
    let invalid = |e| Error::format("not a file of torch.save: its zip archive is damaged").with_source(e);
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(invalid)?;
    let names: Vec<String> = archive.file_names().map(String::from).collect();
    let find =
        |end: &str| names.iter().find(|name| name.split_once('/').is_some_and(|(_, rest)| rest == end));
    if find("constants.pkl").is_some() || names.iter().any(|name| name.contains("/code/")) {
        return Err(Error::format(
            "it is a TorchScript module; save its weights with torch.save(module.state_dict(), FILE)",
        ));
    }
    let Some(pickle) = find("data.pkl") else {
        return Err(Error::format("not a file of torch.save: the zip archive has no data.pkl"));
    };
    let prefix = pickle.trim_end_matches("data.pkl").to_string();
    let mut entry = |name: &str| -> Result<(u64, u64)> {
        let entry = archive.by_name(name).map_err(invalid)?;
        let (position, length) = (entry.data_start(), entry.size());
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(Error::format(format!(
                "{name} is compressed or encrypted, which torch.save does not do"
            )));
        }
        if position.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::format(format!(
                "{name} ends after the end of the file: it is truncated or damaged"
            )));
        }
        Ok((position, length))
    };
    let (pickle_position, pickle_length) = entry(pickle)?;
    let byte_order = find("byteorder").map(|name| entry(name)).transpose()?;
    let data = format!("{prefix}data/");
    let mut storages = HashMap::new();
    for name in names.iter().filter(|name| name.starts_with(&data)) {
        storages.insert(name[data.len()..].to_string(), entry(name)?);
    }
    let mut file = archive.into_inner();
    let mut read = |(position, length): (u64, u64)| -> Result<Vec<u8>> {
        let mut bytes = try_vec(length as usize, "the pickle")?;
        file.seek(SeekFrom::Start(position))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::io("cannot read the pickle", e))?;
        Ok(bytes)
    };
    if let Some(byte_order) = byte_order
        && read(byte_order)? != b"little"
    {
        return Err(Error::format("the elements are not little-endian; load and save the file with PyTorch"));
    }
    let bytes = read((pickle_position, pickle_length))?;
    let (pickle, _) = Pickle::read(&mut Cursor::new(&bytes), bytes.len() as u64)?;
    Ok((pickle, storages))
}

fn read_legacy(file: &mut File, size: u64) -> Result<Contents> {
    let cannot_read = |e| Error::io("cannot read the file", e);
    file.seek(SeekFrom::Start(0)).map_err(cannot_read)?;
    let mut input = BufReader::new(file);
    let mut left = size;
    let mut next = || -> Result<(Pickle, u64)> {
        let (pickle, used) = Pickle::read(&mut input, left)?;
        left -= used;
        Ok((pickle, left))
    };
    let (magic, _) = next()?;
    if !matches!(magic.root(), Value::Int(MAGIC)) {
        return Err(Error::format("not a file of torch.save: a pickle of something else"));
    }
    next()?;
    next()?;
    let (object, _) = next()?;
    let (keys, left) = next()?;
    // The element types of the storages are where the object refers to them.
    let mut types: HashMap<&str, (Option<ElementType>, u64)> = HashMap::new();
    object.storages(|storage| {
        types.insert(&storage.key, (storage.element, storage.length));
    });
    let Value::Sequence(keys_of) = keys.root() else {
        return Err(Error::format("the list of storages is missing: the file is damaged"));
    };
    let mut position = size - left;
    let mut storages = HashMap::new();
    for id in keys_of {
        let Value::Text(key) = keys.get(*id) else {
            return Err(Error::format("the key of a storage is not a text: the file is damaged"));
        };
        let truncated = || Error::format(format!("the storage {key} is truncated or damaged"));
        let mut count = [0; 8];
        input.seek(SeekFrom::Start(position)).map_err(cannot_read)?;
        input.read_exact(&mut count).map_err(|_| truncated())?;
        let Some(&(element, length)) = types.get(key.as_str()) else {
            return Err(Error::format(format!(
                "the storage {key} belongs to no tensor: the file is damaged"
            )));
        };
        let count = u64::from_le_bytes(count);
        let bytes =
            count.checked_mul(element.map_or(1, ElementType::size) as u64).filter(|_| count == length);
        let end =
            bytes.and_then(|bytes| position.checked_add(8)?.checked_add(bytes)).filter(|end| *end <= size);
        let (Some(bytes), Some(end)) = (bytes, end) else { return Err(truncated()) };
        storages.insert(key.clone(), (position + 8, bytes));
        position = end;
    }
    Ok((object, storages))
}

/// Returns the tensors of the `state_dict` in a pickled object.
fn tensors(pickle: &Pickle) -> Result<(Vec<StoredTensor>, Vec<Source>)> {
    let mut value = pickle.root();
    // A `state_dict` may be within an object, but not at any depth: the object may contain itself.
    for _ in 0..4 {
        let Value::Dict(entries) = value else {
            return Err(Error::format(
                "the file holds no state_dict; save one with torch.save(net.state_dict(), FILE)",
            ));
        };
        let named = |name: &str| {
            let is_named =
                |(key, _): &&(usize, usize)| matches!(pickle.get(*key), Value::Text(key) if key == name);
            entries.iter().find(is_named).map(|(_, value)| pickle.get(*value))
        };
        let has_tensors = entries.iter().any(|(_, value)| matches!(pickle.get(*value), Value::Tensor(_)));
        let nested =
            NESTED.iter().find_map(|name| named(name).filter(|value| matches!(value, Value::Dict(_))));
        match nested {
            Some(nested) => value = nested,
            None if has_tensors || entries.is_empty() => return Ok(entries_of(pickle, entries)),
            None => {
                let keys: Vec<&str> = entries
                    .iter()
                    .filter_map(|(key, _)| match pickle.get(*key) {
                        Value::Text(key) => Some(key.as_str()),
                        _ => None,
                    })
                    .take(8)
                    .collect();
                return Err(Error::format(format!(
                    "the file holds no tensors, but {}; a state_dict is expected there or under {}",
                    keys.join(", "),
                    NESTED.join(", ")
                )));
            }
        }
    }
    Err(Error::format("the state_dict is nested too deeply"))
}

fn entries_of(pickle: &Pickle, entries: &[(usize, usize)]) -> (Vec<StoredTensor>, Vec<Source>) {
    let mut stored: Vec<StoredTensor> = Vec::new();
    let mut sources = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for (key, value) in entries {
        let Value::Text(name) = pickle.get(*key) else { continue };
        let (element, shape, source) = match pickle.get(*value) {
            Value::Tensor(tensor) => (tensor.element, tensor.shape.clone(), Source::Tensor(tensor.clone())),
            Value::Int(number) => (ElementType::F64, Vec::new(), Source::Number(*number as f64)),
            Value::Float(number) => (ElementType::F64, Vec::new(), Source::Number(*number)),
            _ => continue,
        };
        let tensor = StoredTensor { name: name.clone(), element, shape };
        // The last value of a key counts, as in a dictionary.
        match positions.get(name.as_str()) {
            Some(&position) => {
                stored[position] = tensor;
                sources[position] = source;
            }
            None => {
                positions.insert(name, stored.len());
                stored.push(tensor);
                sources.push(source);
            }
        }
    }
    (stored, sources)
}
