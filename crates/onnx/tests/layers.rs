//! Networks that are exported and imported as layers again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::random::Random;
use neocog_layers::{Builder, Layer, Predictor, state};
use neocog_onnx::proto::{ModelProto, NodeProto};
use neocog_onnx::{ExportOptions, OnnxModel, export_network};
use neocog_tensor::{Device, Shape, Tensor};
use prost::Message as _;

/// A network with random statistics and biases.
fn build(name: &str, input: [usize; 3]) -> Box<dyn Layer> {
    let spec = neocog_models::find(name).unwrap().spec_for(input, 10).unwrap();
    let [c, h, w] = input;
    let network = Builder::new(&Device::Cpu, 1).build(&spec, &[1, c, h, w].into()).unwrap();
    for (name, entry) in state::entries(&*network) {
        let Some(param) = entry.tensor().filter(|param| param.shape().rank() == 1) else { continue };
        let mut random = Random::stream(3, &name);
        let values: Vec<f32> = (0..param.shape().elements()).map(|_| random.next_uniform(0.5, 1.5)).collect();
        param.set(&Tensor::from_f32(param.shape(), &values, &Device::Cpu).unwrap()).unwrap();
    }
    network
}

#[test]
fn exported_networks_become_layers_again() {
    for (name, input) in [
        ("lenet", [1, 28, 28]),
        ("lenet_bn", [1, 28, 28]),
        ("resnet18", [3, 32, 32]),
        ("mobilenet_v2", [3, 32, 32]),
        ("squeezenet1_1", [3, 32, 32]),
        ("tv_googlenet", [3, 32, 32]),
        ("efficientnet_b0", [3, 32, 32]),
    ] {
        let network = build(name, input);
        let bytes = export_network(&*network, &input, &ExportOptions::new(name)).unwrap();
        let found =
            OnnxModel::from_bytes(bytes, None).unwrap().to_layers().unwrap_or_else(|e| panic!("{name}: {e}"));
        let shape = Shape::new(&[&[2], &input[..]].concat()).unwrap();
        let again = found.build(&shape, &Device::Cpu).unwrap();
        assert_eq!(state::param_count(&*again), state::param_count(&*network), "{name}");
        let mut random = Random::new(9);
        let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
        let x = Tensor::from_f32(shape, &values, &Device::Cpu).unwrap();
        let expected = Predictor::new(network).run(&x).unwrap().to_f32().unwrap();
        let found = Predictor::new(again).run(&x).unwrap().to_f32().unwrap();
        let scale = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
        let off = expected.iter().zip(&found).fold(0f32, |a, (e, f)| a.max((e - f).abs()));
        assert!(off <= 1e-4 * scale, "{name}: {off} of {scale}");
    }
}

#[test]
fn constants_under_other_names_are_found() {
    let network = build("lenet_bn", [1, 28, 28]);
    let bytes = export_network(&*network, &[1, 28, 28], &ExportOptions::new("lenet_bn")).unwrap();
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut nodes = Vec::new();
    for mut node in std::mem::take(&mut graph.node) {
        // As PyTorch's exporter does with weights that are equal.
        for input in node.input.iter_mut().skip(1) {
            let other = format!("{input} again");
            nodes.push(NodeProto {
                op_type: "Identity".into(),
                input: vec![input.clone()],
                output: vec![other.clone()],
                ..NodeProto::default()
            });
            *input = other;
        }
        nodes.push(node);
    }
    graph.node = nodes;
    let found = OnnxModel::from_bytes(model.encode_to_vec(), None).unwrap().to_layers().unwrap();
    let again = found.build(&[2, 1, 28, 28].into(), &Device::Cpu).unwrap();
    assert_eq!(state::param_count(&*again), state::param_count(&*network));
}

#[test]
fn what_is_not_made_of_layers_is_an_error_with_its_node() {
    let input = [3, 32, 32];
    let network = build("shufflenet_v2_x0_5", input);
    let bytes = export_network(&*network, &input, &ExportOptions::new("shufflenet")).unwrap();
    let error = OnnxModel::from_bytes(bytes, None).unwrap().to_layers().unwrap_err().to_string();
    assert!(error.contains("stage2.0/reshape (Reshape): the node is no layer"), "{error}");
}
