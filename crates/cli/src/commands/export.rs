//! `export`: the weights of a checkpoint as a safetensors file.

use std::path::PathBuf;

use neocog_base::file::{check_distinct, check_output_file};
use neocog_base::text::{count, noun_for};
use neocog_layers::state::{self, Entry};
use neocog_layers::weights;
use neocog_tensor::{Context as _, Device, Result};
use neocog_train::Checkpoint;
use serde::Serialize;

use crate::help::examples;
use crate::output::{self, thousands};
use crate::register_command;

/// Export the weights of a checkpoint as safetensors, for PyTorch.
///
/// Tensors have the names of PyTorch's state_dict: net.load_state_dict(safetensors.torch.load_file(FILE)) loads them. The
/// metadata hold the preprocessing of the images, such as the normalization, and the class names: `eval`, `predict` and
/// `import` use them.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog export runs/lenet-digits/best.ckpt --to lenet.safetensors
  neocog eval --network lenet --weights lenet.safetensors --data digits"))]
struct Args {
    /// Checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    file: PathBuf,
    /// Output file.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
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
    check_distinct(&args.file, &args.to)?;
    check_output_file(&args.to)?;
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
