//! The parameters of a network in files, exchanged with PyTorch.
//!
//! A file holds PyTorch's `state_dict`, with the same names: [`load`] reads what
//! `safetensors.torch.save_file(net.state_dict(), "net.safetensors")` or `torch.save(net.state_dict(), "net.pth")` writes, and
//! `net.load_state_dict(load_file("net.safetensors"), strict=True)` reads what [`save`] writes. Buffers that are not
//! persistent are not part of it.
//!
//! Of a file of `torch.save`, tensors are read and nothing else: it cannot run code. A `state_dict` may be in a dictionary under
//! `state_dict`, `model_state_dict` or `model`, and its names may start with `module.`, `_orig_mod.` or `model.`, as those of
//! `DataParallel`, `torch.compile` and Lightning do. The number of batches of a batch norm may be missing, or be a
//! floating-point number. Auxiliary heads, which torchvision's GoogLeNet and Inception have for training, are left out of a network
//! without them; see [`Loaded::auxiliary_keys`].
//!
//! All tensors are read and checked before the network is changed.

mod element;
mod names;
mod pickle;
mod safetensors_file;
mod stored;
mod torch_file;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use neocog_autograd::Param;
use neocog_base::fault::FaultWriter;
use neocog_base::file::{open_input, replace};
use neocog_base::memory::try_collect;
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use self::element::ElementType;
use self::safetensors_file::SafetensorsFile;
use self::stored::{StoredTensor, TensorFile};
use self::torch_file::TorchFile;
use crate::layer::{Counter, Layer};
use crate::state::{self, Difference, DifferenceKind, Entry};

/// The result of loading a file.
///
/// As what PyTorch's `load_state_dict` returns. After [`load`], all lists but `loaded` and `auxiliary_keys` are empty.
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
    /// Names of the tensors of auxiliary heads in the file, of a network that has none: those under `aux`, `aux1`, `aux2`, `AuxLogits` and
    /// `aux_classifier`, torchvision's names. They take part in training only.
    pub auxiliary_keys: Vec<String>,
    differences: Vec<Difference>,
}

/// The names of auxiliary heads in torchvision's networks.
const AUXILIARY_HEADS: [&str; 5] = ["aux", "aux1", "aux2", "AuxLogits", "aux_classifier"];

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
            auxiliary_keys: Vec::new(),
            differences,
        }
    }

    /// A sentence for people about [`auxiliary_keys`](Self::auxiliary_keys), if there are any.
    pub fn auxiliary_note(&self) -> Option<String> {
        let tensors = self.auxiliary_keys.len();
        (tensors > 0).then(|| {
            format!("left out: {tensors} tensors of auxiliary heads, which the network does not have")
        })
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
        let mut out = BufWriter::with_capacity(1 << 16, FaultWriter(file));
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

/// Reads the metadata of the file at `path`: texts by name; none if it has none, as files of `torch.save`.
///
/// # Errors
/// `Io` when the file cannot be read; `Format` as [`load`].
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(open(path)?.metadata())
}

