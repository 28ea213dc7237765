//! `import`: a checkpoint of the weights in a safetensors file.

use std::path::PathBuf;

use neocog_data::DatasetInfo;
use neocog_tensor::{Context as _, Device, Result};
use neocog_train::{Trainer, check_classes};
use serde::Serialize;

use super::network::{NetworkArgs, load_weights};
use crate::help::examples;
use crate::output;
use crate::register_command;

/// Makes a checkpoint of the weights in a safetensors file, as PyTorch saves them.
///
/// The file is one of safetensors.torch.save_file(net.state_dict(), FILE), with numbers of the types F64, F32, F16 or BF16.
/// The checkpoint is at the beginning of the network's recipe: `eval` and `predict` take it, and `train --resume`
/// trains it further.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog import resnet.safetensors --network resnet --data fashion-mnist --to resnet.ckpt
  neocog import my.safetensors --spec my.json --data mnist --to my.ckpt --partial"))]
struct Args {
    /// The safetensors file.
    weights: PathBuf,
    /// The registered network that the weights are for.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    which: NetworkArgs,
    /// The data set: it names the classes, and `eval` and `train --resume` use it.
    #[arg(long, value_name = "NAME")]
    data: String,
    /// The checkpoint to write.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Loads what fits, and tells what did not.
    #[arg(long)]
    partial: bool,
    /// One line of JSON instead.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    to: String,
    loaded: usize,
    left: Vec<String>,
}

register_command!("import", 70, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let chosen = args.which.choose(args.network.as_deref())?;
    let names: Vec<String> =
        DatasetInfo::find(&args.data)?.class_names.iter().map(ToString::to_string).collect();
    let (plan, classes) = (chosen.plan(&args.data)?, names.len());
    let input = chosen.input()?;
    let mut training = Trainer::with_classes(plan, chosen.spec.clone(), input, names, &Device::Cpu)
        .context(|| chosen.name())?;
    check_classes(training.network(), input, classes, &args.data).context(|| chosen.name())?;
    let done = load_weights(training.network(), &args.weights, args.partial)?;
    training.checkpoint()?.write(&args.to)?;
    let line = JsonRow {
        network: chosen.name(),
        to: args.to.display().to_string(),
        loaded: done.loaded.len(),
        left: done.skipped.iter().map(ToString::to_string).collect(),
    };
    if args.json {
        return output::json(&line);
    }
    output::line(format_args!("wrote a checkpoint of {} to {}", line.network, line.to))
}
