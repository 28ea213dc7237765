//! The arguments of `train`.

use std::path::PathBuf;
use std::time::Duration;

use neocog_tensor::{Error, Result};
use neocog_train::{Decay, OptimizerKind, ParamGroup, SaveEvery};

use super::log::LogArgs;
use super::options::OptionArgs;
use super::parts::{CACHE, PartArgs};
use super::transforms::Transforms;
use crate::arguments::{DataDirArg, DeviceArg, non_negative, positive};
use crate::byte_size::ByteSize;
use crate::commands::network::NetworkArgs;
use crate::help::examples;

/// The default of --save-every: a kill costs minutes.
pub(super) const SAVE_EVERY: SaveEvery = SaveEvery::Time(Duration::from_secs(600));

/// Train a network and write checkpoints.
///
/// Hyperparameters default to the network's recipe and are printed at the start; for the small data set digits, the recipe
/// uses smaller batches, more epochs and augmentation. After each epoch, writes OUT/last.ckpt, and OUT/best.ckpt if the
/// accuracy is the best so far: on the validation images, or on the test images of data sets without any. One training at a time writes to a directory; checkpoints of an earlier one are replaced
/// with --overwrite only.
///
/// Ctrl-C, SIGTERM or SIGHUP stops after the current batch, writes OUT/last.ckpt and exits with code 130; --resume continues
/// from it bit-for-bit if the data, the kind of device, the instruction set and the version are the same.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog train
  neocog train lenet_bn --data fashion-mnist
  neocog train lenet_bn --data fashion-mnist --flip --crop-padding 2 --normalize
  neocog train lenet --epochs 10 --batch 64 --optimizer sgd --lr 0.1 --schedule cosine
  neocog train --spec my.json --data mnist
  neocog train resnet --data ./flowers
  neocog train resnet --data ./flowers --val 0.2 --test 0.1 --final-test
  neocog train resnet --data fashion-mnist --weights resnet.safetensors
  neocog train --spec my.json --data mnist --weights my.pth --freeze 'features|layer[1-3]' --lr-group head=1e-3
  neocog train --resume runs/lenet-digits/last.ckpt --epochs 60
  neocog train vgg --data fashion-mnist --save-every 500steps
  neocog train lenet --out runs/lenet-digits --overwrite
  neocog train lenet --tensorboard logs/lenet
  neocog train lenet --label-smoothing 0.1 --mixup --ema --schedule one-cycle
  neocog train --config run.toml --seed 2
  neocog train --json > epochs.jsonl"))]
