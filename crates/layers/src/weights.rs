//! The parameters of a network in safetensors files, exchanged with PyTorch.
//!
//! A file holds PyTorch's `state_dict`, with the same names: [`load`] reads what
//! `safetensors.torch.save_file(net.state_dict(), "net.safetensors")` writes, and
//! `net.load_state_dict(load_file("net.safetensors"), strict=True)` reads what [`save`] writes. Buffers that are not
//! persistent are not part of it.
//!
//! ```text
//! | length of the header | header: JSON with type, shape and offsets of each tensor | elements |
//!   u64 little-endian
//! ```
//!
//! The header is validated against the size of the file. The whole file is read and checked before the network is changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use neocog_autograd::Param;
use neocog_base::file::replace;
use neocog_base::text::count;
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::layer::{Counter, Layer};
use crate::state::{self, Difference, DifferenceKind, Entry};

/// The result of loading a file.
///
/// As what PyTorch's `load_state_dict` returns. After [`load`], all lists but `loaded` are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Names of the loaded tensors, in the order of the network.
    pub loaded: Vec<String>,
    /// Names of the tensors of the network that are not in the file.
    pub missing_keys: Vec<String>,
    /// Names of the tensors of the file that are not in the network.
    pub unexpected_keys: Vec<String>,
    /// Names of the tensors that have another shape in the file, or another type.
    pub mismatched_shapes: Vec<String>,
    /// Names of the tensors whose values in the file cannot be used, such as NaN.
    pub invalid_values: Vec<String>,
    differences: Vec<Difference>,
}

impl Loaded {
    fn new(loaded: Vec<String>, differences: Vec<Difference>) -> Self {
        let names = |kind| {
            let of_kind = differences.iter().filter(|difference| difference.kind == kind);
            of_kind.map(|difference| difference.name.clone()).collect()
        };
        Loaded {
            loaded,
            missing_keys: names(DifferenceKind::Missing),
            unexpected_keys: names(DifferenceKind::Unexpected),
            mismatched_shapes: names(DifferenceKind::Shape),
            invalid_values: names(DifferenceKind::Value),
            differences,
        }
    }

    /// All tensors that were not loaded, with the reasons: in the order of the network, followed by unexpected ones and those
    /// with values that cannot be used.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }
}

/// Writes the parameters, persistent buffers and counters of `network` to `path` in single precision, replacing an existing
/// file.
///
/// # Errors
/// `Io` when the file cannot be written; when the device fails. An existing file is not changed then.
pub fn save(network: &dyn Layer, path: &Path) -> Result<()> {
    save_with_metadata(network, path, &BTreeMap::new())
}

/// As [`save`], with metadata: texts by name, which PyTorch ignores.
///
/// # Errors
/// As [`save`].
pub fn save_with_metadata(
    network: &dyn Layer,
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let location = || path.display().to_string();
    let mut entries = state::state_dict(network);
    // The order of the format: larger types first, so that all tensors are aligned; then by name.
    entries.sort_by(|(a, x), (b, y)| dtype_of(y).cmp(&dtype_of(x)).then(a.cmp(b)));
    let header = header_of(&entries, metadata).context(location)?;
    let mut failed = Ok(());
    let written = replace(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for (name, entry) in &entries {
            match bytes_of(entry) {
                Ok(bytes) => out.write_all(&bytes)?,
                Err(e) => {
                    failed = Err(e.context(name.as_str()));
                    return Err(io::Error::other("cannot read a tensor"));
                }
            }
        }
        out.flush()
    });
    failed?;
    written.map_err(|e| {
        let kept = if path.exists() { "; the existing file was not changed" } else { "" };
        Error::io(format!("cannot write the weights to {}{kept}", path.display()), e)
    })
}

/// Reads the metadata of the file at `path`: texts by name; none if it has none.
///
/// # Errors
/// `Io` when the file cannot be read; `Format` when it is not a safetensors file, truncated or damaged.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let file = WeightFile::open(path)?;
    Ok(file.header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Loads the parameters, persistent buffers and counters of the file at `path` into `network`. Tensors of the types F64, F32,
/// F16 and BF16 are converted to the type of the network's device.
///
/// # Errors
/// `Io` when the file cannot be read; `Format` when it is not a safetensors file, truncated or damaged; `Shape` when it does not
/// match the network: the message lists all tensors that are missing, unexpected, of another shape or type, or not finite. The
/// network is not changed then.
pub fn load(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let matched = read_matching(network, path)?;
    if !matched.differences.is_empty() {
        return Err(Error::shape(format!(
            "the weights do not match the network:{}",
            list(&matched.differences)
        )))
        .context(|| path.display().to_string());
    }
    matched.apply().context(|| path.display().to_string())
}

/// Loads the tensors that match, and lists the others in [`Loaded`] (PyTorch's `strict=False`).
///
/// # Errors
/// As [`load`], but tensors that do not match are an error only if none matches. The network is not changed then.
pub fn load_partial(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let matched = read_matching(network, path)?;
    if matched.values.is_empty() && !matched.differences.is_empty() {
        return Err(Error::shape(format!(
            "no tensor of it matches the network:{}",
            list(&matched.differences)
        )))
        .context(|| path.display().to_string());
    }
    matched.apply().context(|| path.display().to_string())
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("\n  {difference}")).collect()
}

