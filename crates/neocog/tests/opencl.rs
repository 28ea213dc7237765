//! The command line with OpenCL devices, and on a machine without OpenCL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use serde_json::Value;

/// Names the library to open; one that is not there makes this a machine without OpenCL.
const LIBRARY: &str = "NEOCOG_OPENCL_LIBRARY";

const TRAIN: &str = "train lenet --data digits --epochs 1 --limit 64 --batch 16";

fn run(command: &str, library: Option<&str>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_neocog"));
    xtask.args(command.split(' ')).current_dir(folder.path());
    if let Some(library) = library {
        xtask.env(LIBRARY, library);
    }
    xtask.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn devices_are_listed_with_their_limits() {
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
fn a_network_is_trained_on_opencl() {
    let output = run(&format!("{TRAIN} --device opencl"), None);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn without_opencl_all_else_works_and_the_error_says_what_to_install() {
    for command in [
        &format!("{TRAIN} --device opencl"),
        "bench lenet --device opencl",
        "golden --device opencl",
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
