//! `import`: a checkpoint from the weights in a safetensors file or one of `torch.save`, or a network of layers from an ONNX file.

use std::path::PathBuf;

use neocog_data::Preprocessing;
use neocog_data::transform::Pipeline;
use neocog_layers::weights;
use neocog_tensor::{Context as _, Device, Result};
use neocog_train::{Trainer, check_classes};
use serde::Serialize;

use super::import_onnx::import_onnx;
use super::network::{NetworkArgs, load_weights};
use super::onnx_network::is_onnx;
use super::trained_network::{check_channels, described_by};
use crate::help::examples;
use crate::normalization::{InputTransforms, add_fixed};
use crate::output;
use crate::outputs;
use crate::register_command;

/// Import weights of PyTorch, a safetensors or .pth file, as a checkpoint, or an ONNX model as a network.
///
/// An ONNX model that is made of neocog's layers becomes the JSON file of a network, --to NAME.json, and its weights
/// NAME.safetensors beside it: for `train --spec NAME.json --weights NAME.safetensors`. `run` runs any ONNX model as it is.
///
/// The file is as written by safetensors.torch.save_file(net.state_dict(), FILE) or torch.save(net.state_dict(), FILE), with tensors of type F64, F32, F16 or
/// BF16. The checkpoint has the network's training recipe at epoch 0: use it with `eval`, `predict` and `train --resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog import resnet.safetensors --network resnet --data fashion-mnist --to resnet.ckpt
  neocog import my.safetensors --spec my.json --data mnist --to my.ckpt --partial
  neocog import net.onnx --to net.json"))]
struct Args {
    /// Safetensors file, or ONNX model.
    #[arg(value_name = "WEIGHTS|MODEL.onnx")]
    weights: PathBuf,
    /// Network of the weights; `summary` lists them.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    network_args: NetworkArgs,
    /// Data set, for the class names, `eval` and `train --resume`; not for ONNX models.
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    #[command(flatten)]
    transforms: InputTransforms,
    /// Checkpoint to write, or the JSON file of an ONNX model's network.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Load the tensors that match and list the others (PyTorch's strict=False).
    #[arg(long)]
    partial: bool,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    to: String,
    loaded: usize,
    #[serde(rename = "left")]
    skipped: Vec<String>,
}

register_command!("import", 100, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    outputs::check([args.weights.as_path()], [args.to.as_path()])?;
    if is_onnx(&args.weights) {
        return import_onnx(&args.weights, &args.to, args.json);
    }
    let Some(data) = &args.data else {
        output::usage_error("the data set of the network is missing; use --data NAME");
    };
    let mut selected = args.network_args.select(args.network.as_deref())?;
    let metadata = weights::metadata(&args.weights)?;
    let location = || args.weights.display().to_string();
    selected.adapt_to_weights(&metadata, Some(data)).context(location)?;
    let input = selected.input()?;
    let preprocessing = Preprocessing::new(input, &Pipeline::default(), Some(data));
    let (preprocessing, class_names) =
        described_by(&metadata, preprocessing, Some(data)).context(location)?;
    let (mut config, classes) = (selected.config(data)?, class_names.len());
    // Of the recipe's transforms, those of training stay; the others belong to the weights.
    let fixed = args.transforms.apply(&preprocessing.transforms, input)?;
    check_channels(&fixed, input[0])?;
    config.transforms.steps.retain(|step| step.is_random());
    add_fixed(&mut config.transforms.steps, fixed.steps);
    config.transforms.check()?;
    let trainer = Trainer::with_classes(config, selected.spec.clone(), input, class_names, &Device::Cpu);
    let mut trainer = trainer.context(|| selected.name())?;
    check_classes(trainer.network(), input, classes, data).context(|| selected.name())?;
    let loaded = load_weights(trainer.network(), &args.weights, args.partial)?;
    trainer.checkpoint()?.write(&args.to)?;
    let row = JsonRow {
        network: selected.name(),
        to: args.to.display().to_string(),
        loaded: loaded.loaded.len(),
        skipped: loaded.differences().iter().map(ToString::to_string).collect(),
    };
    if args.json {
        return output::json(&row);
    }
    output::line(format_args!("wrote a checkpoint of {} to {}", row.network, row.to))
}
