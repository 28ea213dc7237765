//! `train`: training, from the start or from a checkpoint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{ArgMatches, Args as _};
use neocog_base::file::{check_output_file, is_same};
use neocog_base::program;
use neocog_base::text::count;
use neocog_data::catalog::{DEFAULT_DATASET, DEFAULT_ROOT};
use neocog_data::{DataSource, Split};
use neocog_tensor::{Context as _, Device, Error, Result};
use neocog_train::{
    CheckpointDir, Decay, Environment, FitOutcome, OptimizerKind, ParamGroup, SaveEvery, TrainConfig,
    Trainer, check_fits,
};

use super::network::{NetworkArgs, SelectedNetwork, load_pretrained, load_weights};
use crate::arguments::{DataDirArg, DeviceArg, non_negative, positive};
use crate::byte_size::ByteSize;
use crate::help::examples;
use crate::interrupt::{INTERRUPTED, stop_on_signal};
use crate::output;
use crate::outputs;
use crate::register_command;

pub mod config_file;
mod final_test;
mod live;
mod log;
mod options;
mod parts;
mod progress;
mod report;
mod summary;
mod transforms;

use log::{LogArgs, Logged};
use options::OptionArgs;
use parts::{CACHE, PartArgs};
use progress::Report;
pub use report::REPORT;
use summary::{print_configuration, result};
use transforms::Transforms;

