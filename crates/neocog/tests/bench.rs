//! `bench` as its users run it: what it measures, and what it refuses.

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

/// The lines of JSON of a run that went well.
fn measured(arguments: &str) -> Vec<Value> {
    let output = bench(&format!("{arguments} --json --budget 0.02"));
    assert!(output.status.success(), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_network_is_measured_beside_the_cpu() {
    let rows = measured("lenet --batch 4 --against cpu --rounds 2");
    assert_eq!(rows.len(), 2);
    for (row, mode) in rows.iter().zip(["train", "predict"]) {
        assert_eq!((&row["mode"], &row["batch"], &row["against"]), (&mode.into(), &4.into(), &"cpu".into()));
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(number("ours") > 0.0 && number("theirs") > 0.0);
        assert!(number("ratio_min") <= number("ratio") && number("ratio") <= number("ratio_max"));
    }
}

#[test]
fn sizes_are_measured_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let rows = measured(&format!("sizes lenet --batches 1,3 --sizes 8,28 --plot {place}"));
    // 8 pixels are too few for lenet: said, and left out.
    let found: Vec<(&Value, &Value, &Value)> =
        rows.iter().map(|r| (&r["size"], &r["record"]["batch"], &r["record"]["mode"])).collect();
    let (predict, train) = ("predict".into(), "train".into());
    let [size, one, three] = [28, 1, 3].map(Value::from);
    let expected =
        [(&size, &one, &predict), (&size, &one, &train), (&size, &three, &predict), (&size, &three, &train)];
    assert_eq!(found, expected);
    // A batch norm of single pixels has nothing to normalise over in a batch of one: prediction only.
    let rows = measured("sizes resnet --batches 1,2 --sizes 28");
    let modes: Vec<&str> = rows.iter().map(|r| r["record"]["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["predict", "predict", "train"]);
    let picture = image::open(folder.path().join("sizes-lenet.png")).unwrap();
    assert!(picture.width() > 400);
}

#[test]
fn threads_and_convolutions_are_measured() {
    let rows = measured("threads lenet --batch 2 --threads 3");
    let threads: Vec<u64> = rows.iter().map(|r| r["threads"].as_u64().unwrap()).collect();
    assert_eq!(threads, [1, 1, 2, 2, 3, 3]);
    let rows = measured("convolutions lenet --batch 2 --rounds 1");
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|r| r["gflops"].as_f64().unwrap() > 0.0 && r["theirs_s"].is_null()));
}

#[test]
fn what_cannot_be_measured_is_told() {
    for (arguments, word) in [
        ("lenet --batch 0", "at least 1"),
        ("sizes lenet --batches 1,0", "at least 1"),
        ("sizes lenet --batch 3", "--batches"),
        ("ops lenet", "--filter lenet"),
        ("convolutions lenet --against cpu", "--against torch"),
        ("convolutions lenet --device reference", "on the CPU"),
        ("lenet --against torch --python no-such-python", "no-such-python"),
        ("lenet --size 4", "smaller than the kernel"),
        ("leenet", "lenet"),
    ] {
        let output = bench(&format!("{arguments} --budget 0.02"));
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{arguments}: {error}");
        assert!(!error.contains("panicked"), "{arguments}: {error}");
    }
}
