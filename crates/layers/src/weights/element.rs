//! Element types of stored tensors.

use std::fmt;

use half::{bf16, f16};
use safetensors::tensor::Dtype;

/// The type of the elements of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// Another type, whose values are not read.
    Other(&'static str),
}

impl ElementType {
    /// Returns the type of a storage or an element type of PyTorch: `FloatStorage`, `float32`.
    pub fn of_torch(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" | "float64" | "double" => ElementType::F64,
            "FloatStorage" | "float32" | "float" => ElementType::F32,
            "HalfStorage" | "float16" | "half" => ElementType::F16,
            "BFloat16Storage" | "bfloat16" => ElementType::BF16,
            "LongStorage" | "int64" | "long" => ElementType::I64,
            "IntStorage" | "int32" | "int" => ElementType::I32,
            "ShortStorage" | "int16" | "short" => ElementType::I16,
            "CharStorage" | "int8" => ElementType::I8,
            "ByteStorage" | "uint8" => ElementType::U8,
            "BoolStorage" | "bool" => ElementType::Bool,
            "ComplexFloatStorage" | "complex64" => ElementType::Other("complex64"),
            "ComplexDoubleStorage" | "complex128" => ElementType::Other("complex128"),
            _ => return None,
        })
    }

    /// Returns the type of a tensor in a safetensors file.
    pub fn of_safetensors(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 => ElementType::F64,
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            Dtype::I64 => ElementType::I64,
            Dtype::I32 => ElementType::I32,
            Dtype::I16 => ElementType::I16,
            Dtype::I8 => ElementType::I8,
            Dtype::U8 => ElementType::U8,
            Dtype::BOOL => ElementType::Bool,
            Dtype::F8_E4M3 => ElementType::Other("F8_E4M3"),
            Dtype::F8_E5M2 => ElementType::Other("F8_E5M2"),
            Dtype::F8_E8M0 => ElementType::Other("F8_E8M0"),
            Dtype::F8_E4M3FNUZ => ElementType::Other("F8_E4M3FNUZ"),
            Dtype::F8_E5M2FNUZ => ElementType::Other("F8_E5M2FNUZ"),
            Dtype::F4 => ElementType::Other("F4"),
            Dtype::F6_E2M3 => ElementType::Other("F6_E2M3"),
            Dtype::F6_E3M2 => ElementType::Other("F6_E3M2"),
            Dtype::C64 => ElementType::Other("C64"),
            Dtype::U16 => ElementType::Other("U16"),
            Dtype::U32 => ElementType::Other("U32"),
            Dtype::U64 => ElementType::Other("U64"),
            _ => ElementType::Other("another type"),
        }
    }

    /// Returns the size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            ElementType::F64 | ElementType::I64 | ElementType::Other("complex64" | "U64") => 8,
            ElementType::F32 | ElementType::I32 | ElementType::Other("U32") => 4,
            ElementType::F16 | ElementType::BF16 | ElementType::I16 | ElementType::Other("U16") => 2,
            ElementType::I8 | ElementType::U8 | ElementType::Bool => 1,
            ElementType::Other(_) => 16,
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, ElementType::F64 | ElementType::F32 | ElementType::F16 | ElementType::BF16)
    }

    /// Returns the single value of the bytes of a number; `None` for types that are not read.
    pub fn number(self, bytes: &[u8]) -> Option<f64> {
        Some(match self {
            ElementType::F64 => f64::from_le_bytes(array(bytes)),
            ElementType::I64 => i64::from_le_bytes(array(bytes)) as f64,
            ElementType::I32 => f64::from(i32::from_le_bytes(array(bytes))),
            ElementType::I16 => f64::from(i16::from_le_bytes(array(bytes))),
            ElementType::I8 => f64::from(bytes[0] as i8),
            ElementType::U8 | ElementType::Bool => f64::from(bytes[0]),
            ElementType::F32 | ElementType::F16 | ElementType::BF16 => f64::from(self.single(bytes)),
            ElementType::Other(_) => return None,
        })
    }

    /// Returns the value of the bytes of a number in at most single precision.
    pub fn single(self, bytes: &[u8]) -> f32 {
        match self {
            ElementType::F16 => f16::from_le_bytes(array(bytes)).to_f32(),
            ElementType::BF16 => bf16::from_le_bytes(array(bytes)).to_f32(),
            _ => f32::from_le_bytes(array(bytes)),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElementType::Other(name) => f.write_str(name),
            ElementType::Bool => f.write_str("BOOL"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Converts a slice of length `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