/// The default of --save-every: a kill costs minutes.
const SAVE_EVERY: SaveEvery = SaveEvery::Time(Duration::from_secs(600));

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
    network: Option<String>,
    /// TOML file with options: `lr = 0.1`, `schedule = "cosine"`, `flip = true`. Options on the command line win. OUT/config.toml of a
    /// run is such a file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write all options, those of the recipe included, to a file for --config, and train.
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    #[command(flatten)]
    network_args: NetworkArgs,
    /// File with initial weights, such as PyTorch's: safetensors, or of torch.save. The last layer is left out if it has another
    /// number of classes.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Load the tensors of --weights that match and list the others (PyTorch's strict=False).
    #[arg(long, requires = "weights")]
    partial: bool,
    /// Data set: digits (embedded), fashion-mnist, mnist or another that `data` lists (fetched with `fetch-data`), or a folder
    /// of images: one folder for each class, or train/, val/ and test/ with such folders [default: digits].
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Number of epochs; with --resume, the total including finished ones [default: the recipe's].
    #[arg(long, value_name = "N", value_parser = |text: &str| positive(text).map(|n| n as u64))]
    epochs: Option<u64>,
    /// Batch size [default: the recipe's].
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Learning rate [default: the recipe's; with --optimizer, PyTorch's default].
    #[arg(long, value_name = "RATE", value_parser = non_negative)]
    lr: Option<f64>,
    /// Optimizer: adam, adamw, lamb, lion, muon, rmsprop or sgd [default: the recipe's].
    #[arg(long, value_name = "NAME", value_parser = OptimizerKind::named)]
    optimizer: Option<OptimizerKind>,
    /// Momentum of sgd, rmsprop and muon.
    #[arg(long, value_name = "FACTOR", value_parser = non_negative)]
    momentum: Option<f64>,
    /// Weight decay of the optimizer.
    #[arg(long, value_name = "FACTOR", value_parser = non_negative)]
    weight_decay: Option<f64>,
    /// Freeze the parameters and running statistics whose names match a regular expression.
    #[arg(long, value_name = "REGEX")]
    freeze: Option<String>,
    /// Learning rate, and weight decay, of the parameters whose names match a regular expression; head is the last layer. May be
    /// given several times.
    #[arg(long, value_name = "REGEX=LR[,DECAY]")]
    lr_group: Vec<ParamGroup>,
    /// Apply the weight decay to weights only, not to biases and norms.
    #[arg(long)]
    decay_weights_only: bool,
    /// Learning rate schedule: constant, step (times 0.1 after each third of the epochs), multi-step, linear, exponential,
    /// polynomial, cosine (decay to 0), cosine-restarts, one-cycle or plateau.
    ///
    /// Parameters follow a colon: multi-step:epochs=10/15,factor=0.2. A product of schedules is written `linear * exponential`, one
    /// after the other `constant for 5 then cosine`. Names and values are those of torch.optim.lr_scheduler; the printed
    /// configuration and --write-config show all parameters.
    #[arg(long, value_name = "NAME[:PARAMETER=VALUE,...]", value_parser = schedule)]
    schedule: Option<String>,
    /// Number of linear warm-up steps.
    #[arg(long, value_name = "STEPS")]
    warm_up: Option<u64>,
    /// Random seed of initialization, shuffling, augmentation and dropout [default: 0].
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Use only the first N training and N test images.
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub workers: usize,
    /// Maximum memory for images of a folder that are decoded and resized, such as 2GiB.
    #[arg(long, value_name = "SIZE", default_value_t = CACHE)]
    cache: ByteSize,
    /// After the last epoch, evaluate the best epoch's network on the test images, once.
    #[arg(long)]
    final_test: bool,
    #[command(flatten)]
    device: DeviceArg,
    /// Directory for checkpoints [default: runs/NETWORK-DATA, or runs/NETWORK-DATA-2 and so on if that exists; with --resume,
    /// that of the checkpoint].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the checkpoints of the latest K epochs, as OUT/epoch-N.ckpt, besides the last and the best one.
    #[arg(long, value_name = "K", default_value_t = 0)]
    keep: u64,
    /// Stop after this time, such as 30m or 8h, at the end of a step, write OUT/last.ckpt, and exit with code 0.
    #[arg(long, value_name = "TIME", value_parser = time_budget)]
    time_budget: Option<Duration>,
    /// Add a line to OUT/log.jsonl every N steps, besides that of each epoch; 0 for epochs only.
    #[arg(long, value_name = "N", default_value_t = 50)]
    log_every: u64,
    /// Replace the checkpoints of an earlier run in the output directory.
    #[arg(long)]
    overwrite: bool,
    /// Write OUT/last.ckpt within epochs too: after a time, such as 10m or 1h, after steps, such as 500steps, or never.
    #[arg(long, value_name = "INTERVAL", default_value_t = SAVE_EVERY)]
    save_every: SaveEvery,
    /// Start the schedule anew with the resumed epoch, over the rest of the run, instead of stretching it to the new number of
    /// epochs.
    #[arg(long, requires = "resume")]
    schedule_from_here: bool,
    /// Resume even if the data, the device, the instruction set or the version differ; the result then differs as well.
    #[arg(long, requires = "resume")]
    allow_different: bool,
    /// Resume from a checkpoint; combines only with --epochs, --schedule-from-here, --data-dir, --workers, --cache, --final-test,
    /// --device, --out, --overwrite, --save-every, --log-every, --keep, --time-budget, --allow-different, --tensorboard and what belongs to it, --ui and --json.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["data", "batch", "lr", "optimizer", "momentum", "weight_decay", "schedule", "warm_up",
            "Transforms", "PartArgs", "OptionArgs", "seed", "limit", "spec", "input", "classes", "weights", "freeze", "lr_group",
            "decay_weights_only"]
    )]
    resume: Option<PathBuf>,
    /// Print one JSON object per epoch.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    transforms: Transforms,
    #[command(flatten)]
    log: LogArgs,
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

register_command!("train", 30, Args, run, build command, with matches);

fn command() -> clap::Command {
    Args::augment_args(clap::Command::new("train"))
}

