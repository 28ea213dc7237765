//! Models with functions of their own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_onnx::proto::{
    AttributeProto, AttributeType, DataType, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use neocog_onnx::{OnnxModel, OnnxSession};
use neocog_tensor::{Device, Tensor};
use prost::Message as _;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.to_string(),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

/// A node that calls a function.
fn call(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: "mine".to_string(), ..node(name, inputs, outputs) }
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.to_string(),
        domain: "mine".to_string(),
        input: names(inputs),
        output: names(outputs),
        node: nodes,
        opset_import: opset(18),
        ..FunctionProto::default()
    }
}

fn opset(version: i64) -> Vec<OperatorSetIdProto> {
    vec![OperatorSetIdProto { domain: String::new(), version }]
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        f: Some(value),
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    }
}

/// An attribute whose value is that of the attribute `of` of the caller.
fn refers(name: &str, of: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        ref_attr_name: of.to_string(),
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    }
}

fn model(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>, outputs: &[&str]) -> ModelProto {
    let info = |name: &&str| ValueInfoProto {
        name: (*name).to_string(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto { elem_type: DataType::Float as i32, shape: None }),
        }),
    };
    ModelProto {
        ir_version: 8,
        opset_import: opset(18),
        functions,
        graph: Some(GraphProto {
            node: nodes,
            input: vec![info(&"x")],
            output: outputs.iter().map(info).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// Runs a model on -2, -1, 1, 2.
fn run(model: &ModelProto) -> neocog_tensor::Result<Vec<Vec<f32>>> {
    let session = OnnxSession::new(OnnxModel::from_bytes(model.encode_to_vec(), None)?, &Device::Cpu)?;
    let outputs = session.run(&[Tensor::from_f32([4], &[-2.0, -1.0, 1.0, 2.0], &Device::Cpu)?])?;
    outputs.iter().map(|output| output.tensor.to_f32()).collect()
}

fn assert_error(model: &ModelProto, expected: &str) {
    let error = run(model).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}\nexpected: {expected}");
}

#[test]
fn a_call_computes_the_nodes_of_its_function() {
    // Two calls whose inner values have the same names, one within a function, and an output that is left out.
    let absolute = function(
        "Absolute",
        &["a"],
        &["b", "negative"],
        vec![node("Neg", &["a"], &["negative"]), node("Max", &["a", "negative"], &["b"])],
    );
    let both = function(
        "Both",
        &["x", "y"],
        &["sum"],
        vec![call("Absolute", &["x"], &["b"]), node("Add", &["b", "y"], &["sum"])],
    );
    let nodes = vec![
        call("Absolute", &["x"], &["", "n"]),
        call("Both", &["n", "x"], &["y"]),
        call("Both", &["y", "n"], &["z"]),
    ];
    let found = run(&model(nodes, vec![both, absolute], &["y", "z"])).unwrap();
    assert_eq!(found, [[0.0, 0.0, 2.0, 4.0], [2.0, 1.0, 1.0, 2.0]]);
}

#[test]
fn attributes_are_those_of_the_caller_or_defaults() {
    let leaky = |attribute_proto: Vec<AttributeProto>| {
        let mut inner = node("LeakyRelu", &["a"], &["b"]);
        inner.attribute.push(refers("alpha", "slope"));
        let attribute = names(&["slope"]);
        FunctionProto { attribute, attribute_proto, ..function("Leaky", &["a"], &["b"], vec![inner]) }
    };
    let mut given = call("Leaky", &["x"], &["y"]);
    given.attribute.push(float("slope", 0.5));
    let left_out = call("Leaky", &["x"], &["z"]);
    let nodes = vec![given, left_out];
    let without = run(&model(nodes.clone(), vec![leaky(Vec::new())], &["y", "z"])).unwrap();
    assert_eq!(without, [[-1.0, -0.5, 1.0, 2.0], [-0.02, -0.01, 1.0, 2.0]]);
    let with = run(&model(nodes, vec![leaky(vec![float("slope", 0.25)])], &["y", "z"])).unwrap();
    assert_eq!(with, [[-1.0, -0.5, 1.0, 2.0], [-0.5, -0.25, 1.0, 2.0]]);
}

#[test]
fn a_function_may_pass_on_its_input_and_leave_inputs_out() {
    let clip = node("Clip", &["a", "low", "high"], &["b"]);
    let function = function("Limit", &["a", "low", "high"], &["b", "a"], vec![clip]);
    let mut zero = node("Constant", &[], &["zero"]);
    zero.attribute.push(float("value_float", 0.0));
    let nodes = vec![zero, call("Limit", &["x", "zero"], &["y", "same"])];
    let found = run(&model(nodes, vec![function], &["y", "same"])).unwrap();
    assert_eq!(found, [[0.0, 0.0, 1.0, 2.0], [-2.0, -1.0, 1.0, 2.0]]);
}

#[test]
fn nodes_of_a_function_are_of_its_opset() {
    // The axes of `ReduceSum` are an attribute before opset 13, an input from then on.
    let mut sum = node("ReduceSum", &["a"], &["b"]);
    sum.attribute.push(AttributeProto {
        name: "axes".to_string(),
        ints: vec![0],
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    });
    // Softmax of one axis is over all from axis 1 before opset 13: each number alone.
    let softmax = node("Softmax", &["a"], &["c"]);
    let mut function = function("Old", &["a"], &["b", "c"], vec![sum, softmax]);
    let mut expand = node("Unsqueeze", &["x", "axes"], &["row"]);
    expand.attribute.clear();
    let mut axes = node("Constant", &[], &["axes"]);
    axes.attribute.push(AttributeProto {
        name: "value_ints".to_string(),
        ints: vec![1, 2],
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    });
    let nodes = vec![axes, expand, call("Old", &["row"], &["sum", "each"])];
    function.opset_import = opset(11);
    let found = run(&model(nodes.clone(), vec![function.clone()], &["sum", "each"])).unwrap();
    assert_eq!(found, [vec![0.0], vec![1.0; 4]]);
}

#[test]
fn functions_that_call_themselves_or_grow_without_end_are_errors() {
    let circle = vec![
        function("A", &["a"], &["b"], vec![call("B", &["a"], &["b"])]),
        function("B", &["a"], &["b"], vec![call("A", &["a"], &["b"])]),
    ];
    assert_error(&model(vec![call("A", &["x"], &["y"])], circle, &["y"]), "mine.A calls itself");
    // 2^40 nodes.
    let mut functions = vec![function("F0", &["a"], &["b"], vec![node("Relu", &["a"], &["b"])])];
    for i in 0..40 {
        let inner = format!("F{i}");
        let twice = vec![call(&inner, &["a"], &["m"]), call(&inner, &["m"], &["b"])];
        functions.push(function(&format!("F{}", i + 1), &["a"], &["b"], twice));
    }
    let start = std::time::Instant::now();
    let large = model(vec![call("F40", &["x"], &["y"])], functions.clone(), &["y"]);
    assert_error(&large, "more than 100000 nodes");
    // The same without nodes.
    functions[0].node.clear();
    let empty = model(vec![call("F40", &["x"], &["y"])], functions.clone(), &["y"]);
    assert_error(&empty, "more than 100000 nodes");
    assert!(start.elapsed().as_secs() < 20);
    functions.push(functions[3].clone());
    assert_error(&model(vec![node("Relu", &["x"], &["y"])], functions, &["y"]), "two functions mine.F3");
}

#[test]
fn calls_that_do_not_fit_are_errors() {
    let relu = function("F", &["a"], &["b"], vec![node("Relu", &["a"], &["b"])]);
    let error = |caller: NodeProto, expected: &str| {
        assert_error(&model(vec![caller], vec![relu.clone()], &["y"]), expected);
    };
    error(call("F", &["x", "x"], &["y"]), "the function mine.F has 1 inputs, the node 2");
    error(call("F", &["x"], &["y", "z"]), "the function mine.F has 1 outputs, the node 2");
    error(call("G", &["x"], &["y"]), "y (mine.G)");
    let unknown = function("F", &["a"], &["b"], vec![node("Strange", &["a"], &["b"])]);
    assert_error(&model(vec![call("F", &["x"], &["y"])], vec![unknown], &["y"]), "y/b (Strange)");
}
