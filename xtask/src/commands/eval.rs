//! `eval`: what a trained network is worth.

use std::path::PathBuf;

use neocog_data::known::DEFAULT_ROOT;
use neocog_data::{Loader, LoaderOptions};
use neocog_tensor::{Device, Result};
use neocog_train::{Checkpoint, check_fits, evaluate};
use serde::Serialize;

use crate::output;

/// Runs a trained network over a data set and tells its loss and accuracy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask eval runs/lenet-digits/best.ckpt
  cargo xtask eval runs/lenet-fashion-mnist/last.ckpt --part train --json")]
pub struct Args {
    /// The checkpoint.
    file: PathBuf,
    /// Another data set than the one it was trained on.
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// The folder that holds a folder for each data set.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    data_dir: PathBuf,
    /// Which images.
    #[arg(long, value_enum, default_value = "test")]
    part: Part,
    /// Images in a batch: changes the speed only.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Where to compute: cpu, or reference (double precision, slow).
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// One line of JSON instead.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    Test,
    Train,
}

#[derive(Serialize)]
struct Line<'a> {
    network: &'a str,
    data: &'a str,
    part: &'a str,
    images: u64,
    loss: f64,
    acc: f64,
    images_per_s: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::read(&args.file)?;
    let network = checkpoint.network(&args.device)?;
    let mut plan = checkpoint.plan.clone();
    if let Some(data) = &args.data {
        plan.data.clone_from(data);
    }
    let data = plan.load_data(&args.data_dir)?;
    let (part, dataset) = match args.part {
        Part::Test => ("test", data.test),
        Part::Train => ("train", data.train),
    };
    check_fits(&*network, checkpoint.input, &dataset)?;
    let [_, h, w] = checkpoint.input;
    let augment = plan.transforms.fixed().into_augment(plan.seed);
    let options = LoaderOptions { batch: args.batch, size: (h, w), augment, ..LoaderOptions::default() };
    let result = evaluate(&*network, &Loader::new(dataset, options)?, &args.device)?;
    if args.json {
        return output::json(&Line {
            network: &plan.network,
            data: &plan.data,
            part,
            images: result.images,
            loss: result.loss,
            acc: result.accuracy,
            images_per_s: result.images_per_s,
        });
    }
    output::line(format_args!(
        "{} after {} epochs on {} images of {} ({part}): loss {:.4}, accuracy {:.4}, {:.0} images/s",
        plan.network,
        checkpoint.position.epoch,
        result.images,
        plan.data,
        result.loss,
        result.accuracy,
        result.images_per_s
    ))
}
