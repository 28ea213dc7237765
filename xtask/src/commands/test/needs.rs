//! What checks and tests need that a machine may lack, and the list of those that did not run for want of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neocog_base::{Error, Result};
use neocog_tensor::Device;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// An OpenCL device
    Opencl,
    /// Python with PyTorch and safetensors
    Python,
    /// Python with torchvision, PyTorch and safetensors
    Torchvision,
    /// Python with scikit-learn and NumPy
    ScikitLearn,
    /// Python with TensorBoard
    Tensorboard,
    /// MPI: mpirun, mpicc and libclang
    Mpi,
    /// The program cargo-deny
    CargoDeny,
}

impl Need {
    const ALL: [Need; 7] = [
        Need::Opencl,
        Need::Python,
        Need::Torchvision,
        Need::ScikitLearn,
        Need::Tensorboard,
        Need::Mpi,
        Need::CargoDeny,
    ];

    /// Whether it is here; the error says what is missing.
    fn check(self) -> Result<()> {
        match self {
            Need::Opencl => "opencl".parse::<Device>().map(drop),
            Need::Python => python("import torch, safetensors.torch", "torch safetensors"),
            Need::Torchvision => {
                python("import torchvision, safetensors.torch", "torch torchvision safetensors")
            }
            Need::ScikitLearn => python("import sklearn, numpy", "scikit-learn numpy"),
            Need::Tensorboard => python("import tensorboard", "tensorboard"),
            Need::Mpi => mpi(),
            Need::CargoDeny => succeeds("cargo-deny", &["--version"])
                .map_err(|e| Error::device(format!("{e}; `cargo install cargo-deny` installs it"))),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Opencl => "opencl",
            Need::Python => "python",
            Need::Torchvision => "torchvision",
            Need::ScikitLearn => "scikit-learn",
            Need::Tensorboard => "tensorboard",
            Need::Mpi => "mpi",
            Need::CargoDeny => "cargo-deny",
        })
    }
}

/// What this machine lacks, with the reason.
pub fn missing() -> Vec<(Need, String)> {
    let check = |need: Need| need.check().err().map(|e| (need, e.to_string()));
    Need::ALL.into_iter().filter_map(check).collect()
}

/// Checks that Python can execute `imports`, which `packages` provide.
fn python(imports: &str, packages: &str) -> Result<()> {
    // The same variable as in tests/tests/torch.rs.
    let python = std::env::var("NEOCOG_PYTHON").unwrap_or_else(|_| "python3".to_string());
    succeeds(&python, &["-c", imports])
        .map_err(|e| Error::device(format!("{e}; `pip install {packages}` installs what is missing")))
}

/// Checks that the feature `mpi` can be built, and its processes started.
fn mpi() -> Result<()> {
    let install = |e: Error| {
        let packages = "libopenmpi-dev openmpi-bin libclang-dev";
        Error::device(format!("{e}; `apt-get install {packages}` installs what is missing"))
    };
    succeeds("mpirun", &["--version"]).and_then(|()| succeeds("mpicc", &["--version"])).map_err(install)?;
    let is_libclang = |name: &str| name.starts_with("libclang") && name.contains(".so");
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].iter().flat_map(|folder| {
        let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        below.flat_map(|path| [path.join("lib"), path]).chain([PathBuf::from(folder)])
    });
    let mut files = folders.flat_map(fs::read_dir).flatten().flatten();
    let is_there = std::env::var_os("LIBCLANG_PATH").is_some()
        || files.any(|entry| is_libclang(&entry.file_name().to_string_lossy()));
    if is_there { Ok(()) } else { Err(install(Error::device("there is no libclang"))) }
}

fn succeeds(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| Error::io(format!("cannot start {program}"), e))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::device(format!("{program}: {}", stderr.lines().last().unwrap_or("it failed"))))
}

/// A check or a test that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub need: String,
    pub what: String,
    pub reason: String,
}

/// What did not run, by need and reason, in the order in which these first occur.
pub fn grouped(entries: &[Entry]) -> Vec<(&str, &str, Vec<&str>)> {
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for Entry { need, what, reason } in entries {
        match groups.iter_mut().find(|(n, r, _)| n == need && r == reason) {
            Some((_, _, names)) => names.push(what),
            None => groups.push((need, reason, vec![what])),
        }
    }
    groups
}

/// The list of what did not run: checks, and the tests that append a line each to a file
/// ([`neocog_base::testing::require`]).
#[derive(Debug)]
pub struct NotRun {
    file: PathBuf,
    checks: Vec<Entry>,
}

impl NotRun {
    /// An empty list; a file that an earlier run left is removed.
    pub fn new(file: PathBuf) -> Result<Self> {
        remove(&file)?;
        Ok(NotRun { file, checks: Vec::new() })
    }

    /// The file to which tests append.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Adds a whole check.
    pub fn push(&mut self, need: Need, what: String, reason: String) {
        self.checks.push(Entry { need: need.to_string(), what, reason });
    }

    /// All that did not run.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::io(format!("cannot read {}", self.file.display()), e)),
        };
        let mut entries = self.checks.clone();
        for line in text.lines().filter(|line| !line.contains("a test of the list itself")) {
            let mut fields = line.splitn(3, '\t').map(str::to_string);
            let mut next = || fields.next().unwrap_or_default();
            let entry = Entry { need: next(), what: next(), reason: next() };
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// `, 3 did not run`, or nothing.
    pub fn summary(&self) -> Result<String> {
        Ok(match self.entries()?.len() {
            0 => String::new(),
            n => format!(", {n} DID NOT RUN (listed above)"),
        })
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_grouped_by_need_and_reason() {
        let entry = |need: &str, what: &str, reason: &str| Entry {
            need: need.to_string(),
            what: what.to_string(),
            reason: reason.to_string(),
        };
        let entries = [
            entry("opencl", "a", "no library"),
            entry("python", "b", "no torch"),
            entry("opencl", "c", "no library"),
            entry("python", "d", "no torchvision"),
        ];
        let expected = [
            ("opencl", "no library", vec!["a", "c"]),
            ("python", "no torch", vec!["b"]),
            ("python", "no torchvision", vec!["d"]),
        ];
        assert_eq!(grouped(&entries), expected);
    }
}
