//! `export`: the weights of a trained network as a safetensors file, or the network as an ONNX file.

use std::path::{Path, PathBuf};

use neocog_base::text::{count, noun_for};
use neocog_layers::state::{self, Entry};
use neocog_layers::weights;
use neocog_tensor::{Device, Error, Result};
use serde::Serialize;

use super::network::WeightsArgs;
use super::onnx_network::is_onnx;
use super::trained_network::TrainedNetwork;
use crate::help::{examples, usages};
use crate::output::{self, thousands};
use crate::outputs;
use crate::register_command;

/// Export the weights of a checkpoint as safetensors, for PyTorch, or its network as ONNX.
///
/// A file whose name ends with .onnx is an ONNX model with any batch size: input `input` [n, c, h, w], preprocessed, output
/// `output` [n, classes], the logits. Other files are safetensors.
///
/// Tensors have the names of PyTorch's state_dict: net.load_state_dict(safetensors.torch.load_file(FILE)) loads them. The
/// metadata hold the preprocessing of the images, such as the normalization, and the class names: `eval`, `predict` and
/// `import` use them.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "export [OPTIONS] --to <FILE> <CHECKPOINT>",
        "export [OPTIONS] --to <FILE> --weights <FILE> <--network <NAME>|--spec <FILE>>",
    ]),
    after_help = examples("Examples:
  neocog export runs/lenet-digits/best.ckpt --to lenet.safetensors
  neocog export runs/lenet-digits/best.ckpt --to lenet.onnx --softmax
  neocog export --network mobilenet_v2 --weights mobilenet_v2.pth --preset imagenet --to mobilenet_v2.onnx
  neocog eval --network lenet --weights lenet.safetensors --data digits")
)]
struct Args {
    /// Checkpoint.
    #[arg(
        value_name = "CHECKPOINT",
        required_unless_present = "weights",
        conflicts_with_all = WeightsArgs::IN_PLACE_OF_CHECKPOINT
    )]
    file: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Output file.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    onnx: OnnxArgs,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

/// What an ONNX file contains.
#[derive(Clone, Debug, clap::Args)]
struct OnnxArgs {
    /// Version of ONNX's operator set, 17 to 22, of an .onnx file [default: 18].
    #[arg(long, value_name = "VERSION")]
    opset: Option<i64>,
    /// Let an .onnx file compute probabilities instead of logits.
    #[arg(long)]
    softmax: bool,
    /// Let an .onnx file take images of bytes, [n, c, h, w] of the network's size, and scale and normalize them itself.
    #[arg(long)]
    preprocess: bool,
}

impl OnnxArgs {
    /// Returns the first option that is given.
    fn given(&self) -> Option<&'static str> {
        let all = [
            (self.opset.is_some(), "--opset"),
            (self.softmax, "--softmax"),
            (self.preprocess, "--preprocess"),
        ];
        all.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    to: String,
    tensors: usize,
    parameters: usize,
}

register_command!("export", 90, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    outputs::check(args.file.as_deref().or(args.weights.file()), [args.to.as_path()])?;
    if is_onnx(&args.to) {
        return export_onnx(args);
    }
    if let Some(option) = args.onnx.given() {
        output::usage_error(format_args!("{option} is for ONNX files, whose names end with .onnx"));
    }
    let extension = args.to.extension().map(|extension| extension.to_ascii_lowercase());
    if extension.is_some_and(|own| ["pth", "pt", "ckpt", "npz", "npy"].iter().any(|other| own == *other)) {
        return Err(Error::invalid_argument(format!(
            "{}: weights are written as safetensors; choose a name that ends with .safetensors",
            args.to.display()
        )));
    }
    let trained = open(args)?;
    let network = &*trained.network;
    let metadata = trained.preprocessing.metadata(&trained.class_names);
    weights::save_with_metadata(network, &args.to, &metadata)?;
    let skipped: Vec<String> = state::entries(network)
        .into_iter()
        .filter(|(_, entry)| matches!(entry, Entry::Buffer(buffer) if !buffer.is_persistent()))
        .map(|(name, _)| name)
        .collect();
    if !skipped.is_empty() {
        output::note(format_args!(
            "skipped non-persistent buffers, which PyTorch's state_dict does not contain: {}",
            skipped.join(", ")
        ));
    }
    let row = JsonRow {
        network: &trained.name,
        to: args.to.display().to_string(),
        tensors: state::state_dict(network).len(),
        parameters: state::param_count(network),
    };
    if args.json {
        return output::json(&row);
    }
    output::line(format_args!(
        "wrote {} of {} with {} {} to {}",
        count(row.tensors, "tensor"),
        row.network,
        thousands(row.parameters as u64),
        noun_for(&row.parameters, "parameter"),
        row.to
    ))
}