fn dtype_of(entry: &Entry<'_>) -> Dtype {
    if let Entry::Counter(_) = entry { Dtype::I64 } else { Dtype::F32 }
}

/// Returns the header, padded with spaces to a multiple of eight bytes.
fn header_of(entries: &[(String, Entry<'_>)], texts: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let start = end;
        let dtype = dtype_of(entry);
        let shape = entry.tensor().map_or_else(Vec::new, |tensor| tensor.shape().to_vec());
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        infos.push((name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) }));
    }
    state::check_names(entries)?;
    let cannot = |e: String| Error::format(format!("cannot write the header of the weights: {e}"));
    let metadata = Metadata::new(None, infos).map_err(|e| cannot(e.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| cannot(e.to_string()))?;
    if !texts.is_empty() {
        // Written here, in the order of the names: the library's map has none, and files must be the same each time.
        let texts = serde_json::to_vec(texts).map_err(|e| cannot(e.to_string()))?;
        let separator: &[u8] = if entries.is_empty() { b"" } else { b"," };
        header.splice(1..1, [b"\"__metadata__\":", texts.as_slice(), separator].concat());
    }
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn bytes_of(entry: &Entry<'_>) -> Result<Vec<u8>> {
    match entry {
        Entry::Counter(counter) => Ok((counter.get().min(i64::MAX as u64) as i64).to_le_bytes().to_vec()),
        Entry::Param(param) => floats(param),
        Entry::Buffer(buffer) => floats(buffer.value()),
    }
}

fn floats(param: &Param) -> Result<Vec<u8>> {
    Ok(param.value().to_f32()?.into_iter().flat_map(f32::to_le_bytes).collect())
}

/// The values of a file for a network.
struct Matched<'a> {
    values: Vec<(String, Value<'a>)>,
    differences: Vec<Difference>,
}

/// A value and where it is loaded to.
enum Value<'a> {
    Tensor(&'a Param, Tensor),
    Count(&'a Counter, u64),
}

impl Matched<'_> {
    fn apply(self) -> Result<Loaded> {
        let mut loaded = Vec::with_capacity(self.values.len());
        for (name, value) in self.values {
            match value {
                Value::Tensor(param, tensor) => param.set(&tensor).context(|| name.as_str())?,
                Value::Count(counter, count) => counter.set(count),
            }
            loaded.push(name);
        }
        Ok(Loaded::new(loaded, self.differences))
    }
}

/// Reads the tensors that match the network, and collects the differences.
fn read_matching<'a>(network: &'a dyn Layer, path: &Path) -> Result<Matched<'a>> {
    let mut file = WeightFile::open(path)?;
    file.read_matching(network).context(|| path.display().to_string())
}

/// An open file with its validated header.
struct WeightFile {
    file: File,
    /// Offset of the elements.
    data: u64,
    header: Metadata,
}

