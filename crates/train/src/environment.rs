//! What the bits of a run depend on besides its configuration and network.

use std::sync::Arc;

use neocog_data::shuffle::permutation;
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
    /// SHA-256 of the content of image files: of all, or of a sample of about 128 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
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
            content: content_sample(data),
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
        let differing = |then: &Option<String>, now: Option<String>| {
            let (then, now) = (then.as_ref()?, now?);
            (*then != now).then(|| format!("SHA-256 {} then, {} now", short(then), short(&now)))
        };
        differing(&self.data, Some(checksum(data))).or_else(|| differing(&self.content, content_sample(data)))
    }

    /// Whether the data of both environments are known, and differ.
    pub(crate) fn has_other_data(&self, other: &Environment) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        differ(&self.data, &other.data) || differ(&self.content, &other.content)
    }

    /// Returns a line for each value that is known in both environments and differs; `self` is that of the checkpoint.
    pub fn differences(&self, now: &Environment) -> Vec<String> {
        self.differences_between(now, "then", "now")
    }

    /// As [`Environment::differences`], of two environments that are called `own` and `others`.
    pub(crate) fn differences_between(&self, other: &Environment, own: &str, others: &str) -> Vec<String> {
        // Other files have other content.
        let content = if self.data == other.data { &self.content } else { &None };
        let values = [
            ("data (SHA-256)", &self.data, &other.data),
            ("content of the image files (SHA-256)", content, &other.content),
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

/// SHA-256 of the content of the files of the data, if it has any: of all, or, of more than 128 MiB, of files at random, always the
/// same.
fn content_sample(data: &Split) -> Option<String> {
    const MAX_BYTES: u64 = 128 << 20;
    let parts: Vec<&Arc<dyn Dataset>> = parts(data).collect();
    let places: Vec<(usize, usize)> =
        parts.iter().enumerate().flat_map(|(p, part)| (0..part.len()).map(move |i| (p, i))).collect();
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    for at in permutation(u32::try_from(places.len()).ok()?, 0, 0) {
        let (part, i) = places[at as usize];
        // A file that cannot be read is left out by the loader.
        let content = parts[part].file_bytes(i)?.unwrap_or_default();
        sum.update(&content);
        bytes += content.len() as u64;
        if bytes > MAX_BYTES {
            break;
        }
    }
    (bytes > 0).then(|| hexadecimal(sum))
}

fn parts(data: &Split) -> impl Iterator<Item = &Arc<dyn Dataset>> {
    [Some(&data.train), data.validation.as_ref(), data.test.as_ref()].into_iter().flatten()
}

pub(crate) fn hexadecimal(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