/// Opens the network that is exported.
fn open(args: &Args) -> Result<TrainedNetwork> {
    if let Some(file) = args.file.as_deref().filter(|file: &&Path| is_onnx(file)) {
        return Err(Error::invalid_argument(format!(
            "{} is an ONNX model: `import` makes layers of it",
            file.display()
        )));
    }
    args.weights.open(args.file.as_deref(), None, &Device::Cpu)
}

#[cfg(not(feature = "onnx"))]
fn export_onnx(_args: &Args) -> Result<()> {
    Err(super::onnx_network::without_onnx())
}

#[cfg(feature = "onnx")]
fn export_onnx(args: &Args) -> Result<()> {
    use neocog_onnx::{ExportOptions, export_network};

    let trained = open(args)?;
    let (network, preprocessing) = (&*trained.network, &trained.preprocessing);
    let mut options = ExportOptions::new(&trained.name);
    options.opset = args.onnx.opset.unwrap_or(options.opset);
    options.softmax = args.onnx.softmax;
    if args.onnx.preprocess {
        options.normalization = Some(normalization(preprocessing)?);
    }
    options.metadata = preprocessing.metadata(&trained.class_names);
    // What says that a weights file is for PyTorch.
    options.metadata.remove("format");
    options.metadata.insert("neocog.network".to_string(), trained.name.clone());
    let bytes = export_network(network, &trained.input, &options)?;
    neocog_base::file::replace(&args.to, |file| std::io::Write::write_all(file, &bytes))
        .map_err(|e| Error::io(format!("cannot write {}", args.to.display()), e))?;
    let row = JsonOnnxRow {
        network: &trained.name,
        to: args.to.display().to_string(),
        opset: options.opset,
        parameters: state::param_count(network),
    };
    if args.json {
        return output::json(&row);
    }
    output::line(format_args!(
        "wrote {} with {} {} as ONNX of opset {} to {}",
        row.network,
        thousands(row.parameters as u64),
        noun_for(&row.parameters, "parameter"),
        row.opset,
        row.to
    ))
}

#[cfg(feature = "onnx")]
#[derive(Serialize)]
struct JsonOnnxRow<'a> {
    network: &'a str,
    to: String,
    opset: i64,
    parameters: usize,
}

/// Returns the normalization of a preprocessing, and notes what else it consists of.
#[cfg(feature = "onnx")]
fn normalization(preprocessing: &neocog_data::Preprocessing) -> Result<neocog_onnx::Normalization> {
    use neocog_data::Inversion;
    use neocog_data::transform::Step;

    let mut found = neocog_onnx::Normalization::default();
    for step in &preprocessing.transforms.steps {
        match step {
            Step::Normalize(normalize) if found.mean.is_empty() => {
                found.mean.clone_from(&normalize.mean);
                found.std.clone_from(&normalize.std);
            }
            Step::Normalize(_) => {
                return Err(Error::invalid_argument(
                    "--preprocess: an ONNX file can hold one normalization, not several",
                ));
            }
            _ => {}
        }
    }
    if preprocessing.transforms.sets_size() {
        output::note(format_args!(
            "images must be resized and cropped before: see neocog.preprocessing in the metadata"
        ));
    }
    if preprocessing.inversion == Inversion::Auto {
        output::note(format_args!(
            "the ONNX model does not invert images with a bright border; invert them first"
        ));
    }
    Ok(found)
}
