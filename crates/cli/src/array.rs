//! NumPy arrays in files.

use std::fs;
use std::io::{self, BufWriter, Cursor, Read};
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, IxDyn};
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt, WritableElement, WriteNpyError, WriteNpyExt};
use neocog_base::file::{self, open_input};
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use zip::ZipArchive;

/// An array as it is read from a file.
pub struct Array {
    /// Its elements, on the device that was asked for.
    pub tensor: Tensor,
    /// The type of the elements in the file, as NumPy's.
    #[cfg_attr(not(feature = "onnx"), allow(dead_code, reason = "networks take any type"))]
    pub type_name: &'static str,
}

/// Reads an array from an .npy file, or from an .npz file with one array or one called `name`.
///
/// # Errors
/// When the file cannot be read, is no such file, or the type of the elements is not supported.
pub fn read(path: &Path, name: &str, device: &Device) -> Result<Array> {
    let location = || path.display().to_string();
    let cannot_read = |e| Error::io(format!("cannot read the array {}", path.display()), e);
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(Error::format("not an array: it is not a regular file")).context(location);
    }
    let mut bytes = Aligned::with_length(metadata.len()).context(location)?;
    open_input(path).and_then(|mut file| file.read_exact(bytes.as_mut())).map_err(cannot_read)?;
    let bytes = if bytes.as_ref().starts_with(b"PK\x03\x04") {
        array_of_archive(bytes.as_ref(), name)
    } else {
        Ok(bytes)
    };
    bytes.and_then(|bytes| array(bytes, device)).context(location)
}

/// Bytes that start at a multiple of eight, as arrays in memory must.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn with_length(length: u64) -> Result<Self> {
        let too_large = || Error::invalid_argument(format!("cannot allocate {length} bytes for the array"));
        let length = usize::try_from(length).map_err(|_| too_large())?;
        let mut words = Vec::new();
        words.try_reserve_exact(length.div_ceil(8)).map_err(|_| too_large())?;
        words.resize(length.div_ceil(8), 0);
        Ok(Aligned { words, length })
    }

    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }
}

/// The largest ratio of a file's size to that of what it is compressed to.
const MAX_DEFLATION: u64 = 1032;

/// Returns the .npy file of an archive: the only one, or that of a name.
fn array_of_archive(archive: &[u8], input: &str) -> Result<Aligned> {
    let invalid = |e| Error::format("not an .npz file: the archive is damaged").with_source(e);
    let mut archive_file = ZipArchive::new(Cursor::new(archive)).map_err(invalid)?;
    let names: Vec<String> = archive_file.file_names().map(String::from).collect();
    let own = format!("{input}.npy");
    let name = match names.as_slice() {
        [only] => only,
        names => names.iter().find(|name| **name == own).ok_or_else(|| {
            Error::invalid_argument(format!(
                "the archive has the arrays {}; expected one, or one called {input}",
                names.join(", ")
            ))
        })?,
    };
    let mut entry = archive_file.by_name(name).map_err(|e| {
        Error::format(format!(
            "cannot read {name} in the archive: expected one of numpy.savez or numpy.savez_compressed"
        ))
        .with_source(e)
    })?;
    if entry.size() / MAX_DEFLATION > archive.len() as u64 {
        return Err(Error::format(format!(
            "{name} is longer than the archive can hold: the file is damaged"
        )));
    }
    let cannot_read = |e| Error::io(format!("cannot read {name}"), e);
    let mut start = Vec::new();
    entry.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start).map_err(cannot_read)?;
    if start != MAGIC {
        return Err(Error::format(format!("{name} is not an .npy file")));
    }
    let mut bytes = Aligned::with_length(entry.size())?;
    let (first, rest) = bytes.as_mut().split_at_mut_checked(start.len()).ok_or_else(|| {
        Error::format(format!("{name} is longer than the archive says: the file is damaged"))
    })?;
    first.copy_from_slice(&start);
    // At the end, the checksum is compared.
    entry.read_exact(rest).and_then(|()| entry.read(&mut [0])).map_err(cannot_read)?;
    Ok(bytes)
}

