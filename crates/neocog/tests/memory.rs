//! Memory: what a run needs is printed before it starts, and a lack of it is an error with a remedy.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

const NEOCOG: &str = env!("CARGO_BIN_EXE_neocog");

/// Runs the program with a limit of its address space in KiB, if there is one; returns the exit code and standard error.
fn run(arguments: &str, limit: Option<u64>, backtrace: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let limit = limit.map_or(String::new(), |limit| format!("ulimit -v {limit} && "));
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), NEOCOG])
        .args(arguments.split(' '))
        .env("RUST_BACKTRACE", backtrace)
        .current_dir(folder.path())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_need_is_printed_before_the_first_step() {
    let (code, stderr) = run("train lenet --epochs 1 --limit 64 --batch 16", None, "0");
    assert_eq!(code, Some(0), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    let need = lines.iter().position(|line| line.starts_with("memory: about ")).unwrap();
    assert!(lines[need].contains(" for batches of 16 (parameters and optimizer 520.6 KiB, "), "{stderr}");
    let first = lines.iter().position(|line| line.starts_with("epoch 1")).unwrap_or(lines.len());
    assert!(need < first, "{stderr}");
}

#[test]
fn too_little_memory_is_an_error_with_a_remedy() {
    let mut failed = 0;
    // With less than what the system's loader and the command line need, there is no program that could say anything.
    let starts = |limit: &u64| run("train --help", Some(*limit), "0").0 == Some(0);
    let least = (30_000..60_000).step_by(1_000).find(starts).unwrap();
    for (i, limit) in [least + 1_000, 60_000, 75_000, 90_000, 105_000, 120_000].into_iter().enumerate() {
        let backtrace = ["0", "1"][i % 2];
        let (code, stderr) = run("train lenet --epochs 1 --batch 1400 --threads 2", Some(limit), backtrace);
        if code == Some(0) {
            continue;
        }
        assert_eq!(code, Some(1), "{limit} KiB: {stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("memory allocation of"),
            "{limit}: {stderr}"
        );
        let last = stderr.lines().last().unwrap_or("");
        assert!(last.starts_with("error: "), "{limit} KiB: {stderr}");
        failed += usize::from(last.contains("cannot allocate") && last.ends_with("; try a smaller --batch"));
    }
    assert!(failed >= 2, "{failed}");
}
