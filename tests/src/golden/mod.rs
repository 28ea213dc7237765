//! The runner of golden files.
//!
//! A golden file is a JSON file with a safetensors file of the same name. A file with `cases` is a suite of operations (`ops.rs`),
//! one with `net` a network (`network.rs`). All inputs are computed by a [`hash`], so the files hold results only. The runner is
//! not specific to the files of this project: any seeds, shapes, attributes and networks can be used, and unknown fields are
//! failures.

pub mod attrs;
mod choices;
pub mod compare;
mod dropout;
pub mod files;
pub mod hash;
mod network;
mod ops;
mod optim;
mod rules;
mod stats;
mod table;

use std::path::{Path, PathBuf};

use neocog_tensor::{Context as _, Device, Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use compare::{Failure, Tally};
pub use files::{Network, Suite, Tensors};
pub use table::{json_line, table};

/// The result of one file on one device.
#[derive(Clone, Debug)]
pub struct Report {
    /// Path of the file relative to the directory, without extension.
    pub file: String,
    /// `ops` or `network`; `unreadable` for a file that is neither.
    pub kind: &'static str,
    /// The device.
    pub device: Device,
    /// The comparisons.
    pub tally: Tally,
}

impl Report {
    /// Whether all cases passed, and there is at least one.
    pub fn is_right(&self) -> bool {
        self.tally.cases > 0 && self.tally.passed == self.tally.cases && self.tally.failures.is_empty()
    }
}

/// Returns the directory of the golden files of this project.
pub fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Returns all golden files in a directory and its subdirectories, sorted; `path` can also be a single file. JSON files without a
/// safetensors file that have neither `cases` nor `net` are ignored.
///
/// # Errors
/// When the directory cannot be read, or contains no golden file.
pub fn find_files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if path.is_file() {
        found.push(path.to_path_buf());
    } else {
        collect(path, &mut found)?;
        found.sort();
    }
    if found.is_empty() {
        return Err(Error::invalid_argument(format!("there is no golden file in {}", path.display())));
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let cannot_read = |e| Error::io(format!("cannot read the directory {}", folder.display()), e);
    for entry in std::fs::read_dir(folder).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "json")
            && (path.with_extension("safetensors").is_file() || has_cases_or_net(&path))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn has_cases_or_net(path: &Path) -> bool {
    matches!(read_json(path), Ok(Value::Object(o)) if o.contains_key("cases") || o.contains_key("net"))
}

/// Runs one golden file on a device. `name` is its name in the report.
pub fn run_file(path: &Path, name: &str, device: &Device) -> Report {
    let mut kind = "unreadable";
    let tally = run_any(path, device, &mut kind).unwrap_or_else(|e| {
        let mut tally = Tally::default();
        tally.add_error("the file", e);
        tally
    });
    Report { file: name.to_string(), kind, device: *device, tally }
}

fn run_any(path: &Path, device: &Device, kind: &mut &'static str) -> Result<Tally> {
    let json = read_json(path)?;
    let tensors = Tensors::read(&path.with_extension("safetensors"))?;
    if json.get("cases").is_some() {
        *kind = "ops";
        let suite: Suite = parse(json)?;
        Ok(ops::run_suite(&suite, &tensors, device))
    } else if json.get("net").is_some() {
        *kind = "network";
        let file: Network = parse(json)?;
        network::run_network(&file, &tensors, device).context(|| file.net.clone())
    } else {
        Err(Error::format("not a golden file: it has neither `cases` nor `net`"))
    }
}

/// Runs all golden files of a directory on each of `devices`; calls `each` with every report as soon as it is available.
///
/// # Errors
/// When the directory cannot be read or contains no golden file. Errors of single files are part of their [`Report`].
pub fn run_folder(folder: &Path, devices: &[Device], mut each: impl FnMut(&Report)) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for path in find_files(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
        let name = if name.as_os_str().is_empty() { path.with_extension("") } else { name };
        for device in devices {
            let report = run_file(&path, &name.display().to_string(), device);
            each(&report);
            reports.push(report);
        }
    }
    Ok(reports)
}

fn read_json(path: &Path) -> Result<Value> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::format(format!("{} is not JSON", path.display())).with_source(e))
}

fn parse<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::format("it is incomplete").with_source(e))
}
