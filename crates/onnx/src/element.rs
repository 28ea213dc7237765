//! Types of elements.

use neocog_base::{Error, Result};

use crate::proto::DataType;

impl DataType {
    /// Whether elements are integers or truth values.
    pub fn is_integer(self) -> bool {
        !matches!(self, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
    }

    /// Returns the name, as NumPy's.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Undefined => "undefined",
            DataType::Float => "float32",
            DataType::Uint8 => "uint8",
            DataType::Int8 => "int8",
            DataType::Uint16 => "uint16",
            DataType::Int16 => "int16",
            DataType::Int32 => "int32",
            DataType::Int64 => "int64",
            DataType::String => "string",
            DataType::Bool => "bool",
            DataType::Float16 => "float16",
            DataType::Double => "float64",
            DataType::Uint32 => "uint32",
            DataType::Uint64 => "uint64",
            DataType::Bfloat16 => "bfloat16",
        }
    }
}

/// Returns the type with a number.
///
/// # Errors
/// When it is not one whose elements are numbers.
pub(crate) fn check_type(number: i32) -> Result<DataType> {
    match DataType::try_from(number) {
        Ok(DataType::Undefined) => Err(Error::format("the type of the elements is not defined")),
        Ok(DataType::String) => Err(Error::format("elements of type string are not supported")),
        Ok(data_type) => Ok(data_type),
        Err(_) => Err(Error::format(format!("elements of type {number} are not supported"))),
    }
}

/// Returns the value of a number in half precision, given by its bits.
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// Returns the bits of the nearest number in half precision, ties to even.
pub fn f32_to_half(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    // From here on, numbers are rounded to infinity.
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    // In units of the last place.
    let exponent = if magnitude < 2f32.powi(-14) { -14 } else { (magnitude.to_bits() >> 23) as i32 - 127 };
    let units = (magnitude / 2f32.powi(exponent - 10)).round_ties_even() as u16;
    // A fraction that is rounded up to the next power of two carries into the exponent.
    let base = if magnitude < 2f32.powi(-14) { 0 } else { ((exponent + 14) as u16) << 10 };
    sign | (base + units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_round_trips() {
        for bits in 0..=u16::MAX {
            let value = half_to_f32(bits);
            if value.is_nan() {
                assert!(half_to_f32(f32_to_half(value)).is_nan());
            } else {
                assert_eq!(f32_to_half(value), bits, "{value}");
            }
        }
        // Between 1 and the next number, 1 + 1 / 1024: ties go to even.
        assert_eq!(f32_to_half(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f32_to_half(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!([f32_to_half(65519.0), f32_to_half(65520.0), f32_to_half(-1e9)], [0x7bff, 0x7c00, 0xfc00]);
        assert_eq!(f32_to_half(2f32.powi(-25)), 0);
    }
}
