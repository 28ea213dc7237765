//! Files that `torch.save` writes; the Python part is `tests/torch/torch_files.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch and safetensors; prints a notice if the test is skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use neocog_base::testing::{self, require};
use neocog_layers::{BatchNorm2d, Builder, Conv2d, Flatten, Layer, Linear, Sequential, weights};
use neocog_tensor::Device;

fn python() -> Result<String, String> {
    testing::python("import torch, safetensors.torch", "torch safetensors")
}

fn network() -> Box<dyn Layer> {
    let spec = Sequential::new()
        .then(Conv2d::new(2, 4, 3))
        .then(BatchNorm2d::new(4))
        .then(Flatten::default())
        .then(Linear::new(16, 3));
    Builder::new(&Device::Cpu, 0).build(&spec.into(), &[5, 2, 4, 4].into()).unwrap()
}

#[test]
fn files_of_torch_save_are_read() {
    let Some(python) = require("python", python()) else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/torch_files.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = fs::read(dir.path().join("expected.safetensors")).unwrap();
    let mut read = Vec::new();
    for file in fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_string();
        if name.starts_with("refused") {
            let error = weights::load(&*network(), &file).unwrap_err().to_string();
            assert!(error.contains("save its state_dict() instead"), "{error}");
            continue;
        }
        let net = network();
        weights::load(&*net, &file).unwrap_or_else(|e| panic!("{e}"));
        let back = dir.path().join("back");
        weights::save(&*net, &back).unwrap();
        // All tensors are equal; only a counter that the file does not have stays 0.
        let differences = fs::read(&back).unwrap().iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(differences, usize::from(name == "without_counter"), "{name}");
        fs::remove_file(back).unwrap();
        read.push(name);
    }
    read.sort();
    println!("read: {}", read.join(" "));
    assert_eq!(read.len(), 23);
}
