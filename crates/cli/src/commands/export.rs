//! `export`: the weights of a checkpoint as a safetensors file, or its network as an ONNX file.

use std::path::PathBuf;

use neocog_base::text::{count, noun_for};
use neocog_layers::state::{self, Entry};
use neocog_layers::weights;
use neocog_tensor::{Context as _, Device, Result};
use neocog_train::Checkpoint;
use serde::Serialize;

use super::onnx_network::is_onnx;
use crate::help::examples;
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
#[command(after_help = examples("Examples:
  neocog export runs/lenet-digits/best.ckpt --to lenet.safetensors
  neocog export runs/lenet-digits/best.ckpt --to lenet.onnx --softmax
  neocog eval --network lenet --weights lenet.safetensors --data digits"))]
struct Args {
    /// Checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    file: PathBuf,
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
    outputs::check([args.file.as_path()], [args.to.as_path()])?;
    if is_onnx(&args.to) {
        return export_onnx(args);
    }
    if let Some(option) = args.onnx.given() {
        output::usage_error(format_args!("{option} is for ONNX files, whose names end with .onnx"));
    }
    let checkpoint = Checkpoint::read(&args.file)?;
    let network = checkpoint.network(&Device::Cpu).context(|| args.file.display().to_string())?;
    let metadata = checkpoint.preprocessing().metadata(&checkpoint.class_names);
    weights::save_with_metadata(&*network, &args.to, &metadata)?;
    let skipped: Vec<String> = state::entries(&*network)
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
        network: &checkpoint.config.network,
        to: args.to.display().to_string(),
        tensors: state::state_dict(&*network).len(),
        parameters: state::param_count(&*network),
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

#[cfg(not(feature = "onnx"))]
fn export_onnx(_args: &Args) -> Result<()> {
    Err(super::onnx_network::without_onnx())
}

#[cfg(feature = "onnx")]
fn export_onnx(args: &Args) -> Result<()> {
    use neocog_onnx::{ExportOptions, export_network};

    let checkpoint = Checkpoint::read(&args.file)?;
    let network = checkpoint.network(&Device::Cpu).context(|| args.file.display().to_string())?;
    let preprocessing = checkpoint.preprocessing();
    let mut options = ExportOptions::new(&checkpoint.config.network);
    options.opset = args.onnx.opset.unwrap_or(options.opset);
    options.softmax = args.onnx.softmax;
    if args.onnx.preprocess {
        options.normalization = Some(normalization(&preprocessing)?);
    }
    options.metadata = preprocessing.metadata(&checkpoint.class_names);
    // What says that a weights file is for PyTorch.
    options.metadata.remove("format");
    options.metadata.insert("neocog.network".to_string(), checkpoint.config.network.clone());
    let bytes = export_network(&*network, &checkpoint.input, &options)?;
    neocog_base::file::replace(&args.to, |file| std::io::Write::write_all(file, &bytes))
        .map_err(|e| neocog_tensor::Error::io(format!("cannot write {}", args.to.display()), e))?;
    let row = JsonOnnxRow {
        network: &checkpoint.config.network,
        to: args.to.display().to_string(),
        opset: options.opset,
        parameters: state::param_count(&*network),
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
    use neocog_tensor::Error;

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