/// Loads the parameters, persistent buffers and counters of the file at `path` into `network`. Tensors of the types F64, F32,
/// F16 and BF16 are converted to the type of the network's device.
///
/// # Errors
/// `Io` when the file cannot be read; `Format` when it is neither a safetensors file nor one of `torch.save`, truncated or damaged;
/// `Shape` when it does not match the network: the message has the tensors that are missing, unexpected, of another shape or
/// type, or not finite, the first of each if there are many. The network is not changed then.
pub fn load(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let matched = read_matching(network, path)?;
    if !matched.differences.is_empty() {
        return Err(mismatch(&matched.differences)).context(|| path.display().to_string());
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

/// Loads all tensors but those of the head, the last layer, if that has another number of classes: then its tensors differ in their
/// first extent only, and are listed in [`Loaded::mismatched_shapes`]. For fine-tuning.
///
/// # Errors
/// As [`load`]; the head is no error.
pub fn load_except_head(network: &dyn Layer, path: &Path) -> Result<Loaded> {
    let location = || path.display().to_string();
    let matched = read_matching(network, path)?;
    let head = state::head(network);
    let (of_head, others): (Vec<Difference>, Vec<Difference>) =
        matched.differences.iter().cloned().partition(|difference| {
            let is_of_head = head.as_ref().is_some_and(|head| {
                difference.name.strip_prefix(head.as_str()).is_some_and(|rest| rest.starts_with('.'))
            });
            is_of_head && difference.is_other_shape()
        });
    if !others.is_empty() {
        return Err(mismatch(&others)).context(location);
    }
    let loaded = matched.apply().context(location)?;
    Ok(Loaded { auxiliary_keys: loaded.auxiliary_keys, ..Loaded::new(loaded.loaded, of_head) })
}

fn mismatch(differences: &[Difference]) -> Error {
    Error::shape(format!("the weights do not match the network:{}", list(differences)))
}

type IsOfKind = fn(&Difference) -> bool;

/// Lists differences: all if they are few, or else the first of each kind and their numbers.
fn list(differences: &[Difference]) -> String {
    const MOST: usize = 12;
    const OF_A_KIND: usize = 3;
    let line = |difference: &Difference| format!("\n  {difference}");
    if differences.len() <= MOST {
        return differences.iter().map(line).collect();
    }
    let kinds: [(&str, IsOfKind); 3] = [
        ("missing in the file", |difference| difference.kind == DifferenceKind::Missing),
        ("not in the network", |difference| difference.kind == DifferenceKind::Unexpected),
        ("different", |difference| {
            !matches!(difference.kind, DifferenceKind::Missing | DifferenceKind::Unexpected)
        }),
    ];
    let mut text = String::new();
    for (name, is_of_kind) in kinds {
        let all: Vec<&Difference> = differences.iter().filter(|difference| is_of_kind(difference)).collect();
        text.extend(all.iter().take(OF_A_KIND).map(|difference| line(difference)));
        if all.len() > OF_A_KIND {
            text += &format!("\n  and {} more that are {name}", all.len() - OF_A_KIND);
        }
    }
    text
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
    let values = param.value().to_f32()?;
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    try_collect(values.len() * size_of::<f32>(), bytes, "its elements")
}

/// The values of a file for a network.
struct Matched<'a> {
    values: Vec<(String, Value<'a>)>,
    differences: Vec<Difference>,
    /// Names of tensors of auxiliary heads.
    auxiliary: Vec<String>,
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
        Ok(Loaded { auxiliary_keys: self.auxiliary, ..Loaded::new(loaded, self.differences) })
    }
}

/// Opens a file of tensors, of the format that its first bytes tell.
fn open(path: &Path) -> Result<Box<dyn TensorFile>> {
    let cannot_read = |e| Error::io(format!("cannot read the weights {}", path.display()), e);
    let location = || path.display().to_string();
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(Error::format("not a file of weights: it is not a regular file")).context(location);
    }
    let mut file = open_input(path).map_err(cannot_read)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(16).read_to_end(&mut start).map_err(cannot_read)?;
    let size = metadata.len();
    if size == 0 {
        return Err(Error::format("not a file of weights: it has 0 bytes")).context(location);
    }
    Ok(if torch_file::is_torch(&start) {
        Box::new(TorchFile::open(file, size, &start).context(location)?)
    } else {
        Box::new(SafetensorsFile::open(file, size).context(location)?)
    })
}

/// Reads the tensors that match the network, and collects the differences.
fn read_matching<'a>(network: &'a dyn Layer, path: &Path) -> Result<Matched<'a>> {
    let mut file = open(path)?;
    match_tensors(network, &mut *file).context(|| path.display().to_string())
}