pub struct Args {
    /// Network; `summary` lists them [default: lenet].
    pub(super) network: Option<String>,
    /// TOML file with options: `lr = 0.1`, `schedule = "cosine"`, `flip = true`. Options on the command line win. OUT/config.toml of a
    /// run is such a file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write all options, those of the recipe included, to a file for --config, and train.
    #[arg(long, value_name = "FILE")]
    pub(super) write_config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) network_args: NetworkArgs,
    /// File with initial weights, such as PyTorch's: safetensors, or of torch.save. The last layer is left out if it has another
    /// number of classes. Images are prepared as the metadata of the file say, unless --preset, --normalize or others do.
    #[arg(long, value_name = "FILE")]
    pub(super) weights: Option<PathBuf>,
    /// Load the tensors of --weights that match and list the others (PyTorch's strict=False).
    #[arg(long, requires = "weights")]
    pub(super) partial: bool,
    /// Data set: digits (embedded), fashion-mnist, mnist or another that `data` lists (fetched with `fetch-data`), or a folder
    /// of images: one folder for each class, or train/, val/ and test/ with such folders [default: digits].
    #[arg(long, value_name = "NAME|DIR")]
    pub(super) data: Option<String>,
    #[command(flatten)]
    pub(super) data_dir: DataDirArg,
    /// Number of epochs; with --resume, the total including finished ones [default: the recipe's].
    #[arg(long, value_name = "N", value_parser = |text: &str| positive(text).map(|n| n as u64))]
    pub(super) epochs: Option<u64>,
    /// Batch size [default: the recipe's].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) batch: Option<usize>,
    /// Learning rate [default: the recipe's; with --optimizer, PyTorch's default].
    #[arg(long, value_name = "RATE", value_parser = non_negative)]
    pub(super) lr: Option<f64>,
    /// Optimizer: adam, adamw, lamb, lion, muon, rmsprop or sgd [default: the recipe's].
    #[arg(long, value_name = "NAME", value_parser = OptimizerKind::named)]
    pub(super) optimizer: Option<OptimizerKind>,
    /// Momentum of sgd, rmsprop and muon.
    #[arg(long, value_name = "FACTOR", value_parser = non_negative)]
    pub(super) momentum: Option<f64>,
    /// Weight decay of the optimizer.
    #[arg(long, value_name = "FACTOR", value_parser = non_negative)]
    pub(super) weight_decay: Option<f64>,
    /// Freeze the parameters and running statistics whose names match a regular expression; head is the last layer.
    #[arg(long, value_name = "REGEX")]
    pub(super) freeze: Option<String>,
    /// Learning rate, and weight decay, of the parameters whose names match a regular expression; head is the last layer. May be
    /// given several times: the first that matches a parameter counts.
    #[arg(long, value_name = "REGEX=LR[,DECAY]")]
    pub(super) lr_group: Vec<ParamGroup>,
    /// Apply the weight decay, also that of --lr-group, to weights only, not to biases and norms.
    #[arg(long)]
    pub(super) decay_weights_only: bool,
    /// Learning rate schedule: constant, step (times 0.1 after each third of the epochs), multi-step, linear, exponential,
    /// polynomial, cosine (decay to 0), cosine-restarts, one-cycle or plateau.
    ///
    /// Parameters follow a colon: multi-step:epochs=10/15,factor=0.2. A product of schedules is written `linear * exponential`, one
    /// after the other `constant for 5 then cosine`. Names and values are those of torch.optim.lr_scheduler; the printed
    /// configuration and --write-config show all parameters.
    #[arg(long, value_name = "NAME[:PARAMETER=VALUE,...]", value_parser = schedule)]
    pub(super) schedule: Option<String>,
    /// Number of linear warm-up steps.
    #[arg(long, value_name = "STEPS")]
    pub(super) warm_up: Option<u64>,
    /// Random seed of initialization, shuffling, augmentation and dropout [default: 0].
    #[arg(long, value_name = "SEED")]
    pub(super) seed: Option<u64>,
    /// Use only the first N training and N test images.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(super) limit: Option<usize>,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub workers: usize,
    /// Maximum memory for images of a folder that are decoded and resized, such as 2GiB.
    #[arg(long, value_name = "SIZE", default_value_t = CACHE)]
    pub(super) cache: ByteSize,
    /// After the last epoch, evaluate on the test images, once: the network of the best epoch, if there is a validation part to
    /// choose it on, or else that of the last.
    #[arg(long)]
    pub(super) final_test: bool,
    #[command(flatten)]
    pub(super) device: DeviceArg,
    /// Divide the optimizer's state among the processes that mpirun has started: less memory in each, the same result.
    #[arg(long)]
    pub(super) shard_optimizer: bool,
    /// Directory for checkpoints [default: runs/NETWORK-DATA, or runs/NETWORK-DATA-2 and so on if that exists; with --resume,
    /// that of the checkpoint].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Keep the checkpoints of the latest K epochs, as OUT/epoch-N.ckpt, besides the last and the best one.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(super) keep: u64,
    /// Stop after this time, such as 30m or 8h, at the end of a step, write OUT/last.ckpt, and exit with code 0.
    #[arg(long, value_name = "TIME", value_parser = time_budget)]
    pub(super) time_budget: Option<Duration>,
    /// Add a line to OUT/log.jsonl every N steps, besides that of each epoch; 0 for epochs only.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) log_every: u64,
    /// Replace the checkpoints of an earlier run in the output directory.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Write OUT/last.ckpt within epochs too: after a time, such as 10m or 1h, after steps, such as 500steps, or never.
    #[arg(long, value_name = "INTERVAL", default_value_t = SAVE_EVERY)]
    pub(super) save_every: SaveEvery,
    /// Start the schedule anew with the resumed epoch, over the rest of the run, instead of stretching it to the new number of
    /// epochs.
    #[arg(long, requires = "resume")]
    pub(super) schedule_from_here: bool,
    /// Resume even if the data, the device, the instruction set or the version differ; the result then differs as well.
    #[arg(long, requires = "resume")]
    pub(super) allow_different: bool,
    /// Resume from a checkpoint; combines only with --epochs, --schedule-from-here, --data (where
    /// the same data are now), --data-dir, --workers, --cache, --final-test,
    /// --device, --out, --overwrite, --save-every, --log-every, --keep, --time-budget, --allow-different, --skip-broken, --shard-optimizer, --tensorboard and what
    /// belongs to it, --ui and --json.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["batch", "lr", "optimizer", "momentum", "weight_decay", "schedule", "warm_up",
            "Transforms", "val", "test", "folds", "fold", "fast_decode", "class_weights", "sampler", "OptionArgs", "seed", "limit", "spec", "input", "classes", "weights", "freeze", "lr_group",
            "decay_weights_only"]
    )]
    pub(super) resume: Option<PathBuf>,
    /// Print one JSON object per epoch.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub(super) options: OptionArgs,
    #[command(flatten)]
    pub(super) parts: PartArgs,
    #[command(flatten)]
    pub(super) transforms: Transforms,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Parses a time.
fn time_budget(text: &str) -> Result<Duration> {
    match text.parse() {
        Ok(SaveEvery::Time(time)) => Ok(time),
        _ => Err(Error::invalid_argument(format!("`{text}` is not a time, such as 30m, 90s or 8h"))),
    }
}

/// Checks a schedule; the number of epochs, which its defaults depend on, is not known yet.
fn schedule(text: &str) -> Result<String> {
    text.parse::<Decay>().map(|_| text.to_string())
}
