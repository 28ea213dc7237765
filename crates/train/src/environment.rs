//! What the bits of a run depend on besides its configuration and network.

use std::sync::Arc;

use neocog_data::{Dataset, Split};
use neocog_tensor::ops::requested_algorithm;
use neocog_tensor::{Device, Error, ErrorKind, Result, instruction_set};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the bits of a run depend on besides its configuration and network. A run that is resumed elsewhere is another run.
///
/// A value is `None` where it is not known, as in checkpoints of earlier versions, and where it has no influence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Environment {
    /// SHA-256 of the images and labels that are used, as hexadecimal digits; of image files, their names and sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Whether the run went on with other data at some time: its parts may hold images that the network was trained on before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub data_changed: bool,
    /// Kind of the device: `cpu`, `opencl` or `reference`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Name of the OpenCL device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// Instruction set of the kernels, on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simd: Option<String>,
    /// The algorithm that convolutions are computed by, `by cost` if none is forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convolutions: Option<String>,
    /// Version of neocog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Environment {
    /// Returns the environment of a run with `data` on `device` in this process.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn of(data: &Split, device: &Device) -> Result<Self> {
        let (kind, device_name) = match device {
            Device::OpenCl(id) => ("opencl".to_string(), Some(id.info()?.name.clone())),
            other => (other.to_string(), None),
        };
        Ok(Environment {
            data: Some(checksum(data)),
            data_changed: false,
            device: Some(kind),
            device_name,
            simd: (*device == Device::Cpu).then(|| instruction_set().0.to_string()),
            convolutions: Some(requested_algorithm()?.map_or("by cost", |found| found.name).to_string()),
            version: Some(env!("CARGO_PKG_VERSION").to_string()),
        })
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Environment::default()
    }

    /// Describes how the data differ from those of this environment; `None` if they do not, or are not known.
    pub fn data_difference(&self, data: &Split) -> Option<String> {
        let (then, now) = (self.data.as_ref()?, checksum(data));
        (*then != now).then(|| format!("SHA-256 {} then, {} now", short(then), short(&now)))
    }

    /// Returns a line for each value that is known in both environments and differs; `self` is that of the checkpoint.
    pub fn differences(&self, now: &Environment) -> Vec<String> {
        self.differences_between(now, "then", "now")
    }

    /// As [`Environment::differences`], of two environments that are called `own` and `others`.
    pub(crate) fn differences_between(&self, other: &Environment, own: &str, others: &str) -> Vec<String> {
        let values = [
            ("data (SHA-256)", &self.data, &other.data),
            ("device", &self.device, &other.device),
            ("OpenCL device", &self.device_name, &other.device_name),
            ("instruction set (NEOCOG_SIMD)", &self.simd, &other.simd),
            ("convolutions (NEOCOG_CONV)", &self.convolutions, &other.convolutions),
            ("version of neocog", &self.version, &other.version),
        ];
        values
            .into_iter()
            .filter_map(|(name, a, b)| match (a, b) {
                (Some(a), Some(b)) if a != b => {
                    Some(format!("{name}: {} {own}, {} {others}", short(a), short(b)))
                }
                _ => None,
            })
            .collect()
    }

    /// Checks that nothing differs that is known in both environments; `self` is that of the checkpoint.
    ///
    /// # Errors
    /// `Mismatch` with the [`differences`](Self::differences).
    pub fn check(&self, now: &Environment) -> Result<()> {
        let differences = self.differences(now);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "the resumed run would not be the same, bit for bit:\n  {}\nuse the same as then, or --allow-different to go on",
                differences.join("\n  ")
            ),
        ))
    }
}

/// The start of a checksum; other values in full.
fn short(value: &str) -> &str {
    if value.len() == 64 { &value[..16] } else { value }
}

/// SHA-256 of what the parts are: shapes, images or files, and labels.
fn checksum(data: &Split) -> String {
    let mut sum = Sha256::new();
    for part in parts(data) {
        neocog_data::dataset::fingerprint(&**part, |bytes| sum.update(bytes));
    }
    hexadecimal(sum)
}

/// The number of files of each part of the data whose content is compared.
const COMPARED_FILES: usize = 64;

/// SHA-256 of the content of some files of each part of the data, the same on all ranks. Their names and sizes are compared for all.
pub(crate) fn content_sample(data: &Split) -> String {
    let mut sum = Sha256::new();
    for part in parts(data) {
        let count = part.len().min(COMPARED_FILES);
        for bytes in (0..count).filter_map(|i| part.file_bytes(i * part.len() / count)) {
            // A file that cannot be read is left out by the loader.
            sum.update(bytes.as_deref().unwrap_or_default());
        }
    }
    hexadecimal(sum)
}

fn parts(data: &Split) -> impl Iterator<Item = &Arc<dyn Dataset>> {
    [Some(&data.train), data.validation.as_ref(), data.test.as_ref()].into_iter().flatten()
}

pub(crate) fn hexadecimal(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
