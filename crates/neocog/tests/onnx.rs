//! `export` to ONNX and `run` of ONNX models.

#![cfg(feature = "onnx")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Command;

use ndarray::{Array4, ArrayD};
use ndarray_npy::{read_npy, write_npy};
use neocog::onnx::OnnxModel;

fn run(folder: &Path, arguments: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neocog"));
    let output = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn success(folder: &Path, arguments: &str) -> String {
    let (code, text) = run(folder, arguments);
    assert_eq!(code, 0, "{arguments}: {text}");
    text
}

fn read(folder: &Path, file: &str) -> ArrayD<f32> {
    read_npy(folder.join(file)).unwrap()
}

fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn a_checkpoint_is_exported_and_runs_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    success(folder, "train lenet --epochs 1 --limit 64 --out run");
    let x = Array4::from_shape_fn((3, 1, 28, 28), |(n, _, h, w)| ((n * 7 + h * 3 + w) % 11) as f32 / 11.0);
    write_npy(folder.join("x.npy"), &x).unwrap();
    success(folder, "run run/last.ckpt --input x.npy --output ours");
    let text = success(folder, "export run/last.ckpt --to net.onnx");
    assert!(text.contains("wrote lenet with 44,426 parameters as ONNX of opset 18 to net.onnx"), "{text}");
    let text = success(folder, "run net.onnx --input x.npy --output onnx");
    assert!(text.contains("wrote output [3, 10] to onnx/output.npy"), "{text}");
    let (ours, found) = (read(folder, "ours/output.npy"), read(folder, "onnx/output.npy"));
    assert!(largest(&ours - &found) <= 1e-5 * largest(ours.iter().copied()), "{ours} {found}");

    let line = success(folder, "export run/last.ckpt --to p.onnx --softmax --preprocess --opset 20 --json");
    assert!(line.contains(r#"{"network":"lenet","to":"p.onnx","opset":20,"parameters":44426}"#), "{line}");
    let model = OnnxModel::read(&folder.join("p.onnx")).unwrap();
    assert_eq!(model.opset(), 20);
    assert!(model.metadata()["neocog.class_names"].contains("\"7\""), "{:?}", model.metadata());
    assert!(model.metadata().contains_key("neocog.preprocessing"), "{:?}", model.metadata());
    write_npy(folder.join("bytes.npy"), &x.mapv(|value| (value * 255.0) as u8)).unwrap();
    let line = success(folder, "run p.onnx --input input=bytes.npy --output p --json");
    assert!(line.contains(r#""outputs":[{"name":"output","shape":[3,10],"type":"float32""#), "{line}");
    for row in read(folder, "p/output.npy").rows() {
        assert!((row.sum() - 1.0).abs() < 1e-5 && row.iter().all(|p| *p > 0.0), "{row}");
    }

    // As layers, which are trained on and exported again.
    let text = success(folder, "import net.onnx --to back.json");
    assert!(text.contains("wrote a network with 44,426 parameters to back.json"), "{text}");
    success(folder, "run --spec back.json --weights back.safetensors --input x.npy --output back");
    let back = read(folder, "back/output.npy");
    assert!(largest(&ours - &back) <= 1e-5 * largest(ours.iter().copied()), "{ours} {back}");
    success(folder, "train --spec back.json --weights back.safetensors --epochs 1 --limit 64 --out more");
    success(folder, "export more/last.ckpt --to more.onnx");
    success(folder, "run more.onnx --input x.npy --output more-out");

    for (arguments, expected) in [
        ("import net.onnx --to back.ckpt", "use a name that ends with .json"),
        ("export run/last.ckpt --to x.safetensors --softmax", "--softmax is for ONNX files"),
        ("export run/last.ckpt --to y.onnx --opset 30", "opset 30 cannot be written; use one from 17 to 22"),
        (
            "run net.onnx --input bytes.npy --output o",
            "is of type float32, the array of uint8; use .astype(numpy.float32)",
        ),
        ("run net.onnx --input image=x.npy --output o", "there is no input named `image`"),
        ("run net.onnx --input x.npy --input x.npy --output o", "the input input is given twice"),
        ("run net.onnx --input none.npy --output o", "the file none.npy does not exist"),
        ("run net.onnx --weights w --input x.npy --output o", "an ONNX model contains its network"),
        ("run none.onnx --input x.npy --output o", "cannot read the model none.onnx"),
        ("run run/last.onnx --input x.npy --output o", "cannot read the model run/last.onnx"),
    ] {
        let (code, text) = run(folder, arguments);
        assert!(code != 0 && text.contains(expected), "{arguments}: {text}");
    }
    assert!(!folder.join("y.onnx").exists() && !folder.join("o").exists());
    std::fs::copy(folder.join("run/last.ckpt"), folder.join("fake.onnx")).unwrap();
    let (code, text) = run(folder, "run fake.onnx --input x.npy --output o");
    assert!(code == 1 && text.contains("fake.onnx: not an ONNX model"), "{text}");
}
