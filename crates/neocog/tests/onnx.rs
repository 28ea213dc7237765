//! `export` to ONNX, and ONNX models in place of networks and checkpoints.

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

#[test]
fn an_onnx_model_takes_the_place_of_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    success(folder, "train lenet --epochs 2 --out run");
    success(folder, "data --export images --count 4 --data digits");
    let numbers = |text: &str| {
        let row: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        ["images", "loss", "acc"].map(|key| row[key].as_f64().unwrap())
    };
    let classes = |text: &str| {
        let class = |line: &str| line.split_once(": ").unwrap().1.split(' ').next().unwrap().to_string();
        text.lines().map(class).collect::<Vec<_>>()
    };
    let images = "images/00000-2.png images/00001-3.png images/00002-4.png images/00003-5.png";
    let expected = numbers(&success(folder, "eval run/last.ckpt --json"));
    let expected_classes = classes(&success(folder, &format!("predict run/last.ckpt {images}")));
    for export in ["", " --softmax", " --softmax --preprocess"] {
        success(folder, &format!("export run/last.ckpt --to net.onnx{export}"));
        let found = numbers(&success(folder, "eval net.onnx --data digits --json"));
        let is_close = expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= 1e-5);
        assert!(is_close, "{export}: {expected:?} {found:?}");
        let found = classes(&success(folder, &format!("predict net.onnx {images}")));
        assert_eq!(found, expected_classes, "{export}");
    }
    success(folder, "export run/last.ckpt --to net.onnx");
    success(folder, "explain net.onnx images/00000-2.png --method saliency --to saliency.png");
    let text = success(folder, "summary net.onnx");
    assert!(text.contains("net.onnx: ONNX of opset 18; input [1, 1, 28, 28]"), "{text}");
    assert!(text.contains("44,426") && text.contains("Gemm"), "{text}");
    let row: serde_json::Value = serde_json::from_str(&success(folder, "summary net.onnx --json")).unwrap();
    assert_eq!((&row["parameters"], &row["layers"][0]["kind"]), (&44426.into(), &"Conv".into()));
    let text = success(folder, "bench net.onnx --budget 0.1 --batch 8");
    assert!(text.contains("net.onnx") && text.contains("predict") && !text.contains("train"), "{text}");
    let text = success(folder, "bench net.onnx --profile --budget 0.1 --batch 8");
    assert!(text.contains("conv.0/conv2d") && text.contains("conv2d ["), "{text}");

    for (arguments, expected) in [
        ("eval net.onnx", "no data set given; use --data NAME"),
        ("eval net.onnx --data digits --input 1x32x32", "the input of the model is 1x28x28"),
        ("eval net.onnx --spec net.json", "cannot be used with"),
        ("predict run/last.ckpt a.png --data digits", "a checkpoint names its classes"),
        ("predict net.onnx --spec net.json a.png", "an ONNX model is a whole network"),
        ("bench net.onnx --against torch", "--against torch is for registered networks"),
        ("bench none.onnx", "cannot read the model none.onnx"),
        ("summary run/none.onnx", "cannot read the model run/none.onnx"),
    ] {
        let (code, text) = run(folder, arguments);
        assert!(code != 0 && text.contains(expected), "{arguments}: {text}");
    }
}

/// Feature maps, embeddings and Grad-CAM of a model are those of the network that it was exported from.
#[test]
fn nodes_of_an_onnx_model_are_layers() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    success(folder, "train lenet --epochs 2 --out run");
    success(folder, "data --export images --count 1 --data digits");
    success(folder, "export run/last.ckpt --to net.onnx");
    let close = |a: &ArrayD<f32>, b: &ArrayD<f32>| {
        let size = largest(a.iter().copied());
        assert!(size > 0.0 && a.shape() == b.shape(), "{size}, {:?} and {:?}", a.shape(), b.shape());
        assert!(largest((a - b).iter().copied()) <= 1e-5 * size);
    };
    let embed = |file: &str, layer: &str| {
        success(folder, &format!("embed {file} digits --limit 20 --to e.npy{layer}"));
        read(folder, "e.npy")
    };
    for (layer, node) in [("", ""), (" --layer conv.1", " --layer conv.1/sigmoid")] {
        close(&embed("run/last.ckpt", layer), &embed("net.onnx", node));
    }
    let rows = |file: &str| -> Vec<(String, serde_json::Value, f64)> {
        let text = success(folder, &format!("features {file} images/00000-2.png --json"));
        let rows = text.lines().filter(|line| line.starts_with('{'));
        let rows = rows.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| {
            (row["kind"].as_str().unwrap().to_string(), row["output"].clone(), row["mean"].as_f64().unwrap())
        })
        .collect()
    };
    let (expected, found) = (rows("run/last.ckpt"), rows("net.onnx"));
    println!("{expected:?}\n{found:?}");
    assert!(
        found.iter().any(|(kind, ..)| kind == "Conv") && found.iter().any(|(kind, ..)| kind == "MaxPool")
    );
    for (kind, output, mean) in expected {
        let same = |row: &&(String, serde_json::Value, f64)| row.1 == output && (row.2 - mean).abs() < 1e-5;
        assert!(found.iter().any(|row| same(&row)), "{kind} {output} {mean}");
    }
    let values = |file: &str| {
        success(folder, &format!("explain {file} images/00000-2.png --method gradcam --values v.npy"));
        let values: ArrayD<f64> = read_npy(folder.join("v.npy")).unwrap();
        values.mapv(|value| value as f32)
    };
    close(&values("run/last.ckpt"), &values("net.onnx"));
    let (code, text) = run(folder, "embed net.onnx digits --layer conv.9 --to c.npy");
    assert!(code == 1 && text.contains("there is no layer named `conv.9`"), "{text}");
}
