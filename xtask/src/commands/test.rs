//! `test`: all checks of the project, in order.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use neocog_tensor::{Error, ErrorKind, Result};

use neocog_cli::{output, register_command};

/// Runs all checks of the project; stops at the first that fails and tells which.
#[derive(Debug, clap::Args)]
struct Args {
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
fn steps(root: &Path, scratch: &Path) -> Result<Vec<Step>> {
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

    let mut plugin = cargo(&["test", "--manifest-path"]);
    // The same target folder as the workspace's: what is built there already is used again.
    plugin.arg(plugin_outside(root)?.join("Cargo.toml")).env("CARGO_TARGET_DIR", root.join("target"));

    let step = |name, command| Step { name, command };
    Ok(vec![
        step("format", cargo(&["fmt", "--all", "--check"])),
        step("clippy", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        step("documentation", doc),
        step("tests", cargo(&["test", "--workspace"])),
        step(
            "build without OpenCL",
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--no-default-features",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        step(
            "tests without OpenCL",
            cargo(&["test", "-p", "neocog-tensor", "--no-default-features", "--lib", "opencl"]),
        ),
        step("a plugin outside the workspace", plugin),
        step("a small training", train),
    ])
}

register_command!("test", 210, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let root = workspace()?;
    let scratch = root.join("target").join("xtask-test-run");
    let mut steps = steps(&root, &scratch)?;
    if let Some(text) = &args.only {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        if !names.iter().any(|name| name.contains(text.as_str())) {
            return Err(Error::not_found("check", text, names));
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
                ErrorKind::InvalidArgument,
                format!("the check \"{}\" failed ({status}): {:?}", step.name, step.command),
            ));
        }
        output::line(format_args!("== {}: passed in {:.0} s", step.name, began.elapsed().as_secs_f64()))?;
    }
    output::line(format_args!("all {count} checks passed in {:.0} s", start.elapsed().as_secs_f64()))
}

/// Copies the plugin in `tests/plugin` to a folder outside the workspace, with dependencies that lead back: so it is a
/// crate like those of others. The folder is the same each time, for what is built to be used again.
fn plugin_outside(root: &Path) -> Result<PathBuf> {
    let from = root.join("tests/plugin");
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let to = std::env::temp_dir().join(format!("neocog-plugin-example-{:016x}", hasher.finish()));
    let cannot = |e| Error::io(format!("cannot copy {} to {}", from.display(), to.display()), e);
    if to.exists() {
        fs::remove_dir_all(&to).map_err(cannot)?;
    }
    copy_folder(&from, &to).map_err(cannot)?;
    let manifest = to.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(cannot)?;
    let back = text
        .replace("path = \"../../", &format!("path = \"{}/", root.display().to_string().replace('\\', "/")));
    fs::write(&manifest, back).map_err(cannot)?;
    // The versions that the workspace has, so nothing is fetched anew.
    fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock")).map_err(cannot)?;
    Ok(to)
}

/// Copies a folder, without what git leaves out.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == "Cargo.lock" || name == "runs" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.join(name))?;
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
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
