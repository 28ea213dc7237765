//! Export: a network as an ONNX model.
//!
//! A network is traced for batches of two and of three inputs. What differs between the two graphs is the batch, which is
//! symbolic in the model. Each operation is written by its form (`register_onnx_form!`).

mod dims;
pub mod form;
mod forms;
mod model;
mod options;

use neocog_base::{Context as _, Error, ErrorKind, Result};
use neocog_graph::{Graph, Source};
use neocog_layers::{Layer, inference_graph, state};
use neocog_tensor::Shape;
use prost::Message as _;

use self::dims::Dim;
use self::form::{Form, find};
use self::model::Model;
pub use self::options::{BATCH, DEFAULT_OPSET, ExportOptions, INPUT, Normalization, OPSETS, OUTPUT};

/// Batch sizes of the two traces.
const BATCHES: [usize; 2] = [2, 3];

/// Returns the bytes of an ONNX model that computes the network in evaluation mode, for inputs `[n, ..input]` with any `n`.
///
/// Parameters have their names in the state of the network.
///
/// # Errors
/// When the network does not accept such an input or cannot be traced; when operations have no form, all of which the message
/// names; when the opset is not in [`OPSETS`]; when the model is larger than the two gigabytes of an ONNX file.
pub fn export_network(network: &dyn Layer, input: &[usize], options: &ExportOptions) -> Result<Vec<u8>> {
    if !OPSETS.contains(&options.opset) {
        return Err(Error::invalid_argument(format!(
            "opset {} cannot be written; use one from {} to {}",
            options.opset,
            OPSETS.start(),
            OPSETS.end()
        )));
    }
    let graphs = [trace(network, input, BATCHES[0])?, trace(network, input, BATCHES[1])?];
    check_forms(&graphs[0])?;
    let mut model = Model::new(options.opset);
    for (name, entry) in state::entries(network) {
        if let Some(param) = entry.tensor() {
            model.name_tensor(param.value(), name);
        }
    }
    let values = write_nodes(&mut model, &graphs, options)?;
    let model = finish(model, &graphs, &values, options)?;
    // Messages of protocol buffers have at most 2 GiB.
    if model.encoded_len() >= i32::MAX as usize {
        return Err(Error::invalid_argument(format!(
            "the model has {} bytes, and an ONNX file at most {}",
            model.encoded_len(),
            i32::MAX
        )));
    }
    Ok(model.encode_to_vec())
}

fn trace(network: &dyn Layer, input: &[usize], batch: usize) -> Result<Graph> {
    let mut extents = vec![batch];
    extents.extend_from_slice(input);
    inference_graph(network, &Shape::new(&extents)?)
}

/// Checks that every operation has a form.
fn check_forms(graph: &Graph) -> Result<()> {
    let mut missing: Vec<String> = Vec::new();
    for node in graph.nodes().iter().filter(|node| find(node.op.name()).is_none()) {
        let of = node.scope.name().map_or(String::new(), |layer| format!(" of {layer}"));
        missing.push(format!("{}{of}", node.op.name()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "operations without an ONNX form: {}; register one with register_onnx_form!",
            missing.join(", ")
        ),
    ))
}