fn match_tensors<'a>(network: &'a dyn Layer, file: &mut dyn TensorFile) -> Result<Matched<'a>> {
    let entries = state::state_dict(network);
    let names = names::of_network(file.stored(), &entries);
    let counters: HashSet<&str> = entries
        .iter()
        .filter(|(_, e)| matches!(e, Entry::Counter(_)))
        .map(|(name, _)| name.as_str())
        .collect();
    let stored: Vec<(&str, String)> = names
        .iter()
        .zip(file.stored())
        .map(|(name, tensor)| (name.as_str(), describe(tensor, counters.contains(name.as_str()))))
        .collect();
    let mut differences = state::differences(&stored, &entries)?;
    // As PyTorch's strict=True: files that older versions wrote have no counters of batches.
    differences.retain(|difference| {
        !(counters.contains(difference.name.as_str()) && difference.kind == DifferenceKind::Missing)
    });
    let (auxiliary, mut differences): (Vec<Difference>, Vec<Difference>) =
        differences.into_iter().partition(is_of_auxiliary_head);
    let auxiliary = auxiliary.into_iter().map(|difference| difference.name).collect();
    let positions: HashMap<&str, usize> =
        names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let different: HashSet<&str> = differences.iter().map(|difference| difference.name.as_str()).collect();
    let mut values = Vec::new();
    let mut unusable = Vec::new();
    for (name, entry) in entries {
        let Some(&index) = positions.get(name.as_str()) else { continue };
        if different.contains(name.as_str()) {
            continue;
        }
        let element = file.stored()[index].element;
        let bytes = file.bytes(index).context(|| name.as_str())?;
        match value(element, &bytes, entry).context(|| name.as_str())? {
            Ok(value) => values.push((name, value)),
            Err(what) => {
                unusable.push(Difference { name, kind: DifferenceKind::Value, what: what.to_string() })
            }
        }
    }
    differences.extend(unusable);
    Ok(Matched { values, differences, auxiliary })
}

fn is_of_auxiliary_head(difference: &Difference) -> bool {
    let head = difference.name.split('.').next().unwrap_or_default();
    difference.kind == DifferenceKind::Unexpected && AUXILIARY_HEADS.contains(&head)
}

/// Converts the elements for an entry whose description matches the network; the inner error is why they cannot be used.
fn value<'a>(
    element: ElementType,
    bytes: &[u8],
    entry: Entry<'a>,
) -> Result<Result<Value<'a>, &'static str>> {
    let param = match entry {
        Entry::Counter(counter) => {
            return Ok(count(element, bytes).map(|count| Value::Count(counter, count)));
        }
        Entry::Param(param) => param,
        Entry::Buffer(buffer) => buffer.value(),
    };
    let device = param.value().device();
    Ok(tensor(element, param.shape(), bytes, &device)?.map(|tensor| Value::Tensor(param, tensor)))
}

/// Converts the number that a counter is stored as; the error is why it cannot be used.
fn count(element: ElementType, bytes: &[u8]) -> Result<u64, &'static str> {
    const NEGATIVE: &str = "is a negative count";
    if let (ElementType::I64, Ok(bytes)) = (element, bytes.try_into()) {
        return u64::try_from(i64::from_le_bytes(bytes)).map_err(|_| NEGATIVE);
    }
    match element.number(bytes) {
        Some(number) if number < 0.0 => Err(NEGATIVE),
        Some(number) if number.fract() == 0.0 => Ok(number as u64),
        _ => Err("is not a count"),
    }
}

/// Returns the description of a stored tensor for [`state::differences`]. A counter may be stored as any number.
fn describe(tensor: &StoredTensor, is_counter: bool) -> String {
    let is_scalar = tensor.shape.is_empty() || is_counter && tensor.shape == [1];
    let is_number = !matches!(tensor.element, ElementType::Other(_));
    if is_scalar && is_number && (is_counter || !tensor.element.is_float()) {
        return state::COUNT.to_string();
    }
    match tensor.element {
        element if element.is_float() => state::describe_tensor(&tensor.shape),
        other => format!("{} of {other}", state::describe_tensor(&tensor.shape)),
    }
}

/// Creates a tensor; the inner error is why it cannot be used.
fn tensor(
    element: ElementType,
    shape: Shape,
    bytes: &[u8],
    device: &Device,
) -> Result<Result<Tensor, &'static str>> {
    const NOT_FINITE: &str = "has elements that are not finite";
    const ELEMENTS: &str = "its elements";
    let chunks = bytes.chunks_exact(element.size());
    let len = chunks.len();
    if element == ElementType::F64 {
        let values = try_collect(len, chunks.filter_map(|b| element.number(b)), ELEMENTS)?;
        let single = *device != Device::Reference;
        if values.iter().any(|v| !v.is_finite() || single && !(*v as f32).is_finite()) {
            return Ok(Err(NOT_FINITE));
        }
        return Tensor::from_f64(shape, &values, device).map(Ok);
    }
    let values = try_collect(len, chunks.map(|b| element.single(b)), ELEMENTS)?;
    if values.iter().any(|v| !v.is_finite()) {
        return Ok(Err(NOT_FINITE));
    }
    Tensor::from_f32(shape, &values, device).map(Ok)
}
