//! Arguments that several commands share.

use std::path::PathBuf;

use neocog_data::Part;
use neocog_data::catalog::DEFAULT_ROOT;
use neocog_tensor::opencl::{self, DeviceId, DeviceInfo};
use neocog_tensor::{Device, Error};
use neocog_train::ranks::local_rank;

/// The device to compute on.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArg {
    /// Device: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), opencl:auto-rank (one for
    /// each process on this machine that mpirun has started), or reference (double precision, slow).
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu, value_parser = device)]
    pub device: Device,
}

/// Parses a device. `opencl:auto-rank` is one device for each process that a launcher has started on this machine, of those of the
/// platform of `opencl`.
///
/// # Errors
/// When there is no such device.
fn device(text: &str) -> Result<Device, Error> {
    if text != "opencl:auto-rank" {
        return text.parse();
    }
    let default = DeviceId::find(None)?;
    let kind = default.info()?.kind;
    let is_alike = |info: &&&DeviceInfo| info.id.platform == default.platform && info.kind == kind;
    let all = opencl::devices()?;
    let alike: Vec<_> = all.iter().filter(is_alike).collect();
    Ok(Device::OpenCl(alike[local_rank().unwrap_or(0) % alike.len()].id))
}

/// The directory that data sets are read from.
#[derive(Clone, Debug, clap::Args)]
pub struct DataDirArg {
    /// Root directory of the data sets.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    pub data_dir: PathBuf,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PartArg {
    Test,
    #[value(alias = "val")]
    Validation,
    Train,
}

impl From<PartArg> for Part {
    fn from(part: PartArg) -> Self {
        match part {
            PartArg::Test => Part::Test,
            PartArg::Validation => Part::Validation,
            PartArg::Train => Part::Train,
        }
    }
}

/// Parses a count of at least 1.
///
/// # Errors
/// When the text is not a number, or 0.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("expected a whole number of at least 1".into()),
    }
}

/// Parses a height and width of images in pixels, from 1 to 65,535.
///
/// # Errors
/// When the text is no such number.
pub fn pixels(text: &str) -> Result<usize, String> {
    at_most(text, 65_535)
}

/// Parses a number of steps, from 1 to a million.
///
/// # Errors
/// When the text is no such number.
pub fn steps(text: &str) -> Result<usize, String> {
    at_most(text, 1_000_000)
}

fn at_most(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

/// Parses a number of at least 0.
///
/// # Errors
/// When the text is not a number, or the number is negative, infinite or NaN.
pub fn non_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|e| e.to_string())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("must be finite and at least 0".into()) }
}

#[cfg(test)]
mod tests {
    use super::{non_negative, pixels, positive, steps};

    #[test]
    fn numbers_are_finite_and_not_negative() {
        assert_eq!((non_negative("0"), non_negative("1e-3")), (Ok(0.0), Ok(0.001)));
        for wrong in ["-1", "-1e-9", "inf", "nan", "x", ""] {
            assert!(non_negative(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_start_at_1() {
        assert_eq!(positive("12"), Ok(12));
        assert_eq!(positive("0"), Err("must be at least 1".into()));
        assert_eq!((steps("1000000"), pixels("65535")), (Ok(1_000_000), Ok(65_535)));
        for text in ["0", "1000001", "9223372036854775807", "18446744073709551616", "x", ""] {
            assert!(steps(text).is_err() && pixels(text).is_err(), "{text}");
        }
        assert!(positive("-1").is_err() && positive("x").is_err() && positive("").is_err());
    }
}
