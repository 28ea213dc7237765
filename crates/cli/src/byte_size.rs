//! A number of bytes as an argument: `2GiB`, `500MB`, `0`.

use std::fmt;
use std::str::FromStr;

use neocog_tensor::{Error, Result};

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Error;

    /// # Errors
    /// When the text is not a number with one of the units.
    fn from_str(text: &str) -> Result<Self> {
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let unit = unit.trim().to_ascii_lowercase();
        let bytes = UNITS.iter().find(|(name, _)| *name == unit).and_then(|(_, factor)| {
            let bytes = number.parse::<f64>().ok()? * *factor as f64;
            (bytes < u64::MAX as f64).then_some(bytes as u64)
        });
        bytes.map(ByteSize).ok_or_else(|| {
            Error::invalid_argument("expected a number of bytes with a unit, such as 2GiB, 500MB or 0")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact =
            UNITS.iter().rev().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit @ ("kib" | "mib" | "gib" | "tib"), factor)) => {
                let unit = unit.replace("ib", "iB");
                write!(f, "{}{}{}", self.0 / factor, unit[..1].to_uppercase(), &unit[1..])
            }
            _ => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_are_parsed_and_written() {
        for (text, bytes) in
            [("0", 0), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("500MB", 500_000_000), ("7b", 7), ("12", 12)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        assert_eq!(ByteSize(2 << 30).to_string(), "2GiB");
        assert_eq!(ByteSize(1000).to_string(), "1000");
        for wrong in ["", "GiB", "-1", "2 apples", "1e99", "99999999999999999999GiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }
}
