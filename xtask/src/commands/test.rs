//! `test`: all checks of the project, in order.

mod needs;
mod plugin;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use neocog_base::testing::{LONG, NOT_RUN};
use neocog_base::{Error, ErrorKind, Result};
use neocog_cli::{output, register_command};

use needs::{Need, NotRun};

/// Run all checks of the project, and stop at the first that fails
///
/// Formatting, lints, documentation, all tests, the crate in tests/plugin outside the workspace, and a short training. What
/// cannot run because the machine lacks something is listed at the end, by name and reason; --require makes it an error.
#[derive(Debug, clap::Args)]
struct Args {
    /// Run only the checks whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// More random cases, mutated inputs, networks of torchvision and disturbed trainings: an hour or more instead of minutes
    #[arg(long)]
    long: bool,
    /// Fail if the machine lacks one of these, instead of listing what did not run
    #[arg(long, value_name = "NEED", value_delimiter = ',')]
    require: Vec<Need>,
}

/// One check: a command, run in the root of the workspace.
struct Check {
    name: &'static str,
    command: Command,
    /// What it needs as a whole; single tests within it tell their own needs.
    needs: Option<Need>,
}

impl Check {
    fn new(name: &'static str, command: Command) -> Self {
        Check { name, command, needs: None }
    }

    fn cargo(name: &'static str, arguments: &str) -> Self {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments.split_whitespace());
        Check::new(name, command)
    }

    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn needs(mut self, need: Need) -> Self {
        self.needs = Some(need);
        self
    }
}

const SHORT_TORTURE: [&str; 6] = ["torture", "--minutes", "0.5", "--small", "--memory-limits", "3"];
/// How many times as many random cases a long run has.
const LONG_FACTOR: &str = "20";
/// Mutated inputs for each fuzz target in a long run.
const LONG_FUZZ: &str = "1000000";

/// All checks, in order. To add one, add an entry. With `mpi`, those of everything include processes that train together.
fn checks(root: &Path, scratch: &Path, long: bool, mpi: bool) -> Result<Vec<Check>> {
    let features = if mpi { " --features neocog/mpi" } else { "" };
    let own = env::current_exe().map_err(|e| Error::io("cannot find the path of this program", e))?;
    let mut torture = Command::new(&own);
    torture.args(if long { &["torture", "--minutes", "30"][..] } else { &SHORT_TORTURE });
    let mut training = Command::new(own);
    training
        .args("train lenet --data digits --epochs 2 --limit 256 --overwrite --out".split(' '))
        .arg(scratch);
    let plugin = format!("test --manifest-path {}", plugin::copy_outside(root)?.join("Cargo.toml").display());
    let checks = vec![
        Check::cargo("format", "fmt --all --check"),
        Check::cargo("clippy", &format!("clippy --workspace --all-targets{features} -- -D warnings")),
        Check::cargo("documentation", "doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"),
        Check::cargo("licenses and sources", "deny check licenses bans sources").needs(Need::CargoDeny),
        Check::cargo("tests", &format!("test --workspace{features}")),
        Check::cargo(
            "build without OpenCL",
            "clippy --workspace --all-targets --no-default-features -- -D warnings",
        ),
        // A few short tests: they compile faster without the optimizer.
        Check::cargo("tests without OpenCL", "test -p neocog-tensor --no-default-features --lib opencl")
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_TEST_OPT_LEVEL", "0"),
        // The target directory of the workspace: what is built there already is used again.
        Check::cargo("plugin outside the workspace", &plugin).env("CARGO_TARGET_DIR", root.join("target")),
        Check::new("short training", training),
        Check::new("torture", torture),
    ];
    let lengthen = |check: Check| {
        if long { check.env(LONG, LONG_FACTOR).env("NEOCOG_FUZZ_EXECUTIONS", LONG_FUZZ) } else { check }
    };
    Ok(checks.into_iter().map(lengthen).collect())
}

register_command!("test", 210, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let root = workspace()?;
    let target = root.join("target");
    let missing = needs::missing();
    if let Some((need, reason)) = missing.iter().find(|(need, _)| args.require.contains(need)) {
        return Err(Error::new(ErrorKind::Device, format!("--require {need}: {reason}")));
    }
    for (need, reason) in &missing {
        output::note(format_args!("{need} is missing, what needs it will not run: {reason}"));
    }

    let no_mpi = missing.iter().find(|(need, _)| *need == Need::Mpi);
    let mut checks = checks(&root, &target.join("xtask-test-run"), args.long, no_mpi.is_none())?;
    if let Some(text) = &args.only {
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        if !names.iter().any(|name| name.contains(text.as_str())) {
            return Err(Error::not_found("check", text, names));
        }
        checks.retain(|check| check.name.contains(text.as_str()));
    }

    let mut not_run = NotRun::new(target.join("xtask-tests-not-run.txt"))?;
    if let Some((need, reason)) = no_mpi.filter(|_| checks.iter().any(|check| check.name == "tests")) {
        not_run.push(
            *need,
            "trainings of several processes (crates/neocog/tests/ranks.rs)".into(),
            reason.clone(),
        );
    }
    let (start, count) = (Instant::now(), checks.len());
    for (i, mut check) in checks.into_iter().enumerate() {
        output::line(format_args!("== {} of {count}: {}", i + 1, check.name))?;
        if let Some((need, reason)) = missing.iter().find(|(need, _)| check.needs == Some(*need)) {
            output::line(format_args!("== {}: NOT RUN, {need} is missing", check.name))?;
            not_run.push(*need, format!("the check \"{}\"", check.name), reason.clone());
            continue;
        }
        let began = Instant::now();
        let status = check.command.current_dir(&root).env(NOT_RUN, not_run.file()).status();
        let status =
            status.map_err(|e| Error::io(format!("cannot start the check \"{}\"", check.name), e))?;
        if !status.success() {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("the check \"{}\" failed ({status}): {:?}", check.name, check.command),
            ));
        }
        output::line(format_args!("== {}: passed in {:.0} s", check.name, began.elapsed().as_secs_f64()))?;
    }
    report(&not_run, &args.require)?;
    output::line(format_args!(
        "all {count} checks passed in {:.0} s{}",
        start.elapsed().as_secs_f64(),
        not_run.summary()?
    ))
}

/// Lists what did not run.
///
/// # Errors
/// When it lacked something that is required.
fn report(not_run: &NotRun, required: &[Need]) -> Result<()> {
    let entries = not_run.entries()?;
    if entries.is_empty() {
        return Ok(());
    }
    output::line(format_args!("\n*** NOT RUN, because this machine lacks what they need:"))?;
    for (need, reason, what) in needs::grouped(&entries) {
        output::line(format_args!("***   {need} ({reason}): {}", what.len()))?;
        for what in what {
            output::line(format_args!("***     {what}"))?;
        }
    }
    let lacking = |need: &&Need| entries.iter().any(|entry| entry.need == need.to_string());
    match required.iter().find(lacking) {
        Some(need) => Err(Error::new(
            ErrorKind::Device,
            format!("tests that need {need} did not run, though --require {need} was given"),
        )),
        None => Ok(()),
    }
}

/// The root of the workspace, from any directory within it.
fn workspace() -> Result<PathBuf> {
    let here = env::current_dir().map_err(|e| Error::io("cannot find the current directory", e))?;
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Io,
                "this command runs in a clone of the repository: no xtask/Cargo.toml in this directory or above it",
            )
        })
}
