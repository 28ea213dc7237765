//! `summary`: what a network consists of.

use neocog_layers::receptive_field::ReceptiveField;
use neocog_layers::summary::{Row, Summary, summarize};
use neocog_tensor::{Device, Result, Shape};
use serde::Serialize;

use super::network::{NetworkArgs, SelectedNetwork};
use crate::help::examples;
use crate::output::{self, thousands};
use crate::register_command;

/// Shows a network: its layers, the shapes of their outputs, parameters, multiply-adds, receptive fields and the memory of
/// its activations, for one image.
///
/// A receptive field is the part of the picture that a number of the output can depend on: its size, how far those of
/// neighbours are apart, and where the middle of the first one is (0 is the first pixel; padding can move it outside).
/// Memory in training is what a layer keeps for its gradient and no layer before it kept; in prediction it is what exists
/// while the layer computes.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog summary resnet
  neocog summary vgg --input 3x64x64 --classes 100
  neocog summary lenet_bn --style pytorch
  neocog summary --spec my.json
  neocog summary lenet --json"))]
struct Args {
    /// The network; all that are registered, in one table, if absent.
    network: Option<String>,
    #[command(flatten)]
    which: NetworkArgs,
    /// A table, or the structure as PyTorch prints it.
    #[arg(long, value_enum, default_value = "table")]
    style: Style,
    /// One line of JSON for each network instead: name, parameters, macs, bytes of activations, and its layers.
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
    layers: Vec<LayerLine<'a>>,
}

#[derive(Serialize)]
struct LayerLine<'a> {
    name: &'a str,
    kind: &'a str,
    output: &'a [usize],
    parameters: usize,
    macs: u64,
    receptive_field: Option<FieldLine>,
    training_bytes: usize,
    prediction_bytes: usize,
}

#[derive(Serialize)]
struct FieldLine {
    size: [usize; 2],
    stride: [usize; 2],
    centre: [f64; 2],
}

register_command!("summary", 90, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let one = args.network.is_some() || args.which.spec.is_some();
    let networks = if one {
        vec![args.which.choose(args.network.as_deref())?]
    } else {
        let models = neocog_models::models()?;
        models.iter().map(|model| args.which.choose(Some(model.name))).collect::<Result<_>>()?
    };
    let mut all = Vec::new();
    for chosen in &networks {
        let network = chosen.build(&args.which, &Device::Meta)?;
        let [c, h, w] = chosen.input()?;
        let input = Shape::from([1, c, h, w]);
        match args.style {
            Style::Pytorch => output::line(neocog_layers::print::pytorch(&*network))?,
            Style::Table => {
                let summary = summarize(&*network, &input)?;
                match one {
                    _ if args.json => output::json(&line(chosen.name(), &input, &summary))?,
                    true => show(chosen, &input, &summary)?,
                    false => all.push(overview(chosen, &input, &summary)),
                }
            }
        }
    }
    if !all.is_empty() {
        let head = ["network", "input", "parameters", "multiply-adds", "train", "predict", "what it is"];
        output::line(output::table(head, [false, false, true, true, true, true, false], all))?;
    }
    Ok(())
}

/// A network's row in the table of all.
fn overview(chosen: &SelectedNetwork, input: &Shape, summary: &Summary) -> [String; 7] {
    [
        chosen.name().to_string(),
        input.to_string(),
        thousands(summary.parameters as u64),
        thousands(summary.multiply_adds),
        kib(summary.training_bytes),
        kib(summary.prediction_bytes),
        chosen.about().to_string(),
    ]
}

/// The table of one network.
fn show(chosen: &SelectedNetwork, input: &Shape, summary: &Summary) -> Result<()> {
    let mut rows: Vec<[String; 10]> = summary.rows.iter().map(row).collect();
    let mut total = [const { String::new() }; 10];
    total[0] = "total".into();
    total[3] = thousands(summary.parameters as u64);
    total[4] = thousands(summary.multiply_adds);
    total[8] = kib(summary.training_bytes);
    total[9] = format!("{} at most", kib(summary.prediction_bytes));
    rows.push(total);
    let about = if chosen.about().is_empty() { String::new() } else { format!(": {}", chosen.about()) };
    output::line(format_args!("{}{about}; input {input}", chosen.name()))?;
    let head = [
        "name",
        "layer",
        "output",
        "parameters",
        "multiply-adds",
        "sees",
        "stride",
        "centre",
        "train",
        "predict",
    ];
    let right = [false, false, false, true, true, true, true, true, true, true];
    output::line(output::table(head, right, rows))
}

fn row(row: &Row) -> [String; 10] {
    let [size, stride, centre] = row.receptive_field.map_or([const { String::new() }; 3], |field| {
        let ReceptiveField { size, stride, centre } = field;
        [pair(size), pair(stride), pair(centre)]
    });
    [
        if row.path.is_empty() { "-".into() } else { row.path.clone() },
        row.label.clone(),
        row.output.to_string(),
        thousands(row.parameters as u64),
        thousands(row.multiply_adds),
        size,
        stride,
        centre,
        kib(row.training_bytes),
        kib(row.prediction_bytes),
    ]
}

/// One number for both axes where they agree.
fn pair<T: PartialEq + std::fmt::Display>([a, b]: [T; 2]) -> String {
    if a == b { a.to_string() } else { format!("{a}x{b}") }
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", thousands(bytes.div_ceil(1024) as u64))
}

fn line<'a>(name: &'a str, input: &'a Shape, summary: &'a Summary) -> JsonRow<'a> {
    let layers = summary.rows.iter().map(|row| LayerLine {
        name: &row.path,
        kind: &row.label,
        output: row.output.extents(),
        parameters: row.parameters,
        macs: row.multiply_adds,
        receptive_field: row.receptive_field.map(|f| FieldLine {
            size: f.size,
            stride: f.stride,
            centre: f.centre,
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
