//! The parameters of a network as a safetensors file, exchanged with PyTorch.
//!
//! The file holds what PyTorch's `state_dict` holds, under the same names: what
//! `safetensors.torch.save_file(net.state_dict(), "net.safetensors")` has written is loaded here, and what [`save`] has
//! written is loaded there by `net.load_state_dict(load_file("net.safetensors"), strict=True)`. Buffers that are not
//! persistent are no part of it.
//!
//! ```text
//! | length of the header | header: JSON with type, shape and place of each tensor | numbers |
//!   u64 little-endian
//! ```
//!
//! Nothing in a header is believed before it fits the file. A file is read and checked as a whole before anything of
//! the network changes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use neocog_autograd::Param;
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::layer::{Counter, Layer};
use crate::state::{self, Difference, Entry};
use neocog_base::file::replace;

/// What was loaded of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The names of the tensors that were loaded, in the network's order.
    pub loaded: Vec<String>,
    /// What was not, and why: missing in the file, not in the network, or of another shape. Empty unless it was loaded in
    /// part.
    pub skipped: Vec<Difference>,
}

/// Writes the parameters, persistent buffers and counters of `network` to `path`, in place of what is there, in single
/// precision.
///
/// # Errors
/// When the file cannot be written (then the one that was there is as it was), or the device fails.
pub fn save(network: &dyn Layer, path: &Path) -> Result<()> {
    let place = || path.display().to_string();
    let mut entries = state::state_dict(network);
    // As the format wants it: the types of the largest numbers first, so that all lie aligned; then by name.
    entries.sort_by(|(a, x), (b, y)| dtype_of(y).cmp(&dtype_of(x)).then(a.cmp(b)));
    let header = header_of(&entries).context(place)?;
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
                    return Err(io::Error::other("a tensor could not be read"));
                }
            }
        }
        out.flush()
    });
    failed?;
    written.map_err(|e| {
        let kept = if path.exists() { "; the file that is there is kept as it was" } else { "" };
        Error::io(format!("cannot write the weights to {}{kept}", path.display()), e)
    })
}

/// Gives `network` the parameters, persistent buffers and counters of the file at `path`. Numbers of the types F64,
/// F32, F16 and BF16 are converted to what the network's device holds.
///
/// # Errors
/// `Io` when the file cannot be read; `Format` when it is no safetensors file, truncated or damaged; `Shape` when it does
/// not fit the network: the message lists all tensors that are missing, too much, of another shape or type, or hold
/// numbers that are not finite. Then nothing was changed.
pub fn load(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let found = find(network, path)?;
    if !found.skipped.is_empty() {
        return Err(Error::shape(format!("the weights do not fit the network:{}", listed(&found.skipped))))
            .context(|| path.display().to_string());
    }
    found.apply().context(|| path.display().to_string())
}

/// As [`load`], but loads what fits, and tells what did not.
///
/// # Errors
/// As [`load`], and when nothing fits; then nothing was changed.
pub fn load_partial(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let found = find(network, path)?;
    if found.values.is_empty() && !found.skipped.is_empty() {
        return Err(Error::shape(format!("nothing of it fits the network:{}", listed(&found.skipped))))
            .context(|| path.display().to_string());
    }
    found.apply().context(|| path.display().to_string())
}

fn listed(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("\n  {difference}")).collect()
}

fn dtype_of(entry: &Entry<'_>) -> Dtype {
    if let Entry::Counter(_) = entry { Dtype::I64 } else { Dtype::F32 }
}