/// Writes all operations; returns the names of the values.
fn write_nodes(model: &mut Model, graphs: &[Graph; 2], options: &ExportOptions) -> Result<Vec<String>> {
    let [first, second] = graphs;
    if !first.operations().eq(second.operations()) {
        return Err(Error::invalid_argument("the network computes other operations for other batch sizes"));
    }
    let mut names: Vec<String> = vec![String::new(); first.value_count()];
    names[0] = input_value(model, first.shape(0), options)?;
    for (node, other) in first.nodes().iter().zip(second.nodes()) {
        let location = || {
            node.scope.name().map_or(node.op.name().into(), |layer| format!("{layer} ({})", node.op.name()))
        };
        let form = find(node.op.name()).expect("checked by check_forms");
        if !form.by_shape && format!("{:?}", node.op) != format!("{:?}", other.op) {
            return Err(Error::invalid_argument(
                "the operation depends on the size of the batch in a way that a model cannot",
            ))
            .context(location);
        }
        let prefix = node.scope.name().unwrap_or("").to_string();
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (i, source) in node.inputs.iter().enumerate() {
            inputs.push(match source {
                Source::Value(value) => {
                    let dims =
                        Dim::of(first.shape(*value), second.shape(*value), BATCHES).context(location)?;
                    form::Input::value(names[*value].clone(), dims)
                }
                Source::Constant(tensor) => {
                    let hint = format!("{prefix}.{}.{i}", node.op.name());
                    form::Input::constant(model.constant(tensor, hint)?, tensor.clone())
                }
            });
        }
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for &value in &node.outputs {
            names[value] = if *first.outputs() == [value] && !options.softmax {
                OUTPUT.to_string()
            } else {
                model.unique(format!("{prefix}/{}", node.op.name()))
            };
            let dims = Dim::of(first.shape(value), second.shape(value), BATCHES).context(location)?;
            outputs.push((names[value].clone(), dims));
        }
        let mut context = Form::new(model, prefix, inputs, outputs);
        (form.write)(&*node.op, &mut context).context(location)?;
    }
    Ok(names)
}

/// Returns the name of the network's input: that of the model, or what the preprocessing makes of it.
fn input_value(model: &mut Model, shape: &Shape, options: &ExportOptions) -> Result<String> {
    let Some(Normalization { mean, std }) = &options.normalization else { return Ok(INPUT.to_string()) };
    let mut form = Form::new(model, "preprocessing".to_string(), Vec::new(), Vec::new());
    let channels = shape.get(1).copied().unwrap_or(1);
    let fits = |values: &[f32]| values.len() == mean.len() && [0, 1, channels].contains(&values.len());
    if !fits(mean) || !fits(std) {
        return Err(Error::invalid_argument(format!(
            "the normalization has {} means and {} standard deviations for {channels} channels",
            mean.len(),
            std.len()
        )));
    }
    let floats =
        form.node("Cast", [INPUT], [("to", form::Attribute::Int(crate::proto::DataType::Float as i64))]);
    let largest = form.scalar("largest", 255.0)?;
    let mut value = form.node("Div", [&floats, &largest], []);
    if !mean.is_empty() {
        let mut extents = vec![1; shape.rank().max(2)];
        extents[1] = mean.len();
        let mean = form.floats("mean", &extents, mean)?;
        let std = form.floats("std", &extents, std)?;
        let centered = form.node("Sub", [&value, &mean], []);
        value = form.node("Div", [&centered, &std], []);
    }
    Ok(value)
}

/// Adds the output, and what surrounds a graph.
fn finish(
    mut model: Model,
    graphs: &[Graph; 2],
    values: &[String],
    options: &ExportOptions,
) -> Result<crate::proto::ModelProto> {
    let [&[output], &[other]] = [graphs[0].outputs(), graphs[1].outputs()] else {
        return Err(Error::invalid_argument("the network must have one output"));
    };
    let dims = Dim::of(graphs[0].shape(output), graphs[1].shape(other), BATCHES).context(|| "the output")?;
    let mut form =
        Form::new(&mut model, OUTPUT.to_string(), Vec::new(), vec![(OUTPUT.to_string(), dims.clone())]);
    if options.softmax {
        if dims.len() < 2 {
            return Err(Error::invalid_argument("the output has no axis of classes for a softmax"));
        }
        form.finish("Softmax", [&values[output]], [("axis", form::Attribute::Int(1))]);
    } else if values[output] != OUTPUT {
        // The output is the input, or the output of an operation with several.
        form.finish("Identity", [&values[output]], []);
    }
    let input = Dim::of(graphs[0].shape(0), graphs[1].shape(0), BATCHES)?;
    Ok(model.into_proto(&input, &dims, options))
}