impl WeightFile {
    fn open(path: &Path) -> Result<Self> {
        let cannot_read = |e| Error::io(format!("cannot read the weights {}", path.display()), e);
        let location = || path.display().to_string();
        let metadata = fs::metadata(path).map_err(cannot_read)?;
        if !metadata.is_file() {
            return Err(not_safetensors("it is not a regular file")).context(location);
        }
        let mut file = File::open(path).map_err(cannot_read)?;
        let size = metadata.len();
        let mut length = [0; 8];
        if size < 8 {
            let why = format!("it has {}, less than the length of the header (8 bytes)", count(size, "byte"));
            return Err(not_safetensors(&why)).context(location);
        }
        file.read_exact(&mut length).map_err(cannot_read)?;
        let rest = size - 8;
        let length = header_length(length, rest).context(location)?;
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(cannot_read)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| not_safetensors("its header is invalid").with_source(e))
            .context(location)?;
        let (described, actual) = (header.data_len() as u64, rest - length as u64);
        if described != actual {
            let what = if described > actual { "it is truncated or damaged" } else { "data was appended" };
            return Err(Error::format(format!(
                "the header describes {described} bytes of elements, found {actual}: {what}"
            )))
            .context(location);
        }
        Ok(WeightFile { file, data: 8 + length as u64, header })
    }

    fn read_matching<'a>(&mut self, network: &'a dyn Layer) -> Result<Matched<'a>> {
        let entries = state::state_dict(network);
        let names = self.header.offset_keys();
        let stored: Vec<(&str, String)> =
            names.iter().filter_map(|n| Some((n.as_str(), describe(self.header.info(n)?)))).collect();
        let mut differences = state::differences(&stored, &entries)?;
        let mut values = Vec::new();
        for (name, entry) in entries {
            if differences.iter().any(|difference| difference.name == name) {
                continue;
            }
            match self.value(&name, entry).context(|| name.as_str())? {
                Ok(value) => values.push((name, value)),
                Err(what) => {
                    let (kind, what) = (DifferenceKind::Value, what.to_string());
                    differences.push(Difference { name, kind, what });
                }
            }
        }
        Ok(Matched { values, differences })
    }

    /// Reads the value of an entry whose description matches the network; the inner error is why it cannot be used.
    fn value<'a>(&mut self, name: &str, entry: Entry<'a>) -> Result<Result<Value<'a>, &'static str>> {
        let (dtype, bytes) = self.bytes(name)?;
        let param = match entry {
            Entry::Counter(counter) => {
                let count = i64::from_le_bytes(array(&bytes));
                return Ok(u64::try_from(count)
                    .map(|count| Value::Count(counter, count))
                    .map_err(|_| "is a negative count"));
            }
            Entry::Param(param) => param,
            Entry::Buffer(buffer) => buffer.value(),
        };
        let device = param.value().device();
        Ok(tensor(dtype, param.shape(), &bytes, &device)?.map(|tensor| Value::Tensor(param, tensor)))
    }

    fn bytes(&mut self, name: &str) -> Result<(Dtype, Vec<u8>)> {
        let info = self.header.info(name).ok_or_else(|| Error::format("not in the header"))?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::io("cannot read its elements", e))?;
        Ok((info.dtype, bytes))
    }
}

/// Validates the length of the header against the number of bytes that follow.
fn header_length(bytes: [u8; 8], rest: u64) -> Result<usize> {
    /// The limit of the safetensors library.
    const MAX_LENGTH: u64 = 100_000_000;
    let length = u64::from_le_bytes(bytes);
    match &bytes {
        b"NEOCOGCK" => Err(not_safetensors("it is a neocog checkpoint")),
        [b'P', b'K', 3, 4, ..] => Err(not_safetensors(
            "it looks like a file of torch.save; use safetensors.torch.save_file(net.state_dict(), ...) instead",
        )),
        _ if length > rest => Err(not_safetensors(&format!(
            "its first bytes specify a header of {}, but {} {} it has another format or is truncated",
            count(length, "byte"),
            count(rest, "byte"),
            if rest == 1 { "follows;" } else { "follow;" }
        ))),
        _ if length > MAX_LENGTH => {
            Err(not_safetensors(&format!("its header has {length} bytes, the maximum is {MAX_LENGTH}")))
        }
        _ => Ok(length as usize),
    }
}

fn not_safetensors(why: &str) -> Error {
    Error::format(format!("not a safetensors file: {why}"))
}

/// Returns the description of a stored tensor for [`state::differences`].
fn describe(info: &TensorInfo) -> String {
    match info.dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => state::describe_tensor(&info.shape),
        Dtype::I64 if info.shape.is_empty() => state::COUNT.to_string(),
        other => format!("{} of {other}", state::describe_tensor(&info.shape)),
    }
}

/// Creates a tensor; the inner error is why it cannot be used.
fn tensor(dtype: Dtype, shape: Shape, bytes: &[u8], device: &Device) -> Result<Result<Tensor, &'static str>> {
    const NOT_FINITE: &str = "has elements that are not finite";
    if dtype == Dtype::F64 {
        let values: Vec<f64> = bytes.chunks_exact(8).map(|b| f64::from_le_bytes(array(b))).collect();
        let single = *device != Device::Reference;
        if values.iter().any(|v| !v.is_finite() || single && !(*v as f32).is_finite()) {
            return Ok(Err(NOT_FINITE));
        }
        return Tensor::from_f64(shape, &values, device).map(Ok);
    }
    let values: Vec<f32> = match dtype {
        Dtype::F16 => bytes.chunks_exact(2).map(|b| half(u16::from_le_bytes(array(b)))).collect(),
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bfloat(u16::from_le_bytes(array(b)))).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(array(b))).collect(),
    };
    if values.iter().any(|v| !v.is_finite()) {
        return Ok(Err(NOT_FINITE));
    }
    Tensor::from_f32(shape, &values, device).map(Ok)
}

/// Converts IEEE 754 half precision (1 sign, 5 exponent and 10 fraction bits); the conversion is exact.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}

/// Converts bfloat16, the upper half of single precision.
fn bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Converts a slice of length `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
