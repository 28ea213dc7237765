//! What is wrong with ONNX files, and with the arrays for them, is an error that says so.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use bytes::Bytes;
use neocog_onnx::proto::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use neocog_onnx::{OnnxModel, OnnxSession};
use neocog_tensor::{Device, Tensor};
use prost::Message as _;

fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.to_string(),
        name: format!("the_{}", op_type.to_lowercase()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..NodeProto::default()
    }
}

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim: &i64| DimensionProto { dim_value: (dim >= 0).then_some(dim), dim_param: None };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A model with the input `x` of any shape `[n, 3]` and the output `y`.
fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 18 }],
        graph: Some(GraphProto {
            node: nodes,
            initializer,
            input: vec![info("x", &[-1, 3])],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn read(model: &ModelProto) -> neocog_tensor::Result<OnnxModel> {
    OnnxModel::from_bytes(model.encode_to_vec(), None)
}

/// Runs a model on zeros `[2, 3]`, on the CPU.
fn run(model: &ModelProto) -> neocog_tensor::Result<Vec<f32>> {
    let session = OnnxSession::new(read(model)?, &Device::Cpu)?;
    session.run(&[Tensor::zeros([2, 3], &Device::Cpu)?])?[0].tensor.to_f32()
}

fn assert_error<T: std::fmt::Debug>(result: neocog_tensor::Result<T>, expected: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}\nexpected: {expected}");
}

#[test]
fn damaged_files_are_errors() {
    let good = model(vec![node("Relu", &["x"], &["y"])], Vec::new());
    assert_eq!(run(&good).unwrap(), [0.0; 6]);
    let bytes = good.encode_to_vec();
    for cut in 1..bytes.len() {
        // Some prefixes are whole messages, which lack something.
        assert!(OnnxModel::from_bytes(bytes[..cut].to_vec(), None).is_err(), "the first {cut} bytes");
    }
    assert_error(OnnxModel::from_bytes(vec![0xff; 64], None), "not an ONNX model");
    assert_error(OnnxModel::from_bytes(Vec::new(), None), "it has no graph");
    assert_error(OnnxModel::read("no/such.onnx".as_ref()), "cannot read the model no/such.onnx");
    assert_error(OnnxModel::read(env!("CARGO_MANIFEST_DIR").as_ref()), "not a regular file");
    let mut old = good.clone();
    old.opset_import[0].version = 29;
    assert_error(read(&old), "opset 29; opsets 1 to");
    let mut none = good;
    none.graph.as_mut().unwrap().output.clear();
    assert_error(read(&none), "no output");
}

#[test]
fn graphs_that_cannot_run_are_errors() {
    let circle =
        vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"]), node("Relu", &["b"], &["y"])];
    assert_error(read(&model(circle, Vec::new())), "the_add (Add): the node depends on its own output");
    let twice = vec![node("Relu", &["x"], &["y"]), node("Abs", &["x"], &["y"])];
    assert_error(read(&model(twice, Vec::new())), "the_abs (Abs): the value y is computed twice");
    let lost = vec![node("Relu", &["z"], &["y"])];
    assert_error(read(&model(lost, Vec::new())), "the_relu (Relu): no node computes its input z");
    let none = vec![node("Relu", &["x"], &["z"])];
    assert_error(read(&model(none, Vec::new())), "no node computes the output y");
    // In another order than that of the computation.
    let turned = vec![node("Relu", &["a"], &["y"]), node("Abs", &["x"], &["a"])];
    assert_eq!(run(&model(turned, Vec::new())).unwrap(), [0.0; 6]);
}

#[test]
fn all_nodes_that_are_not_supported_are_listed() {
    let mut other = node("Mine", &["b"], &["y"]);
    other.domain = "my.domain".to_string();
    let nodes =
        vec![node("Det", &["x"], &["a"]), node("Relu", &["a"], &["c"]), node("STFT", &["c"], &["b"]), other];
    let error = run(&model(nodes, Vec::new())).unwrap_err().to_string();
    assert_eq!(
        error,
        "3 nodes not supported:\n  the_det (Det)\n  the_stft (STFT)\n  the_mine (my.domain.Mine)"
    );
}

#[test]
fn sizes_that_no_memory_has_are_errors() {
    let reshape = |shape: &[i64]| {
        run(&model(vec![node("Reshape", &["x", "s"], &["y"])], vec![integers("s", shape)]))
            .unwrap_err()
            .to_string()
    };
    assert!(reshape(&[1 << 62]).contains("the_reshape (Reshape)"));
    assert!(reshape(&[1 << 62, -1]).contains("cannot become"));
    assert!(reshape(&[-2, 3]).contains("is not valid"));
    for size in [1 << 62, 1 << 40, 1 << 33] {
        for op_type in ["ConstantOfShape", "Range"] {
            let inputs: &[&str] = if op_type == "Range" { &["zero", "limit", "one"] } else { &["s"] };
            let scalar =
                |name: &str, value: i64| TensorProto { dims: Vec::new(), ..integers(name, &[value]) };
            let constants =
                vec![integers("s", &[size]), scalar("zero", 0), scalar("limit", size), scalar("one", 1)];
            assert!(run(&model(vec![node(op_type, inputs, &["y"])], constants)).is_err());
        }
        let tile = vec![node("Tile", &["x", "s"], &["y"])];
        assert!(run(&model(tile, vec![integers("s", &[size, 1])])).is_err());
        let pad = vec![node("Pad", &["x", "s"], &["y"])];
        assert!(run(&model(pad, vec![integers("s", &[size, 0, 0, 0])])).is_err());
        let lies = TensorProto { dims: vec![size, 2], ..integers("s", &[1]) };
        assert!(read(&model(vec![node("Relu", &["s"], &["y"])], vec![lies])).is_err());
    }
    let negative = TensorProto { dims: vec![-1], ..integers("s", &[1]) };
    assert_error(read(&model(vec![node("Relu", &["s"], &["y"])], vec![negative])), "negative extent");
}

#[test]
fn external_data_stay_in_the_folder_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("home");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("w.bin"), 2f32.to_le_bytes().repeat(4)).unwrap();
    fs::write(dir.path().join("secret.bin"), 2f32.to_le_bytes().repeat(4)).unwrap();
    let read = |entries: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.to_string(),
            value: value.to_string(),
        };
        let weight = TensorProto {
            name: "w".to_string(),
            dims: vec![3],
            data_type: DataType::Float as i32,
            data_location: 1,
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        };
        let path = folder.join("net.onnx");
        fs::write(&path, model(vec![node("Add", &["x", "w"], &["y"])], vec![weight]).encode_to_vec())
            .unwrap();
        let session = OnnxSession::new(OnnxModel::read(&path)?, &Device::Cpu)?;
        session.run(&[Tensor::zeros([2, 3], &Device::Cpu)?])?[0].tensor.to_f32()
    };
    assert_eq!(read(&[("location", "w.bin"), ("offset", "4"), ("length", "12")]).unwrap(), [2.0; 6]);
    assert_error(read(&[("location", "missing.bin")]), "cannot read the external data");
    for outside in ["../secret.bin", "/etc/hostname", "sub/../../secret.bin", ""] {
        assert_error(read(&[("location", outside)]), "outside of the folder of the model");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("secret.bin"), folder.join("link.bin")).unwrap();
        assert_error(read(&[("location", "link.bin")]), "outside of the folder of the model");
    }
    assert_error(read(&[("location", "w.bin"), ("offset", "8")]), "beyond its end");
    assert_error(read(&[("location", "w.bin"), ("offset", "18446744073709551615")]), "beyond its end");
    assert_error(read(&[("location", "w.bin"), ("length", "4")]), "4 bytes, but the shape needs 12");
    assert_error(read(&[("location", "w.bin"), ("offset", "x")]), "not a number: x");
    assert_error(read(&[]), "no location");
}

