//! ONNX import: the node tests and small models of the package `onnx`, which `node_tests.py` writes; and what is wrong with files.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with onnx; prints a notice if a test is skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neocog_base::testing::{self, require};
use neocog_onnx::import::{operators, tensor_of};
use neocog_onnx::proto::{DataType, ModelProto, TensorProto};
use neocog_onnx::{OnnxModel, OnnxSession};
use neocog_tensor::{Device, Tensor};
use prost::Message as _;

/// A Python with onnx. One that is asked for must have it.
fn python() -> Result<String, String> {
    testing::python("import onnx", "onnx")
}

/// Reads `input_0.pb`, .. or `output_0.pb`, ..
fn tensors(folder: &Path, kind: &str) -> Vec<(Tensor, DataType)> {
    (0..)
        .map(|i| folder.join(format!("{kind}_{i}.pb")))
        .take_while(|path| path.exists())
        .map(|path| tensor_of(&TensorProto::decode(&*fs::read(path).unwrap()).unwrap()).unwrap())
        .collect()
}

fn run_case(folder: &Path, device: &Device) -> Result<(), String> {
    let model = OnnxModel::read(&folder.join("model.onnx")).map_err(|e| e.to_string())?;
    let mut inputs: Vec<Tensor> = Vec::new();
    for (tensor, _) in tensors(folder, "input") {
        inputs.push(tensor.to_device(device).map_err(|e| e.to_string())?);
    }
    let session = OnnxSession::new(model, device).map_err(|e| e.to_string())?;
    let found = session.run(&inputs).map_err(|e| e.to_string())?;
    let expected = tensors(folder, "output");
    if found.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", found.len(), expected.len()));
    }
    let tolerance = fs::read_to_string(folder.join("tolerance.txt")).unwrap();
    let (rtol, atol) = tolerance.split_once(' ').unwrap();
    let (rtol, atol): (f64, f64) = (rtol.parse().unwrap(), atol.parse().unwrap());
    for (output, (expected, data_type)) in found.iter().zip(expected) {
        if output.tensor.shape() != expected.shape() || output.data_type != data_type {
            return Err(format!(
                "{} is {} {}, expected {} {}",
                output.name,
                output.data_type.name(),
                output.tensor.shape(),
                data_type.name(),
                expected.shape()
            ));
        }
        for (i, (found, expected)) in
            output.tensor.to_f64().unwrap().into_iter().zip(expected.to_f64().unwrap()).enumerate()
        {
            let same = found == expected || (found.is_nan() && expected.is_nan());
            let near = (found - expected).abs() <= atol + rtol * expected.abs();
            if !same && !near {
                return Err(format!("element {i} of {} is {found}, expected {expected}", output.name));
            }
        }
    }
    Ok(())
}

/// Returns the operator that a case is a test of.
fn operator_of(folder: &Path) -> String {
    let model = ModelProto::decode(&*fs::read(folder.join("model.onnx")).unwrap()).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    match model.graph.unwrap().node.as_slice() {
        [node] if name.starts_with("test_") => node.op_type.clone(),
        _ => name.split("-test_").next().unwrap().to_string(),
    }
}

/// Returns the folders of all cases. For trying a change, they can be kept in the folder that `NEOCOG_NODE_TESTS` names.
fn all_cases(python: &str, dir: &Path) -> Vec<PathBuf> {
    let folder = std::env::var_os("NEOCOG_NODE_TESTS").map_or(dir.to_path_buf(), PathBuf::from);
    if fs::read_dir(&folder).unwrap().next().is_none() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node_tests.py");
        let output =
            Command::new(python).args(["-W", "ignore"]).arg(script).arg(&folder).args(operators()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn is_network(case: &Path) -> bool {
    case.file_name().unwrap().to_string_lossy().starts_with("light_")
}

/// The nine networks of the package.
#[test]
fn networks_of_onnx_give_their_outputs() {
    let Some(python) = require("python", python()) else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cases: Vec<PathBuf> =
        all_cases(&python, dir.path()).into_iter().filter(|case| is_network(case)).collect();
    for case in &cases {
        run_case(case, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        println!("{} ok", case.file_name().unwrap().to_string_lossy());
    }
    assert_eq!(cases.len(), 9);
}

#[test]
fn node_tests_of_onnx_pass() {
    let Some(python) = require("python", python()) else { return };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cases: Vec<PathBuf> =
        all_cases(&python, dir.path()).into_iter().filter(|case| !is_network(case)).collect();
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases {
        for device in [Device::Cpu, Device::Reference] {
            let [run, passed] = counts.entry(operator_of(case)).or_default();
            *run += 1;
            match run_case(case, &device) {
                Ok(()) => *passed += 1,
                Err(e) => {
                    let name = case.file_name().unwrap().to_string_lossy().into_owned();
                    if !KNOWN.iter().any(|(known, _)| *known == name) {
                        failures.push(format!("{name} on {device}: {e}"));
                    }
                }
            }
        }
    }
    for (operator, [run, passed]) in &counts {
        println!("{operator}: {run} run, {passed} passed");
    }
    let total = |k: usize| counts.values().map(|count| count[k]).sum::<usize>();
    println!("{} cases on 2 devices: {} run, {} passed", cases.len(), total(0), total(1));
    assert!(cases.len() > 400 && failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// The cases that fail, with the reason.
const KNOWN: [(&str, &str); 12] = [
    ("pytorch-operator-test_operator_add_broadcast", SINGLE_PRECISION),
    ("pytorch-operator-test_operator_add_size1_right_broadcast", SINGLE_PRECISION),
    ("pytorch-operator-test_operator_add_size1_singleton_broadcast", SINGLE_PRECISION),
    ("pytorch-operator-test_operator_addconstant", SINGLE_PRECISION),
    (
        "test_attention_4d_gqa_with_past_and_present_fp16_expanded",
        "half precision is computed in single precision, the expected values are not",
    ),
    ("test_mod_float_edge_cases_fmod_0_float16", "an infinite divisor"),
    ("test_mod_float_edge_cases_fmod_0_float32", "an infinite divisor"),
    ("test_mod_float_edge_cases_fmod_0_float64", "an infinite divisor"),
    ("test_training_dropout", "random numbers"),
    ("test_training_dropout_default", "random numbers"),
    ("test_training_dropout_default_mask", "random numbers"),
    ("test_training_dropout_mask", "random numbers"),
];

const SINGLE_PRECISION: &str = "doubles beyond the range of single precision, on the CPU";
