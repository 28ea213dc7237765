//! Layers against PyTorch in double precision: outputs, gradients and what is printed. The values are in
//! `tests/torch/layers.json`, which `tests/torch/layers_golden.py` writes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::Tape;
use neocog_layers::{Builder, Context, LayerSpec, print, state};
use neocog_tensor::{Device, Shape, Tensor};
use neocog_tests as _;
use serde_json::Value;

/// Elements `sin(stream + position) · scale`.
fn wave(shape: &Shape, stream: f64, scale: f64, device: &Device) -> Tensor {
    let values: Vec<f64> = (0..shape.elements()).map(|i| (stream + i as f64).sin() * scale).collect();
    Tensor::from_f64(*shape, &values, device).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn extents(value: &Value) -> Shape {
    Shape::new(&numbers(value).into_iter().map(|v| v as usize).collect::<Vec<_>>()).unwrap()
}

fn assert_close(found: &Tensor, expected: &Value, tolerance: f64, what: &str) {
    let (found, expected) = (found.to_f64().unwrap(), numbers(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3, |a: f64, v| a.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what}: element {i} is {f:e}, PyTorch has {e:e}");
    }
}

#[test]
fn layers_agree_with_pytorch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("torch/layers.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 38);
    for (device, tolerance) in neocog_tests::devices().iter().zip([1e-12, 1e-5, 1e-5]) {
        for case in cases {
            let spec = LayerSpec::from_json(&case["spec"].to_string()).unwrap();
            let what = format!("{} on {device}", case["spec"]);
            let shape = extents(&case["shape"]);
            let layer = Builder::new(device, 0).build(&spec, &shape).unwrap();
            if let Some(printed) = case["printed"].as_str() {
                // `bias` of norms is not printed before PyTorch 2.15.
                let norm = printed.split('(').next().unwrap().contains("Norm");
                let without_bias = || printed.replace(", bias=True", "").replace(", bias=False", "");
                let expected = if norm { without_bias() } else { printed.to_string() };
                assert_eq!(print::pytorch(&*layer), expected);
            }
            let params = state::params(&*layer);
            for (i, (_, param)) in params.iter().enumerate() {
                param.set(&wave(&param.shape(), 10.0 * (i + 1) as f64, 0.5, device)).unwrap();
            }
            let tape = Tape::new();
            let x = tape.leaf(wave(&shape, 1.0, 4.0, device));
            let y = layer.forward(&Context::train(&tape, 0), &x).unwrap();
            assert_eq!(*y.shape(), extents(&case["output_shape"]), "{what}");
            assert_close(y.tensor(), &case["output"], tolerance, &what);
            let dy: Vec<f64> = (0..y.shape().elements()).map(|i| (i as f64).cos()).collect();
            let dy = Tensor::from_f64(*y.shape(), &dy, device).unwrap();
            let grads = tape.backward_from(&[(&y, dy)]).unwrap();
            let expected = case["grads"].as_object().unwrap();
            assert_eq!(expected.len(), params.len() + 1, "{what}");
            assert_close(grads.get(&x).unwrap(), &expected["input"], tolerance, &what);
            for (name, param) in params {
                assert_close(
                    grads.param(param).unwrap(),
                    &expected[&name],
                    tolerance,
                    &format!("{what}: {name}"),
                );
            }
        }
    }
}
