//! `eval`: what a trained network is worth.

use std::path::PathBuf;

use neocog_data::known::DEFAULT_ROOT;
use neocog_data::{Loader, LoaderOptions};
use neocog_tensor::{Context as _, Device, Error, Result};
use neocog_train::{check_fits, evaluate, load_data};
use serde::Serialize;

use super::network::Weights;
use crate::help::examples;
use crate::output;
use crate::register_command;

/// Runs a trained network over a data set and tells its loss and accuracy.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog eval runs/lenet-digits/best.ckpt
  neocog eval runs/lenet-fashion-mnist/last.ckpt --part train --json
  neocog eval --network resnet --weights resnet.safetensors --data fashion-mnist"))]
struct Args {
    /// The checkpoint.
    #[arg(required_unless_present = "weights")]
    file: Option<PathBuf>,
    #[command(flatten)]
    weights: Weights,
    /// The data set; for a checkpoint, the one it was trained on if absent.
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    data: Option<String>,
    /// The folder that holds a folder for each data set.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    data_dir: PathBuf,
    /// NetworkArgs images.
    #[arg(long, value_enum, default_value = "test")]
    part: SplitArg,
    /// Images in a batch: changes the speed only.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Where to compute: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference (double
    /// precision, plain loops, slow).
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// One line of JSON instead.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    Test,
    Train,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    data: &'a str,
    part: &'a str,
    images: u64,
    loss: f64,
    acc: f64,
    images_per_s: f64,
}

register_command!("eval", 40, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let trained = args.weights.open(args.file.as_deref(), args.data.as_deref(), &args.device)?;
    let plan = trained.checkpoint.as_ref().map(|checkpoint| &checkpoint.config);
    let (data, limit) = match (&args.data, plan) {
        (Some(data), plan) => (data.as_str(), plan.and_then(|plan| plan.limit)),
        (None, Some(plan)) => (plan.data.as_str(), plan.limit),
        (None, None) => return Err(Error::invalid_argument("say which data set: --data NAME")),
    };
    let split = load_data(data, limit, &args.data_dir)?;
    let (part, dataset) = match args.part {
        SplitArg::Test => ("test", split.test),
        SplitArg::Train => ("train", split.train),
    };
    let [_, h, w] = trained.input;
    check_fits(&*trained.network, trained.input, &dataset).context(|| trained.name.as_str())?;
    let augment = trained.transforms().into_augment(0);
    let options = LoaderOptions { batch: args.batch, size: (h, w), augment, ..LoaderOptions::default() };
    let result = evaluate(&*trained.network, &Loader::new(dataset, options)?, &args.device)?;
    if args.json {
        return output::json(&JsonRow {
            network: &trained.name,
            data,
            part,
            images: result.images,
            loss: result.loss,
            acc: result.accuracy,
            images_per_s: result.images_per_s,
        });
    }
    let epochs = trained
        .checkpoint
        .as_ref()
        .map_or(String::new(), |checkpoint| format!(" after {} epochs", checkpoint.position.epoch));
    output::line(format_args!(
        "{}{epochs} on {} images of {data} ({part}): loss {:.4}, accuracy {:.4}, {:.0} images/s",
        trained.name, result.images, result.loss, result.accuracy, result.images_per_s
    ))
}
