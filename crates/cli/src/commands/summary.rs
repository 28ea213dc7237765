//! `summary`: the layers of a network, with shapes, parameters and memory.

use std::path::Path;

use neocog_layers::receptive_field::ReceptiveField;
use neocog_layers::summary::{Row, Summary, summarize};
use neocog_models::{Family, models_of};
use neocog_tensor::{Device, Result, Shape};
use serde::Serialize;

use super::network::{NetworkArgs, SelectedNetwork};
use super::onnx_network::is_onnx;
use super::summary_onnx::summary_onnx;
use crate::help::examples;
use crate::output::{self, thousands};
use crate::register_command;

/// List networks, or print the layers of a network.
///
/// For a batch of one image, prints each layer's output shape, parameters, multiply-adds, receptive field and activation
/// memory.
///
/// The receptive field of an output element is the region of the image that it depends on: its size, its stride (the distance
/// between those of neighboring elements), and the center of the first one (0 is the first pixel; with padding, it can be
/// outside the image). Training memory is what a layer saves for its backward pass, without tensors that earlier layers
/// save; prediction memory is what is allocated while the layer runs. Of an ONNX model, prints the nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog summary                                      all networks
  neocog summary --family torchvision
  neocog summary resnet
  neocog summary vgg --input 3x64x64 --classes 100
  neocog summary lenet_bn --style pytorch
  neocog summary --spec my.json
  neocog summary net.onnx
  neocog summary lenet --json"))]
struct Args {
    /// Network, or ONNX model [default: a table of all networks of a family].
    network: Option<String>,
    /// Networks of the table: notes or torchvision [default: notes].
    #[arg(long, value_name = "FAMILY", conflicts_with_all = ["network", "spec"])]
    family: Option<Family>,
    #[command(flatten)]
    network_args: NetworkArgs,
    /// Output style: a table, or the modules as printed by PyTorch; from version 2.15 on, it also prints bias=True of norms.
    #[arg(long, value_enum, default_value = "table")]
    style: Style,
    /// Print one JSON object per network: name, parameters, macs, activation memory in bytes, and layers.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Style {
    Table,
    Pytorch,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    input: &'a [usize],
    parameters: u64,
    macs: u64,
    training_bytes: usize,
    prediction_bytes: usize,
    layers: Vec<LayerRow<'a>>,
}

#[derive(Serialize)]
struct LayerRow<'a> {
    name: &'a str,
    kind: &'a str,
    output: &'a [usize],
    parameters: usize,
    macs: u64,
    receptive_field: Option<ReceptiveFieldRow>,
    training_bytes: usize,
    prediction_bytes: usize,
}

#[derive(Serialize)]
struct ReceptiveFieldRow {
    size: [usize; 2],
    stride: [usize; 2],
    /// JSON of 0.1 has this name.
    #[serde(rename = "centre")]
    center: [f64; 2],
}

register_command!("summary", 60, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    if let Some(file) = args.network.as_deref().map(Path::new).filter(|file| is_onnx(file)) {
        return summary_onnx(file, args.network_args.input(), args.json);
    }
    let single = args.network.is_some() || args.network_args.spec.is_some();
    let networks = if single {
        let mut selected = args.network_args.select(args.network.as_deref())?;
        selected.infer_input();
        vec![selected]
    } else {
        let models = models_of(args.family.unwrap_or_default())?;
        models.iter().map(|model| args.network_args.select(Some(model.name))).collect::<Result<_>>()?
    };
    let mut rows = Vec::new();
    for selected in &networks {
        let network = selected.build(&args.network_args, &Device::Meta)?;
        let [c, h, w] = selected.input()?;
        let input = Shape::from([1, c, h, w]);
        if let Style::Pytorch = args.style {
            output::line(neocog_layers::print::pytorch(&*network))?;
            continue;
        }
        let summary = summarize(&*network, &input)?;
        if args.json {
            output::json(&json_row(selected.name(), &input, &summary))?;
        } else if single {
            print_layers(selected, &input, &summary)?;
        } else {
            rows.push(network_row(selected, &input, &summary));
        }
    }
    if !rows.is_empty() {
        let head = ["network", "input", "parameters", "multiply-adds", "train", "predict", "description"];
        output::line(output::table(head, [false, false, true, true, true, true, false], rows))?;
    }
    Ok(())
}

/// A row of the table of all networks.
fn network_row(selected: &SelectedNetwork, input: &Shape, summary: &Summary) -> [String; 7] {
    [
        selected.name().to_string(),
        input.to_string(),
        thousands(summary.parameters as u64),
        thousands(summary.multiply_adds),
        kib(summary.training_bytes),
        kib(summary.prediction_bytes),
        selected.about().to_string(),
    ]
}

/// Prints the table of a network's layers.
fn print_layers(selected: &SelectedNetwork, input: &Shape, summary: &Summary) -> Result<()> {
    let mut rows: Vec<[String; 10]> = summary.rows.iter().map(layer_row).collect();
    let mut total = [const { String::new() }; 10];
    total[0] = "total".into();
    total[3] = thousands(summary.parameters as u64);
    total[4] = thousands(summary.multiply_adds);
    total[8] = kib(summary.training_bytes);
    total[9] = format!("{} peak", kib(summary.prediction_bytes));
    rows.push(total);
    let about = if selected.about().is_empty() { String::new() } else { format!(": {}", selected.about()) };
    output::line(format_args!("{}{about}; input {input}", selected.name()))?;
    let head = [
        "name",
        "layer",
        "output",
        "parameters",
        "multiply-adds",
        "receptive field",
        "stride",
        "center",
        "train",
        "predict",
    ];
    let right = [false, false, false, true, true, true, true, true, true, true];
    output::line(output::table(head, right, rows))
}

/// A row of the table of layers.
fn layer_row(row: &Row) -> [String; 10] {
    let [size, stride, center] = row.receptive_field.map_or([const { String::new() }; 3], |field| {
        let ReceptiveField { size, stride, center } = field;
        [pair(size), pair(stride), pair(center)]
    });
    [
        if row.path.is_empty() { "-".into() } else { row.path.clone() },
        row.label.clone(),
        row.output.to_string(),
        thousands(row.parameters as u64),
        thousands(row.multiply_adds),
        size,
        stride,
        center,
        kib(row.training_bytes),
        kib(row.prediction_bytes),
    ]
}

/// One number if both axes are equal, or `HxW`.
fn pair<T: PartialEq + std::fmt::Display>([a, b]: [T; 2]) -> String {
    if a == b { a.to_string() } else { format!("{a}x{b}") }
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", thousands(bytes.div_ceil(1024) as u64))
}

fn json_row<'a>(name: &'a str, input: &'a Shape, summary: &'a Summary) -> JsonRow<'a> {
    let layers = summary.rows.iter().map(|row| LayerRow {
        name: &row.path,
        kind: &row.label,
        output: row.output.extents(),
        parameters: row.parameters,
        macs: row.multiply_adds,
        receptive_field: row.receptive_field.map(|f| ReceptiveFieldRow {
            size: f.size,
            stride: f.stride,
            center: f.center,
        }),
        training_bytes: row.training_bytes,
        prediction_bytes: row.prediction_bytes,
    });
    JsonRow {
        name,
        input: input.extents(),
        parameters: summary.parameters as u64,
        macs: summary.multiply_adds,
        training_bytes: summary.training_bytes,
        prediction_bytes: summary.prediction_bytes,
        layers: layers.collect(),
    }
}
