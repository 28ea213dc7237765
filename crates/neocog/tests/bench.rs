//! `bench`: its results as JSON, and its errors.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_neocog"))
        .arg("bench")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The results of a successful run.
fn results(arguments: &str) -> Vec<Value> {
    let output = bench(&format!("{arguments} --json --budget 0.02"));
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_network_is_compared_with_the_cpu() {
    let rows = results("lenet --batch 4 --against cpu --rounds 2");
    assert_eq!(rows.len(), 2);
    for (row, mode) in rows.iter().zip(["train", "predict"]) {
        assert_eq!((&row["mode"], &row["batch"], &row["against"]), (&mode.into(), &4.into(), &"cpu".into()));
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(number("ours") > 0.0 && number("theirs") > 0.0);
        assert!(number("ratio_min") <= number("ratio") && number("ratio") <= number("ratio_max"));
    }
}

#[test]
fn sizes_are_benchmarked_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let rows = results(&format!("sizes lenet --batches 1,3 --sizes 8,28 --plot {path}"));
    // Images of 8x8 are too small for lenet and are skipped.
    let found: Vec<(&Value, &Value, &Value)> =
        rows.iter().map(|r| (&r["size"], &r["record"]["batch"], &r["record"]["mode"])).collect();
    let (predict, train) = ("predict".into(), "train".into());
    let [size, one, three] = [28, 1, 3].map(Value::from);
    let expected =
        [(&size, &one, &predict), (&size, &one, &train), (&size, &three, &predict), (&size, &three, &train)];
    assert_eq!(found, expected);
    // Training a batch norm needs more than one value per channel: a batch of one is for prediction only.
    let rows = results("sizes resnet --batches 1,2 --sizes 28");
    let modes: Vec<&str> = rows.iter().map(|r| r["record"]["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["predict", "predict", "train"]);
    let chart = image::open(folder.path().join("sizes-lenet.png")).unwrap();
    assert!(chart.width() > 400);
}

#[test]
fn threads_and_convolutions_are_benchmarked() {
    let rows = results("threads lenet --batch 2 --threads 3");
    let threads: Vec<u64> = rows.iter().map(|r| r["threads"].as_u64().unwrap()).collect();
    assert_eq!(threads, [1, 1, 2, 2, 3, 3]);
    let rows = results("convolutions lenet --batch 2 --rounds 1");
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|r| r["gflops"].as_f64().unwrap() > 0.0 && r["theirs_s"].is_null()));
}

#[test]
fn old_command_lines_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    for (arguments, count) in [
        ("--batch 2 --predict-only networks lenet".to_string(), 1),
        ("--filter relu ops".into(), 0),
        ("--threads 1 --batch 2 --rounds 1 convolutions lenet".into(), 5),
        (format!("--batches 2 --sizes 28 --plot {path} --predict-only sizes lenet"), 1),
        ("--batch 2 --threads 1 threads lenet".into(), 2),
    ] {
        let rows = results(&arguments);
        assert!(if count == 0 { !rows.is_empty() } else { rows.len() == count }, "{arguments}: {rows:?}");
    }
}

#[test]
fn errors_say_what_to_change() {
    const USAGE: i32 = 2;
    for (arguments, code, expected) in [
        ("lenet --batch 0", USAGE, "at least 1"),
        ("lenet --budget 0", USAGE, "above 0"),
        ("sizes lenet --batches 1,0", USAGE, "at least 1"),
        ("sizes lenet --batch 3", USAGE, "--batches"),
        ("ops lenet", USAGE, "--filter lenet"),
        ("--json ops lenet", USAGE, "--filter lenet"),
        ("ops --profile", USAGE, "--profile"),
        ("ops --filter no-such-operation", 1, "no-such-operation"),
        ("convolutions lenet --against cpu", USAGE, "torch"),
        ("convolutions lenet --device reference", 1, "on the CPU"),
        ("lenet --against torch --python no-such-python", 1, "no-such-python"),
        ("lenet --size 4", 1, "smaller than the kernel"),
        ("leenet", 1, "lenet"),
    ] {
        let output = bench(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {error}");
        assert!(error.contains(expected), "{arguments}: {error}");
        assert!(!error.contains("panicked"), "{arguments}: {error}");
    }
}