#[test]
fn arrays_that_do_not_fit_are_errors() {
    let good = model(vec![node("Relu", &["x"], &["y"])], Vec::new());
    let session = OnnxSession::new(read(&good).unwrap(), &Device::Cpu).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, &Device::Cpu).unwrap();
    assert_error(session.run(&[]), "the model has 1 input (x), 0 were given");
    assert_error(session.run(&[zeros(&[2, 4])]), "the input x should be [any, 3], it is [2, 4]");
    assert_error(session.run(&[zeros(&[2])]), "the input x should be [any, 3], it is [2]");
}

#[test]
fn attributes_that_are_not_valid_are_errors() {
    let cases: [(&str, &str, &[i64], &str); 3] = [
        ("MaxPool", "kernel_shape", &[0, 2], "expected 2 values from 1"),
        ("MaxPool", "kernel_shape", &[2], "expected 2 values from 1"),
        ("Transpose", "perm", &[0, 0, 1, 2], "each axis"),
    ];
    for (op_type, name, values, expected) in cases {
        let mut pool = node(op_type, &["i"], &["y"]);
        pool.attribute.push(AttributeProto {
            name: name.to_string(),
            ints: values.to_vec(),
            r#type: AttributeType::Ints as i32,
            s: Some(Bytes::new()),
            ..AttributeProto::default()
        });
        let nodes = vec![node("Reshape", &["x", "s"], &["i"]), pool];
        assert_error(run(&model(nodes, vec![integers("s", &[1, 1, 2, 3])])), expected);
    }
}