/// The header, filled up with blanks to a multiple of eight.
fn header_of(entries: &[(String, Entry<'_>)]) -> Result<Vec<u8>> {
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
    let cannot = |e: String| Error::format(format!("cannot describe the weights: {e}"));
    let metadata = Metadata::new(None, infos).map_err(|e| cannot(e.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| cannot(e.to_string()))?;
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

/// What a file holds for a network.
struct Found<'a> {
    values: Vec<(String, Value<'a>)>,
    skipped: Vec<Difference>,
}

/// A new value, with where it goes.
enum Value<'a> {
    Tensor(&'a Param, Tensor),
    Count(&'a Counter, u64),
}

impl Found<'_> {
    fn apply(self) -> Result<Loaded> {
        let mut loaded = Vec::with_capacity(self.values.len());
        for (name, value) in self.values {
            match value {
                Value::Tensor(param, tensor) => param.set(&tensor).context(|| name.as_str())?,
                Value::Count(counter, count) => counter.set(count),
            }
            loaded.push(name);
        }
        Ok(Loaded { loaded, skipped: self.skipped })
    }
}

/// Reads all that fits the network, and finds all that does not.
fn find<'a>(network: &'a dyn Layer, path: &Path) -> Result<Found<'a>> {
    let mut source = Source::open(path)?;
    source.find(network).context(|| path.display().to_string())
}

/// An open file with a header that fits it.
struct Source {
    file: File,
    /// Where the numbers begin.
    data: u64,
    header: Metadata,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot read the weights {}", path.display()), e);
        let place = || path.display().to_string();
        let about = fs::metadata(path).map_err(cannot)?;
        if !about.is_file() {
            return Err(no_safetensors("it is no file with contents")).context(place);
        }
        let mut file = File::open(path).map_err(cannot)?;
        let size = about.len();
        let mut length = [0; 8];
        if size < 8 {
            let why = format!("it has {size} bytes, the length of the header alone has 8");
            return Err(no_safetensors(&why)).context(place);
        }
        file.read_exact(&mut length).map_err(cannot)?;
        let rest = size - 8;
        let length = header_length(length, rest).context(place)?;
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(cannot)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| no_safetensors("its header is not right").with_source(e))
            .context(place)?;
        let (described, there) = (header.data_len() as u64, rest - length as u64);
        if described != there {
            let what =
                if described > there { "it is truncated or damaged" } else { "something was added to it" };
            return Err(Error::format(format!(
                "the header describes {described} bytes of numbers, but {there} are there: {what}"
            )))
            .context(place);
        }
        Ok(Source { file, data: 8 + length as u64, header })
    }

    fn find<'a>(&mut self, network: &'a dyn Layer) -> Result<Found<'a>> {
        let entries = state::state_dict(network);
        let names = self.header.offset_keys();
        let stored: Vec<(&str, String)> =
            names.iter().filter_map(|n| Some((n.as_str(), described(self.header.info(n)?)))).collect();
        let mut skipped = state::differences(&stored, &entries)?;
        let mut values = Vec::new();
        for (name, entry) in entries {
            if skipped.iter().any(|difference| difference.name == name) {
                continue;
            }
            match self.value(&name, entry).context(|| name.as_str())? {
                Ok(value) => values.push((name, value)),
                Err(what) => skipped.push(Difference { name, what: what.to_string() }),
            }
        }
        Ok(Found { values, skipped })
    }

    /// The value of an entry that the header describes as the network has it; or why it cannot be used.
    fn value<'a>(&mut self, name: &str, entry: Entry<'a>) -> Result<Result<Value<'a>, &'static str>> {
        let (dtype, bytes) = self.bytes(name)?;
        let param = match entry {
            Entry::Counter(counter) => {
                let count = i64::from_le_bytes(array(&bytes));
                return Ok(u64::try_from(count)
                    .map(|count| Value::Count(counter, count))
                    .map_err(|_| "is a count below 0"));
            }
            Entry::Param(param) => param,
            Entry::Buffer(buffer) => buffer.value(),
        };
        let device = param.value().device();
        Ok(tensor(dtype, param.shape(), &bytes, &device)?.map(|tensor| Value::Tensor(param, tensor)))
    }

    fn bytes(&mut self, name: &str) -> Result<(Dtype, Vec<u8>)> {
        let info = self.header.info(name).ok_or_else(|| Error::format("it is not in the header"))?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::io("cannot read its numbers", e))?;
        Ok((info.dtype, bytes))
    }
}

/// Checks the length of the header against the bytes that follow, before it is believed.
fn header_length(bytes: [u8; 8], rest: u64) -> Result<usize> {
    /// As in the format's own library.
    const MOST: u64 = 100_000_000;
    let length = u64::from_le_bytes(bytes);
    match &bytes {
        b"NEOCOGCK" => Err(no_safetensors("it is a checkpoint of neocog")),
        [b'P', b'K', 3, 4, ..] => Err(no_safetensors(
            "it looks like a file of torch.save; write it with safetensors.torch.save_file(net.state_dict(), ...)",
        )),
        _ if length > rest => Err(no_safetensors(&format!(
            "its first bytes say that {length} bytes of header follow, but {rest} bytes do; it is something else, or truncated"
        ))),
        _ if length > MOST => {
            Err(no_safetensors(&format!("a header of {length} bytes is too long, {MOST} are allowed")))
        }
        _ => Ok(length as usize),
    }
}

fn no_safetensors(why: &str) -> Error {
    Error::format(format!("this is no safetensors file: {why}"))
}

/// What a stored tensor is, in the words of [`state::differences`].
fn described(info: &TensorInfo) -> String {
    match info.dtype {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => state::describe_tensor(&info.shape),
        Dtype::I64 if info.shape.is_empty() => state::COUNT.to_string(),
        other => format!("{} of {other}", state::describe_tensor(&info.shape)),
    }
}

/// A tensor of these numbers; or why it cannot be used.
fn tensor(dtype: Dtype, shape: Shape, bytes: &[u8], device: &Device) -> Result<Result<Tensor, &'static str>> {
    const NOT_FINITE: &str = "holds numbers that are not finite";
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

/// IEEE 754's half precision: a sign, five bits of exponent, ten of fraction. Single precision holds all of it.
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

/// The upper half of single precision.
fn bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// # Panics
/// When the length is another: it was checked.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
