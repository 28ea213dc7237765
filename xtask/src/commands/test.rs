//! `test`: all checks of the project, in order.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use neocog_tensor::{Error, ErrorKind, Result};

use crate::output;

/// Runs all checks of the project; stops at the first that fails and tells which.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the checks whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// One check: a command, run in the workspace's folder.
struct Step {
    name: &'static str,
    command: Command,
}

/// The checks; another one is another line here.
fn steps(scratch: &Path) -> Result<Vec<Step>> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args);
        command
    };
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let own = std::env::current_exe().map_err(|e| Error::io("cannot find this program's own file", e))?;
    let mut train = Command::new(own);
    train
        .args(["train", "lenet", "--data", "digits", "--epochs", "2", "--limit", "256", "--out"])
        .arg(scratch);

    let step = |name, command| Step { name, command };
    Ok(vec![
        step("format", cargo(&["fmt", "--all", "--check"])),
        step("clippy", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        step("documentation", doc),
        step("tests", cargo(&["test", "--workspace"])),
        step("a small training", train),
    ])
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace()?;
    let scratch = root.join("target").join("xtask-test-run");
    let mut steps = steps(&scratch)?;
    if let Some(text) = &args.only {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        if !names.iter().any(|name| name.contains(text.as_str())) {
            return Err(Error::unknown("check", text, names));
        }
        steps.retain(|step| step.name.contains(text.as_str()));
    }
    let start = Instant::now();
    let count = steps.len();
    for (i, mut step) in steps.into_iter().enumerate() {
        output::line(format_args!("== {} of {count}: {}", i + 1, step.name))?;
        let began = Instant::now();
        let status = step.command.current_dir(&root).status();
        let status = status.map_err(|e| Error::io(format!("cannot start the check \"{}\"", step.name), e))?;
        if !status.success() {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("the check \"{}\" failed ({status}): {:?}", step.name, step.command),
            ));
        }
        output::line(format_args!("== {}: passed in {:.0} s", step.name, began.elapsed().as_secs_f64()))?;
    }
    output::line(format_args!("all {count} checks passed in {:.0} s", start.elapsed().as_secs_f64()))
}

/// The workspace's folder, wherever in it the command is given.
fn workspace() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(|e| Error::io("cannot find the current folder", e))?;
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Io,
                "this command runs within the project's folder: no xtask/Cargo.toml was found",
            )
        })
}
