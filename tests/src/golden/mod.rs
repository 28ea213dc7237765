//! The runner of golden files.
//!
//! A golden file is a JSON text with a safetensors file of the same name beside it. One with `cases` is a suite of
//! single operations (`ops.rs`), one with `net` a whole network (`network.rs`). All numbers that go in are made by a
//! [`hash`], so the files hold results only. Nothing here knows particular files: other seeds, shapes, attributes and
//! networks run alike, and what is not understood is a failure.

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

/// What one file gave on one device.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file, without its ending, relative to the folder.
    pub file: String,
    /// `ops` or `network`; `unreadable` for a file that is neither.
    pub kind: &'static str,
    /// Where it ran.
    pub device: Device,
    /// What was compared.
    pub tally: Tally,
}

impl Report {
    /// Whether something was compared, and all of it is right.
    pub fn is_right(&self) -> bool {
        self.tally.cases > 0 && self.tally.passed == self.tally.cases && self.tally.failures.is_empty()
    }
}

/// The golden files that belong to this project.
pub fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// All golden files in a folder and the folders within, sorted; `path` may be one of them too. A JSON text that has no
/// safetensors file beside it and describes neither operations nor a network is something else, and left out.
///
/// # Errors
/// When the folder cannot be read, or holds no golden file.
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
    let cannot = |e| Error::io(format!("cannot read the folder {}", folder.display()), e);
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "json")
            && (path.with_extension("safetensors").is_file() || describes_something(&path))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn describes_something(path: &Path) -> bool {
    matches!(read_json(path), Ok(Value::Object(o)) if o.contains_key("cases") || o.contains_key("net"))
}

/// Runs one golden file on a device. `name` is what it is called in the report.
pub fn run_file(path: &Path, name: &str, device: &Device) -> Report {
    let mut kind = "unreadable";
    let tally = run_any(path, device, &mut kind).unwrap_or_else(|e| {
        let mut tally = Tally::default();
        tally.add_error("the file", e);
        tally
    });
    Report { file: name.to_string(), kind, device: device.clone(), tally }
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
        Err(Error::format("it has neither `cases` nor `net`: it is no golden file"))
    }
}

/// Runs all golden files of a folder, each on all `devices`; `each` is shown every report when it is there.
///
/// # Errors
/// When the folder cannot be read or holds no golden file. What is wrong with a file is in its [`Report`].
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
    serde_json::from_value(json).map_err(|e| Error::format("it is not complete").with_source(e))
}
