//! Commands on OpenCL devices, and without an OpenCL library.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use neocog::base::testing::require;
use neocog::tensor::Device;
use serde_json::Value;

/// The environment variable with the OpenCL library to load; a missing file simulates a machine without OpenCL.
const LIBRARY: &str = "NEOCOG_OPENCL_LIBRARY";

const TRAIN: &str = "train lenet --data digits --epochs 1 --limit 64 --batch 16";

fn run(arguments: &str, library: Option<&str>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_neocog"));
    command.args(arguments.split(' ')).current_dir(folder.path());
    if let Some(library) = library {
        command.env(LIBRARY, library);
    }
    command.output().unwrap()
}

/// Whether this machine has an OpenCL device; without one, the test is listed as not run.
fn has_opencl() -> bool {
    require("opencl", "opencl".parse::<Device>()).is_some()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn devices_are_listed() {
    if !has_opencl() {
        return;
    }
    let output = run("devices --json", None);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["device"], "cpu");
    assert!(lines.len() > 1, "there is no OpenCL device: {}", text(&output.stderr));
    let facts = lines[1]["facts"].to_string();
    assert!(facts.contains("compute units") && facts.contains("largest buffer"), "{facts}");
}

#[test]
fn training_runs_on_opencl() {
    if !has_opencl() {
        return;
    }
    let output = run(&format!("{TRAIN} --device opencl"), None);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn without_opencl_other_commands_work_and_errors_name_the_package() {
    for command in [
        &format!("{TRAIN} --device opencl"),
        "bench lenet --device opencl",
        "tune",
        "predict no.ckpt no.png --device opencl:0:0",
    ] {
        let output = run(command, Some("no-such-library.so"));
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{command}");
        assert!(
            error.contains("no-such-library.so") && error.contains("pocl-opencl-icd"),
            "{command}: {error}"
        );
        assert!(!error.contains("panicked"), "{command}: {error}");
    }
    let output = run("devices", Some("no-such-library.so"));
    assert!(output.status.success() && text(&output.stdout).starts_with("cpu"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("pocl-opencl-icd"), "{}", text(&output.stderr));
    let output = run(TRAIN, Some("no-such-library.so"));
    assert!(output.status.success(), "{}", text(&output.stderr));
}
