//! Constants of a model: the elements of a `TensorProto`.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use neocog_base::file::open_input;
use neocog_base::memory::try_with_capacity;
use neocog_base::{Error, Result};
use neocog_tensor::{Device, Shape, Tensor};

use crate::element::{check_type, half_to_f32};
use crate::proto::{DataType, TensorProto};

/// Where elements are stored within the file, by `data_location`.
const EXTERNAL: i32 = 1;

/// Returns a constant with the type of its elements: single precision on [`Device::Cpu`], if these are its elements, else double
/// precision on [`Device::Reference`]. `folder` holds the external data.
///
/// # Errors
/// When the type is not supported, the number of elements is not that of the shape, or external data cannot be read.
pub(super) fn constant(proto: &TensorProto, folder: Option<&Path>) -> Result<(Tensor, DataType)> {
    let data_type = check_type(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    let external;
    let raw = if proto.data_location == EXTERNAL {
        external = external_data(proto, folder, shape.elements().saturating_mul(size_of_type(data_type)))?;
        Some(external.as_slice())
    } else {
        proto.raw_data.as_deref()
    };
    let tensor = match raw {
        Some(raw) => from_raw(shape, data_type, raw)?,
        None => from_fields(shape, data_type, proto)?,
    };
    Ok((tensor, data_type))
}

fn shape(dims: &[i64]) -> Result<Shape> {
    let extents: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let extents =
        extents.ok_or_else(|| Error::format(format!("the shape {dims:?} has a negative extent")))?;
    Shape::new(&extents)
}

fn check_count(shape: &Shape, found: usize) -> Result<()> {
    if shape.elements() == found {
        return Ok(());
    }
    Err(Error::format(format!(
        "the shape {shape} has {} elements, but the file has {found}",
        shape.elements()
    )))
}

fn size_of_type(data_type: DataType) -> usize {
    match data_type {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        _ => 1,
    }
}

/// Reads little-endian elements.
fn from_raw(shape: Shape, data_type: DataType, raw: &[u8]) -> Result<Tensor> {
    let size = size_of_type(data_type);
    if !raw.len().is_multiple_of(size) {
        return Err(Error::format(format!("{} bytes are no elements of {size} bytes", raw.len())));
    }
    check_count(&shape, raw.len() / size)?;
    if data_type == DataType::Float {
        let values = collect(raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))?;
        return Tensor::from_f32(shape, &values, &Device::Cpu);
    }
    macro_rules! wide {
        ($number:ty, $size:literal) => {
            collect(raw.as_chunks::<$size>().0.iter().map(|bytes| <$number>::from_le_bytes(*bytes) as f64))?
        };
    }
    let halves = |to_f32: fn(u16) -> f32| {
        collect(raw.as_chunks::<2>().0.iter().map(|bytes| f64::from(to_f32(u16::from_le_bytes(*bytes)))))
    };
    let values = match data_type {
        DataType::Double => wide!(f64, 8),
        DataType::Int64 => wide!(i64, 8),
        DataType::Uint64 => wide!(u64, 8),
        DataType::Int32 => wide!(i32, 4),
        DataType::Uint32 => wide!(u32, 4),
        DataType::Int16 => wide!(i16, 2),
        DataType::Uint16 => wide!(u16, 2),
        DataType::Int8 => wide!(i8, 1),
        DataType::Float16 => halves(half_to_f32)?,
        DataType::Bfloat16 => halves(|bits| f32::from_bits(u32::from(bits) << 16))?,
        DataType::Bool => collect(raw.iter().map(|byte| f64::from(u8::from(*byte != 0))))?,
        _ => collect(raw.iter().map(|byte| f64::from(*byte)))?,
    };
    Tensor::from_f64(shape, &values, &Device::Reference)
}

/// Reads the elements of the field that is for their type.
fn from_fields(shape: Shape, data_type: DataType, proto: &TensorProto) -> Result<Tensor> {
    let values: Vec<f64> = match data_type {
        DataType::Float => {
            check_count(&shape, proto.float_data.len())?;
            return Tensor::from_f32(shape, &proto.float_data, &Device::Cpu);
        }
        DataType::Double => proto.double_data.clone(),
        DataType::Int64 => proto.int64_data.iter().map(|&value| value as f64).collect(),
        DataType::Uint32 | DataType::Uint64 => proto.uint64_data.iter().map(|&value| value as f64).collect(),
        DataType::Float16 => {
            proto.int32_data.iter().map(|&bits| f64::from(half_to_f32(bits as u16))).collect()
        }
        DataType::Bfloat16 => {
            proto.int32_data.iter().map(|&bits| f64::from(f32::from_bits((bits as u32) << 16))).collect()
        }
        _ => proto.int32_data.iter().map(|&value| f64::from(value)).collect(),
    };
    check_count(&shape, values.len())?;
    Tensor::from_f64(shape, &values, &Device::Reference)
}

fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = try_with_capacity(values.len(), "a constant")?;
    all.extend(values);
    Ok(all)
}

/// Reads elements from another file of the model's folder.
fn external_data(proto: &TensorProto, folder: Option<&Path>, expected: usize) -> Result<Vec<u8>> {
    let entry = |key: &str| {
        proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let location = entry("location").ok_or_else(|| Error::format("the external data have no location"))?;
    let Some(folder) = folder else {
        return Err(Error::format(format!(
            "the elements are in the file {location}, which a model in memory does not have"
        )));
    };
    let stays =
        Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays || location.is_empty() {
        return Err(Error::format(format!(
            "the external data {location} are outside of the folder of the model"
        )));
    }
    let number = |key: &str| -> Result<Option<u64>> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Error::format(format!("the {key} of the external data is not a number: {text}")))
        };
        entry(key).map(parse).transpose()
    };
    let path = folder.join(location);
    let cannot_read = |e| Error::io(format!("cannot read the external data {}", path.display()), e);
    // A link could lead anywhere, too.
    let (real, home) =
        (path.canonicalize().map_err(cannot_read)?, folder.canonicalize().map_err(cannot_read)?);
    if !real.starts_with(&home) {
        return Err(Error::format(format!(
            "the external data {location} are outside of the folder of the model"
        )));
    }
    let size = real.metadata().map_err(cannot_read)?;
    if !size.is_file() {
        return Err(Error::format(format!("the external data {location} are not a regular file")));
    }
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(expected as u64));
    if length != expected as u64 {
        return Err(Error::format(format!(
            "the external data have {length} bytes, but the shape needs {expected}"
        )));
    }
    if offset.checked_add(length).is_none_or(|end| end > size.len()) {
        return Err(Error::format(format!(
            "{length} bytes at {offset} of the external data {location} are beyond its end, at {}",
            size.len()
        )));
    }
    let mut bytes = try_with_capacity(expected, "a constant")?;
    let mut file = open_input(&real).map_err(cannot_read)?;
    file.seek(SeekFrom::Start(offset)).map_err(cannot_read)?;
    file.take(length).read_to_end(&mut bytes).map_err(cannot_read)?;
    Ok(bytes)
}

/// Returns the tensor of a message, as test data of ONNX are stored, with the type of its elements. The message must hold the
/// elements itself.
///
/// # Errors
/// When it is damaged, or of a type that is not supported.
pub fn tensor_of(proto: &TensorProto) -> Result<(Tensor, DataType)> {
    constant(proto, None)
}
