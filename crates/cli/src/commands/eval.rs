//! `eval`: loss and accuracy of a trained network.

use std::path::PathBuf;

use neocog_base::text::count;
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Error, Result};
use neocog_train::{MemoryNeed, check_fits, evaluate, load_data};
use serde::Serialize;

use super::network::WeightsArgs;
use crate::arguments::{DataDirArg, DeviceArg, positive};
use crate::help::{examples, usages};
use crate::output;
use crate::register_command;

/// Evaluate a trained network on a data set.
///
/// Prints the mean loss and the accuracy.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "eval [OPTIONS] <CHECKPOINT>",
        "eval [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> --data <NAME>",
    ]),
    after_help = examples("Examples:
  neocog eval runs/lenet-digits/best.ckpt
  neocog eval runs/lenet-fashion-mnist/last.ckpt --part train --json
  neocog eval runs/lenet-digits/best.ckpt --limit 100
  neocog eval --network resnet --weights resnet.safetensors --data fashion-mnist"))]
struct Args {
    /// Checkpoint.
    #[arg(
        value_name = "CHECKPOINT",
        required_unless_present = "weights",
        conflicts_with_all = ["weights", "network", "spec", "input", "classes"]
    )]
    file: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Data set [default: the one the checkpoint was trained on].
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Split of the data set.
    #[arg(long, value_enum, value_name = "SPLIT", default_value = "test")]
    part: SplitArg,
    /// Use only the first N images of the split [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Batch size; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the result as a JSON object.
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
    if args.file.is_none() && args.data.is_none() {
        output::usage_error("no data set given; use --data NAME");
    }
    let device = &args.device.device;
    let trained = args.weights.open(args.file.as_deref(), args.data.as_deref(), device)?;
    let config = trained.checkpoint.as_ref().map(|checkpoint| &checkpoint.config);
    let data = match (&args.data, config) {
        (Some(data), _) => data.as_str(),
        (None, Some(config)) => config.data.as_str(),
        (None, None) => return Err(Error::invalid_argument("no data set given; use --data NAME")),
    };
    let split = load_data(data, args.limit, &args.data_dir.data_dir)?;
    output::warnings(&split);
    let (part, dataset) = match args.part {
        SplitArg::Test => ("test", split.test),
        SplitArg::Train => ("train", split.train),
    };
    let [_, h, w] = trained.input;
    check_fits(&*trained.network, trained.input, &dataset).context(|| trained.name.as_str())?;
    let augment = trained.transforms().into_augment(0);
    let options = LoaderOptions::new().batch_size(args.batch).image_size((h, w)).augment(augment);
    let predictor = Predictor::new(trained.network);
    let loader = Loader::new(dataset, options)?;
    let shape = [args.batch.min(loader.dataset().len()), trained.input[0], h, w];
    output::memory_warning(&MemoryNeed::of_inference(&predictor, shape, loader.options().workers, device)?);
    let result = evaluate(&predictor, &loader, device)?;
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
        .map_or(String::new(), |checkpoint| format!(" after {}", count(checkpoint.position.epoch, "epoch")));
    output::line(format_args!(
        "{}{epochs} on {} of {data} ({part}): loss {:.4}, accuracy {:.4}, {:.0} images/s",
        trained.name,
        count(result.images, "image"),
        result.loss,
        result.accuracy,
        result.images_per_s
    ))
}
