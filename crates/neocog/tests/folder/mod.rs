//! The program in a temporary directory.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

pub const NEOCOG: &str = env!("CARGO_BIN_EXE_neocog");

/// A temporary directory, in which the program runs.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(NEOCOG);
        command.args(arguments.split(' ')).current_dir(self.0.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that succeeds; returns standard output and standard error.
    pub fn success(&self, arguments: &str) -> (String, String) {
        texts(&self.run(arguments), 0)
    }

    /// Runs a command that fails; returns the error.
    pub fn error(&self, arguments: &str) -> String {
        texts(&self.run(arguments), 1).1
    }
}

/// Returns standard output and standard error of a command that must have ended with `code`.
pub fn texts(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}