/// The first bytes of an .npy file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Converts an .npy file to a tensor.
fn array(mut bytes: Aligned, device: &Device) -> Result<Array> {
    fn view<T: ViewElement + Copy>(bytes: &[u8]) -> Result<Option<(Shape, Vec<T>)>> {
        match ArrayViewD::<T>::view_npy(bytes) {
            Ok(array) => {
                let values = array.iter().copied().collect();
                Ok(Some((Shape::new(array.shape())?, values)))
            }
            Err(ViewNpyError::WrongDescriptor(_)) => Ok(None),
            Err(e) => Err(Error::format(format!("not an .npy file: {e}"))),
        }
    }
    if !bytes.as_ref().starts_with(MAGIC) {
        return Err(Error::format("not an .npy file"));
    }
    if let Some(descriptor) = Descriptor::find(bytes.as_ref()) {
        descriptor.reverse_big_endian(bytes.as_mut());
        if let Some(floats) = descriptor.half_as_floats(bytes.as_ref())? {
            return Ok(Array { type_name: "float16", ..array(floats, device)? });
        }
    }
    let bytes = bytes.as_ref();
    if let Some((shape, values)) = view::<f32>(bytes)? {
        return Ok(Array { tensor: Tensor::from_f32(shape, &values, device)?, type_name: "float32" });
    }
    if let Some((shape, values)) = view::<bool>(bytes)? {
        let values: Vec<f32> = values.into_iter().map(|value| f32::from(u8::from(value))).collect();
        return Ok(Array { tensor: Tensor::from_f32(shape, &values, device)?, type_name: "bool" });
    }
    macro_rules! wide {
        ($($number:ty: $name:literal),*) => {$(
            if let Some((shape, values)) = view::<$number>(bytes)? {
                let values: Vec<f64> = values.into_iter().map(|value| value as f64).collect();
                return Ok(Array { tensor: Tensor::from_f64(shape, &values, device)?, type_name: $name });
            }
        )*};
    }
    wide!(
        f64: "float64", u8: "uint8", i8: "int8", i16: "int16", u16: "uint16", i32: "int32", u32: "uint32", i64: "int64",
        u64: "uint64"
    );
    Err(Error::format("the array has a type that is not supported; use .astype(numpy.float32)"))
}

/// The type of the elements in the header of an .npy file, such as `>f4`.
struct Descriptor {
    /// The place of its byte order in the file.
    at: usize,
    order: u8,
    kind: u8,
    /// Bytes of an element.
    size: usize,
    /// The place of the first element.
    data: usize,
}

impl Descriptor {
    /// Reads the header; `None` if it is damaged, or the type is not a number.
    fn find(bytes: &[u8]) -> Option<Descriptor> {
        const KEY: &[u8] = b"'descr': '";
        let length = |at: usize, size: usize| {
            let digits = bytes.get(at..at + size)?;
            Some(at + size + digits.iter().rev().fold(0, |sum, &digit| sum * 256 + usize::from(digit)))
        };
        let data = if *bytes.get(MAGIC.len())? == 1 { length(8, 2) } else { length(8, 4) }?;
        let header = bytes.get(..data)?;
        let at = header.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
        let &[order, kind, ref rest @ ..] = header.get(at..)? else { return None };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let size = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let is_number = b"fiub".contains(&kind) && [1, 2, 4, 8].contains(&size);
        is_number.then_some(Descriptor { at, order, kind, size, data })
    }

    /// Makes big-endian elements little-endian.
    fn reverse_big_endian(&self, bytes: &mut [u8]) {
        if self.order == b'>' {
            bytes[self.at] = b'<';
            bytes[self.data..].chunks_exact_mut(self.size).for_each(<[u8]>::reverse);
        }
    }

    /// Returns an array of floats with the values of one in half precision; `None` if the type is another.
    fn half_as_floats(&self, bytes: &[u8]) -> Result<Option<Aligned>> {
        if (self.kind, self.size) != (b'f', 2) {
            return Ok(None);
        }
        let (header, data) = bytes.split_at(self.data);
        let mut floats = Aligned::with_length(bytes.len() as u64 + data.len() as u64)?;
        floats.as_mut()[..self.data].copy_from_slice(header);
        // The size in the header.
        floats.as_mut()[self.at + 2] = b'4';
        let to = floats.as_mut()[self.data..].chunks_exact_mut(4);
        for (from, to) in data.chunks_exact(2).zip(to) {
            to.copy_from_slice(&half::f16::from_le_bytes([from[0], from[1]]).to_f32().to_le_bytes());
        }
        Ok(Some(floats))
    }
}

/// Writes an .npy file.
///
/// # Errors
/// When the number of values is not that of the shape, or the file cannot be written.
pub fn write<T: WritableElement>(path: &Path, shape: &[usize], values: Vec<T>) -> Result<()> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values)
        .map_err(|e| Error::shape(format!("{shape:?} is not the shape of the output")).with_source(e))?;
    file::write(path, |file| {
        array.write_npy(BufWriter::new(file)).map_err(|e| match e {
            WriteNpyError::Io(e) => e,
            e => io::Error::other(e),
        })
    })
    .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}

/// Writes an .npy file of numbers in half precision, given by their bits.
///
/// # Errors
/// When the file cannot be written.
#[cfg(feature = "onnx")]
pub fn write_half(path: &Path, shape: &Shape, values: &[u16]) -> Result<()> {
    use std::io::Write as _;

    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let mut header = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({extents}), }}");
    // With the magic string, the version and its length, the header is a multiple of 64 bytes.
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    file::write(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(b"\x93NUMPY\x01\x00")?;
        out.write_all(&(header.len() as u16).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?;
        out.flush()
    })
    .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}
