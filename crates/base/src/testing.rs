//! Tests that need something the machine may lack, such as an OpenCL device or a Python package.

use std::env;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that names the file to which tests that cannot run are appended.
pub const NOT_RUN: &str = "NEOCOG_TESTS_NOT_RUN";

/// Returns what a test needs, or `None` where the machine lacks it: then the test must return at once.
///
/// A test that did not run must not look as if it had passed. So the test is appended to the file that the environment
/// variable [`NOT_RUN`] names, as a line `need`, test, reason, separated by tabs; `cargo xtask test` lists them at the end.
///
/// ```no_run
/// # fn find_python() -> Result<String, String> { Ok(String::new()) }
/// let Some(python) = neocog_base::testing::require("python", find_python()) else { return };
/// ```
///
/// # Panics
/// When the machine lacks it and [`NOT_RUN`] is not set, as under a plain `cargo test`; when that file cannot be written.
pub fn require<T>(need: &str, found: Result<T, impl Display>) -> Option<T> {
    let reason = match found {
        Ok(found) => return Some(found),
        Err(reason) => reason.to_string().replace(['\t', '\n'], " "),
    };
    let Some(file) = env::var_os(NOT_RUN).map(PathBuf::from) else {
        panic!("this test needs {need}: {reason}");
    };
    let test = std::thread::current().name().unwrap_or("?").to_string();
    let crate_name = env::var("CARGO_PKG_NAME").unwrap_or_default();
    let line = format!("{need}\t{crate_name}: {test}\t{reason}\n");
    let written = OpenOptions::new().append(true).create(true).open(&file).and_then(|mut file| {
        // One write, so that lines of tests that run at the same time do not mix.
        file.write_all(line.as_bytes())
    });
    if let Err(e) = written {
        panic!("cannot write to {}: {e}", file.display());
    }
    eprintln!("NOT RUN: {test} needs {need}: {reason}");
    None
}

/// The environment variable that names the Python of tests, instead of `python3`.
pub const PYTHON: &str = "NEOCOG_PYTHON";

/// Returns a Python that can execute `imports`, which `packages` provide: for [`require`].
///
/// # Errors
/// Why there is none, and what to do.
pub fn python(imports: &str, packages: &str) -> Result<String, String> {
    let python = env::var(PYTHON).unwrap_or_else(|_| "python3".to_string());
    let reason = match Command::new(&python).args(["-c", imports]).output() {
        Ok(output) if output.status.success() => return Ok(python),
        Ok(output) => {
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it failed").to_string()
        }
        Err(e) => e.to_string(),
    };
    Err(format!("{python}: {reason}; `pip install {packages}`, or name another Python with {PYTHON}"))
}

/// Returns what a Python script prints for `input` on its standard input.
///
/// # Panics
/// When the script cannot be started or fails.
pub fn python_output(python: &str, script: &Path, input: &str) -> Vec<u8> {
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {python}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A script that ends early is reported by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("cannot wait for {python}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", script.display());
    output.stdout
}

/// The environment variable with the factor of the number of random cases: `cargo xtask test --long` sets it.
pub const LONG: &str = "NEOCOG_TEST_LONG";

/// Returns the number of random cases of a test that has `usual` of them: more in a long run ([`LONG`]).
pub fn cases(usual: u32) -> u32 {
    let factor = env::var(LONG).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    usual.saturating_mul(factor)
}

/// Lets the command react to SIGINT, SIGTERM and SIGHUP, also if this process was started to ignore them, as by `nohup` or in the
/// background of a script. On other systems than Unix it does nothing.
pub fn heed_signals(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: `signal` may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn commands_heed_signals_unless_they_ignore_them_themselves() {
        let line = "kill -INT $$; echo alive";
        let output = heed_signals(Command::new("sh").args(["-c", line])).output().unwrap();
        assert!(output.stdout.is_empty() && !output.status.success());
        let ignoring = format!("trap '' INT; exec sh -c '{line}'");
        let output = heed_signals(Command::new("sh").args(["-c", &ignoring])).output().unwrap();
        assert_eq!(output.stdout, b"alive\n");
    }

    #[test]
    fn what_is_there_is_returned() {
        assert_eq!(require::<i32>("a number", Ok::<_, String>(3)), Some(3));
    }

    #[test]
    fn a_lack_is_a_failure_or_a_line() {
        // Whether the variable is set depends on how the tests were started: both are right answers.
        let outcome = std::panic::catch_unwind(|| {
            require::<i32>("nothing (a test of the list itself)", Err("not here"))
        });
        match env::var_os(NOT_RUN) {
            None => assert!(outcome.is_err()),
            Some(file) => {
                assert_eq!(outcome.unwrap(), None);
                assert!(
                    std::fs::read_to_string(file).unwrap().contains("nothing (a test of the list itself)\t")
                );
            }
        }
    }
}