/// Runs the command.
fn run(args: &Args, matches: &ArgMatches) -> Result<ExitCode> {
    let given = config_file::given(&command(), matches);
    output::go_on_without_reader();
    if let Some(file) = &args.write_config {
        check_output_file(file)?;
        outputs::check_not_of_run(file)?;
    }
    let (mut trainer, data, folder) = match &args.resume {
        Some(file) => resume(args, file)?,
        None => start(args)?,
    };
    write_config(args, &given, &trainer, &data, &folder)?;
    trainer.set_workers(args.workers);
    trainer.set_save_every(args.save_every);
    trainer.set_log_every(args.log_every);
    trainer.set_keep(args.keep);
    trainer.set_time_budget(args.time_budget);
    trainer.set_cache_bytes(args.cache.0);
    if args.final_test {
        parts::check_final_test(&data)?;
    }
    let stop = stop_on_signal()?;

    if !folder.is_exclusive() {
        output::note(format_args!(
            "warning: the file system of {} has no locks: do not start another training there",
            folder.path().display()
        ));
    }
    print_configuration(&trainer, &data, &args.device.device);
    output::memory_need(&trainer.memory_need(&*data.train)?);
    let start = Instant::now();
    let (part, _) = data.evaluated()?;
    let mut report = Report::new(args.json, args.log.ui, &trainer, part, folder.path())?;
    let log = args.log.create(&trainer, &data)?;
    let mut logged = Logged { report: &mut report, log };
    let outcome = trainer.fit(&data, Some(&folder), &mut logged, &stop);
    if let Ok(FitOutcome::Finished) = outcome {
        logged.finish();
    }
    let written = report.finish();
    for file in folder.set_aside() {
        output::note(format_args!("kept what the resumed run replaces: {}", file.display()));
    }
    let outcome = outcome?;
    written?;
    match outcome {
        FitOutcome::Finished => {
            let text = result(&trainer, &folder, start);
            if args.json {
                output::note(format_args!("{text}"));
            } else {
                output::line(text)?;
            }
            report::write(&folder, &data, args.device.device, args.workers, None);
            if args.final_test {
                final_test::run(&trainer, &data, &folder, &args.device.device, args.json)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        FitOutcome::Stopped(file) => {
            let position = trainer.position();
            let by_signal = stop.load(Ordering::Relaxed);
            output::note(format_args!(
                "{}stopped in epoch {} after batch {}; resume with: {}",
                if by_signal { "" } else { "the time is over: " },
                position.epoch + 1,
                position.batch,
                resume_command(args, file.as_deref())
            ));
            report::write(&folder, &data, args.device.device, args.workers, Some(report::STOPPED_LIMIT));
            Ok(if by_signal { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
        }
    }
}

/// Writes the configuration of the run to its directory, and where the arguments ask for it.
fn write_config(
    args: &Args,
    given: &toml::Table,
    trainer: &Trainer,
    data: &Split,
    folder: &CheckpointDir,
) -> Result<()> {
    let own = folder.path().join(CheckpointDir::CONFIG);
    let own = (args.resume.is_none() || !own.exists()).then_some(own);
    let mut config = trainer.config().clone();
    config.environment = Environment::of(data, &args.device.device)?;
    own.iter().chain(&args.write_config).try_for_each(|file| config_file::write(file, given, &config))
}

/// Returns the command that resumes this run: what the checkpoint does not hold is repeated.
fn resume_command(args: &Args, checkpoint: Option<&Path>) -> String {
    let mut text = "train".to_string();
    let mut add = |option: &str, value: String| {
        // A value that starts with a dash would pass for an option.
        let separator = if value.starts_with('-') { '=' } else { ' ' };
        text += &format!(" {option}{separator}{value}");
    };
    if let Some(checkpoint) = checkpoint {
        add("--resume", program::quoted_path(checkpoint));
    }
    if args.data_dir.data_dir != Path::new(DEFAULT_ROOT) {
        add("--data-dir", program::quoted_path(&args.data_dir.data_dir));
    }
    if args.device.device != Device::Cpu {
        add("--device", program::quoted(&args.device.device.to_string()));
    }
    if args.workers != 1 {
        add("--workers", args.workers.to_string());
    }
    if args.cache != CACHE {
        add("--cache", args.cache.to_string());
    }
    if args.keep != 0 {
        add("--keep", args.keep.to_string());
    }
    if let Some(time) = args.time_budget {
        add("--time-budget", SaveEvery::Time(time).to_string());
    }
    if args.log_every != 50 {
        add("--log-every", args.log_every.to_string());
    }
    if args.save_every != SAVE_EVERY {
        add("--save-every", args.save_every.to_string());
    }
    args.log.given().into_iter().for_each(|(option, value)| add(option, value));
    let threads = rayon::current_num_threads();
    if std::thread::available_parallelism().is_ok_and(|all| all.get() != threads) {
        add("--threads", threads.to_string());
    }
    if args.final_test {
        text += " --final-test";
    }
    if args.json {
        text += " --json";
    }
    let environment = ["NEOCOG_SIMD", "NEOCOG_CONV"].iter().filter_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(format!("{name}={} ", program::quoted(&value)))
    });
    environment.collect::<String>() + &program::command(text)
}

/// Creates a trainer at epoch 0, loads the data set, and creates the directory.
fn start(args: &Args) -> Result<(Trainer, Split, CheckpointDir)> {
    let (trainer, data) = prepare(args)?;
    let folder = new_folder(args, trainer.config())?;
    Ok((trainer, data, folder))
}

/// Creates a trainer at epoch 0 and loads the data set.
///
/// # Errors
/// When the arguments do not fit each other, or the data cannot be read.
pub fn prepare(args: &Args) -> Result<(Trainer, Split)> {
    let source = DataSource::find(args.data.as_deref().unwrap_or(DEFAULT_DATASET))?;
    let mut selected = args.network_args.select(args.network.as_deref().or(Some("lenet")))?;
    let mut config = config(args, &selected)?;
    let data = config.load_data(&args.data_dir.data_dir)?;
    output::warnings(&data);
    parts::check_classes(&*data.train)?;
    selected.adapt(&*data.train)?;
    if let DataSource::Folder(_) = source {
        small_folder(args, &mut config, data.train.len());
    }
    let input = selected.input_for(&*data.train)?;
    config.transforms = args.transforms.pipeline(config.transforms, &*data.train, input)?;
    let location = match &args.network_args.spec {
        Some(file) => file.display().to_string(),
        None => selected.name().to_string(),
    };
    let trainer = Trainer::with_spec(config, selected.spec, input, &*data.train, &args.device.device)
        .and_then(|trainer| {
            check_fits(trainer.network(), input, &*data.train)?;
            Ok(trainer)
        })
        .context(|| location)?;
    if let Some(file) = &args.weights {
        if args.partial {
            load_weights(trainer.network(), file, true)?;
        } else {
            load_pretrained(trainer.network(), file)?;
        }
    }
    Ok((trainer, data))
}

/// Sets what the arguments leave open for a folder of few images: the recipes are for 60,000.
fn small_folder(args: &Args, config: &mut TrainConfig, images: usize) {
    const FEW: usize = 5_000;
    if images >= FEW {
        return;
    }
    if args.batch.is_none() {
        let batches = args.options.accumulated_batches();
        config.batch = (config.batch / batches).min(32) * batches;
    }
    if args.epochs.is_none() {
        config.epochs = config.epochs.max(30);
    }
    if args.schedule.is_none() {
        config.schedule.decay = Decay::Cosine { floor: 0.0 };
    }
}

/// Creates the directory of a new run.
fn new_folder(args: &Args, config: &TrainConfig) -> Result<CheckpointDir> {
    let data = DataSource::find(&config.data)?.short_name();
    let default = || Path::new("runs").join(format!("{}-{data}", config.network));
    match &args.out {
        Some(out) => unused(args, CheckpointDir::create(out)?),
        None if args.overwrite => CheckpointDir::create(default()),
        None => {
            let folder = CheckpointDir::create_numbered(&default())?;
            if folder.path() != default() {
                output::note(format_args!(
                    "{} exists: writing checkpoints to {}; --overwrite replaces those of an earlier run",
                    default().display(),
                    folder.path().display()
                ));
            }
            Ok(folder)
        }
    }
}

/// Checks that the directory holds no run, or may be overwritten.
fn unused(args: &Args, folder: CheckpointDir) -> Result<CheckpointDir> {
    if folder.holds_run() && !args.overwrite {
        return Err(Error::invalid_argument(format!(
            "{} holds the checkpoints of another run: choose another directory, or use --overwrite to replace them",
            folder.path().display()
        )));
    }
    Ok(folder)
}

/// Returns the network's recipe with the changes that the arguments ask for.
fn config(args: &Args, selected: &SelectedNetwork) -> Result<TrainConfig> {
    let mut config = selected.config(args.data.as_deref().unwrap_or(DEFAULT_DATASET))?;
    config.epochs = args.epochs.unwrap_or(config.epochs);
    (config.batch, config.shards) = args.options.batch_and_shards(args.batch.unwrap_or(config.batch))?;
    config.seed = args.seed.unwrap_or(config.seed);
    config.limit = args.limit;
    config.data_options = args.parts.options(None);
    config.class_balance = args.parts.class_balance();
    config.fast_decode = args.parts.fast_decode();
    if let Some(kind) = args.optimizer {
        if kind.name() != config.optimizer.kind.name() {
            config.optimizer.lr = kind.default_lr();
        }
        config.optimizer.kind = kind;
    }
    config.optimizer.lr = args.lr.unwrap_or(config.optimizer.lr);
    if let Some(momentum) = args.momentum {
        config.optimizer.kind = config.optimizer.kind.with_momentum(momentum)?;
    }
    if let Some(weight_decay) = args.weight_decay {
        config.optimizer.kind = config.optimizer.kind.with_weight_decay(weight_decay);
    }
    config.optimizer.kind = args.options.optimizer(config.optimizer.kind)?;
    config.options = args.options.options()?;
    config.freeze.clone_from(&args.freeze);
    config.param_groups.clone_from(&args.lr_group);
    config.decay_weights_only = args.decay_weights_only;
    config.schedule.warm_up = args.warm_up.unwrap_or(config.schedule.warm_up);
    if let Some(text) = &args.schedule {
        config.schedule.decay = Decay::parse(text, config.epochs)?;
    }
    config.check()?;
    Ok(config)
}

/// Creates a trainer from a checkpoint, loads the data set, and locks the directory.
fn resume(args: &Args, file: &Path) -> Result<(Trainer, Split, CheckpointDir)> {
    let device = &args.device.device;
    let location = || file.display().to_string();
    if file.is_dir() {
        let last = file.join(CheckpointDir::LAST);
        let hint =
            if last.is_file() { program::quoted_path(&last) } else { "with a checkpoint in it".to_string() };
        return Err(Error::invalid_argument(format!("it is a directory; use --resume {hint}")))
            .context(location);
    }
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Locked before the checkpoint is read, so that no other run replaces it in between.
    let own = match &args.out {
        Some(out) if !is_same(out, parent) => None,
        _ if file.is_file() => Some(CheckpointDir::create(parent)?),
        _ => None,
    };
    let checkpoint = CheckpointDir::read_to_resume(file)?;
    if let Some(name) = &args.network {
        let model = neocog_models::find(name)?;
        let network = neocog_layers::Builder::new(device, 0).build(&model.spec()?, &model.input_shape(1))?;
        checkpoint.load_into(&*network).context(location)?;
        if checkpoint.config.network != *name {
            return Err(Error::invalid_argument(format!(
                "the checkpoint is of {}, not of {name}",
                checkpoint.config.network
            )))
            .context(location);
        }
    }
    let history = checkpoint.history.clone();
    let mut trainer = Trainer::resume(checkpoint, device).context(location)?;
    let planned = trainer.config().epochs;
    if let Some(epochs) = args.epochs {
        trainer.set_epochs(epochs).context(location)?;
    }
    if args.schedule_from_here {
        trainer.restart_schedule();
    }
    let data = trainer.config().load_data(&args.data_dir.data_dir)?;
    output::warnings(&data);
    trainer.set_allow_different(args.allow_different);
    trainer.check_environment(&data).context(location)?;
    if args.allow_different {
        for difference in trainer.environment().differences(&Environment::of(&data, device)?) {
            output::note(format_args!("going on although different: {difference}"));
        }
    }
    note_stretched_schedule(&trainer, planned, data.train.len());
    let folder = match own {
        Some(folder) => folder,
        None => {
            let folder = unused(args, CheckpointDir::create(args.out.as_deref().unwrap_or(parent))?)?;
            folder.adopt_best(parent, &history)?;
            folder
        }
    };
    Ok((trainer, data, folder))
}

/// Reports how another number of epochs changes the learning rate.
fn note_stretched_schedule(trainer: &Trainer, planned: u64, images: usize) {
    let config = trainer.config();
    if planned == config.epochs || !config.schedule.depends_on_epochs() || config.schedule_from > 0 {
        return;
    }
    let steps = images.div_ceil(config.batch) as u64;
    let step = trainer.position().step;
    let without = if step < planned * steps {
        format!(" (without --epochs {:.3e})", trainer.lr_at(step, steps, planned))
    } else {
        String::new()
    };
    output::note(format_args!(
        "the schedule ({}) now spans {} instead of {planned}: the learning rate was {:.3e} in the last step, and is \
         {:.3e} in the next one{without}",
        config.schedule,
        count(config.epochs, "epoch"),
        trainer.lr_at(step.saturating_sub(1), steps, planned),
        trainer.lr_at(step, steps, config.epochs),
    ));
}
