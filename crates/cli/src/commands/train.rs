//! `train`: training, from the start or from a checkpoint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_base::program;
use neocog_data::catalog::{DEFAULT_DATASET, DEFAULT_ROOT};
use neocog_tensor::{Context as _, Device, Error, Result};
use neocog_train::{
    Checkpoint, CheckpointDir, Decay, FitOutcome, OptimizerKind, TrainConfig, Trainer, check_fits,
};

use super::network::{NetworkArgs, SelectedNetwork, load_weights};
use crate::arguments::{DataDirArg, DeviceArg};
use crate::help::examples;
use crate::output;
use crate::register_command;

mod progress;
mod transforms;

use progress::Report;
use transforms::Transforms;

/// The exit code after Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Train a network and write checkpoints.
///
/// Hyperparameters default to the network's recipe and are printed at the start; for the small data set digits, the recipe
/// uses smaller batches, more epochs and augmentation. After each epoch, writes OUT/last.ckpt, and OUT/best.ckpt if the
/// test accuracy is the best so far.
///
/// Ctrl-C stops after the current batch, writes OUT/last.ckpt and exits with code 130; --resume continues from it
/// bit-for-bit. A second Ctrl-C exits at once.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog train
  neocog train lenet_bn --data fashion-mnist
  neocog train lenet_bn --data fashion-mnist --flip --crop-padding 2 --normalize
  neocog train lenet --epochs 10 --batch 64 --optimizer sgd --lr 0.1 --schedule cosine
  neocog train --spec my.json --data mnist
  neocog train resnet --data fashion-mnist --weights resnet.safetensors
  neocog train --resume runs/lenet-digits/last.ckpt --epochs 60
  neocog train --json > epochs.jsonl"))]
struct Args {
    /// Network; `summary` lists them [default: lenet].
    network: Option<String>,
    #[command(flatten)]
    network_args: NetworkArgs,
    /// Safetensors file with initial weights, such as PyTorch's.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Load the tensors of --weights that match and list the others (PyTorch's strict=False).
    #[arg(long, requires = "weights")]
    partial: bool,
    /// Data set: digits (embedded), or fashion-mnist or mnist (fetched with `fetch-data`) [default: digits].
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Number of epochs; with --resume, the total including finished ones [default: the recipe's].
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Batch size [default: the recipe's].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate [default: the recipe's; with --optimizer, PyTorch's default].
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Optimizer: adam, adamw, rmsprop or sgd [default: the recipe's].
    #[arg(long, value_name = "NAME")]
    optimizer: Option<String>,
    /// Momentum of sgd and rmsprop.
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Weight decay of the optimizer.
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Learning rate schedule: constant, step (times 0.1 after each third of the epochs) or cosine (decay to 0).
    #[arg(long, value_enum, value_name = "NAME")]
    schedule: Option<ScheduleName>,
    /// Number of linear warm-up steps.
    #[arg(long, value_name = "STEPS")]
    warm_up: Option<u64>,
    /// Random seed of initialization, shuffling, augmentation and dropout [default: 0].
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Use only the first N training and N test images.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Directory for checkpoints [default: runs/NETWORK-DATA; with --resume, that of the checkpoint].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume from a checkpoint; combines only with --epochs, --data-dir, --workers, --device, --out and --json.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["data", "batch", "lr", "optimizer", "momentum", "weight_decay", "schedule", "warm_up",
            "Transforms", "seed", "limit", "spec", "input", "classes", "weights"]
    )]
    resume: Option<PathBuf>,
    /// Print one JSON object per epoch.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    transforms: Transforms,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ScheduleName {
    Constant,
    Step,
    Cosine,
}

register_command!("train", 30, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<ExitCode> {
    let (mut trainer, data) = match &args.resume {
        Some(file) => resume(args, file)?,
        None => start(args)?,
    };
    trainer.set_workers(args.workers);
    let folder = CheckpointDir::create(out_folder(args, trainer.config()))?;
    let stop = stop_on_ctrl_c()?;

    print_configuration(&trainer, &data, &args.device.device);
    let start = Instant::now();
    let mut report = Report::new(args.json, trainer.config());
    let outcome = trainer.fit(&data, Some(&folder), &mut report, &stop);
    report.finish()?;
    match outcome? {
        FitOutcome::Finished => {
            let text = result(&trainer, &folder, start);
            if args.json {
                output::note(format_args!("{text}"));
            } else {
                output::line(text)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        FitOutcome::Stopped(file) => {
            let position = trainer.position();
            output::note(format_args!(
                "stopped in epoch {} after batch {}; resume with: {}",
                position.epoch + 1,
                position.batch,
                program::command(resume_arguments(args, file.as_deref()))
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Returns the arguments that resume this run: those that the checkpoint does not hold are repeated.
fn resume_arguments(args: &Args, checkpoint: Option<&Path>) -> String {
    let path = |path: &Path| program::quoted(&path.display().to_string());
    let mut text = "train".to_string();
    if let Some(checkpoint) = checkpoint {
        // A path that starts with a dash would pass for an option.
        let dash = checkpoint.to_string_lossy().starts_with('-');
        text += &format!(" --resume{}{}", if dash { '=' } else { ' ' }, path(checkpoint));
    }
    if args.data_dir.data_dir != Path::new(DEFAULT_ROOT) {
        text += &format!(" --data-dir {}", path(&args.data_dir.data_dir));
    }
    if args.device.device != Device::Cpu {
        text += &format!(" --device {}", program::quoted(&args.device.device.to_string()));
    }
    if args.workers != 1 {
        text += &format!(" --workers {}", args.workers);
    }
    if args.json {
        text += " --json";
    }
    text
}

/// Creates a trainer at epoch 0, and loads the data set.
fn start(args: &Args) -> Result<(Trainer, neocog_data::Split)> {
    let selected = args.network_args.select(args.network.as_deref().or(Some("lenet")))?;
    let mut config = config(args, &selected)?;
    let data = config.load_data(&args.data_dir.data_dir)?;
    config.transforms = args.transforms.pipeline(config.transforms, &data.train)?;
    let input = selected.input_for(data.train.shape());
    let location = match &args.network_args.spec {
        Some(file) => file.display().to_string(),
        None => selected.name().to_string(),
    };
    let trainer = Trainer::with_spec(config, selected.spec, input, &data.train, &args.device.device)
        .and_then(|trainer| {
            check_fits(trainer.network(), input, &data.train)?;
            Ok(trainer)
        })
        .context(|| location)?;
    if let Some(file) = &args.weights {
        load_weights(trainer.network(), file, args.partial)?;
    }
    Ok((trainer, data))
}

/// Returns the network's recipe with the changes that the arguments ask for.
fn config(args: &Args, selected: &SelectedNetwork) -> Result<TrainConfig> {
    let mut config = selected.config(args.data.as_deref().unwrap_or(DEFAULT_DATASET))?;
    config.epochs = args.epochs.unwrap_or(config.epochs);
    config.batch = args.batch.unwrap_or(config.batch);
    config.seed = args.seed.unwrap_or(config.seed);
    config.limit = args.limit;
    if let Some(name) = &args.optimizer {
        let rule = OptimizerKind::named(name)?;
        if rule.name() != config.optimizer.rule.name() {
            config.optimizer.lr = rule.default_lr();
        }
        config.optimizer.rule = rule;
    }
    config.optimizer.lr = args.lr.unwrap_or(config.optimizer.lr);
    if let Some(momentum) = args.momentum {
        config.optimizer.rule = config.optimizer.rule.with_momentum(momentum)?;
    }
    if let Some(weight_decay) = args.weight_decay {
        config.optimizer.rule = config.optimizer.rule.with_weight_decay(weight_decay);
    }
    config.schedule.warm_up = args.warm_up.unwrap_or(config.schedule.warm_up);
    config.schedule.decay = match args.schedule {
        None => config.schedule.decay,
        Some(ScheduleName::Constant) => Decay::Constant,
        Some(ScheduleName::Step) => Decay::Step { epochs: config.epochs.div_ceil(3).max(1), factor: 0.1 },
        Some(ScheduleName::Cosine) => Decay::Cosine { floor: 0.0 },
    };
    config.check()?;
    Ok(config)
}

/// Creates a trainer from a checkpoint, and loads the data set.
fn resume(args: &Args, file: &Path) -> Result<(Trainer, neocog_data::Split)> {
    let device = &args.device.device;
    let checkpoint = Checkpoint::read(file)?;
    let location = || file.display().to_string();
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
    let mut trainer = Trainer::resume(checkpoint, device).context(location)?;
    if let Some(epochs) = args.epochs {
        trainer.set_epochs(epochs).context(location)?;
    }
    let data = trainer.config().load_data(&args.data_dir.data_dir)?;
    Ok((trainer, data))
}

fn out_folder(args: &Args, config: &TrainConfig) -> PathBuf {
    match (&args.out, args.resume.as_deref().and_then(Path::parent)) {
        (Some(out), _) => out.clone(),
        (None, Some(parent)) if parent.as_os_str().is_empty() => PathBuf::from("."),
        (None, Some(parent)) => parent.to_path_buf(),
        (None, None) => Path::new("runs").join(format!("{}-{}", config.network, config.data)),
    }
}

/// Returns a flag that the first Ctrl-C sets; the second one exits.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        output::note(format_args!("stopping after this batch; press Ctrl-C again to exit at once"));
    })
    .map_err(|e| Error::invalid_argument("cannot handle Ctrl-C").with_source(e))?;
    Ok(stop)
}

/// Prints the hyperparameters, and where a resumed training continues, to standard error.
fn print_configuration(trainer: &Trainer, data: &neocog_data::Split, device: &Device) {
    let config = trainer.config();
    output::note(format_args!(
        "{} on {}: {} training and {} test images, {} epochs, batch {}, {} with learning rate {:?}{}{}, seed {}, {device} with \
         {} threads",
        config.network,
        config.data,
        data.train.len(),
        data.test.len(),
        config.epochs,
        config.batch,
        config.optimizer.rule.name(),
        config.optimizer.lr,
        if config.schedule == neocog_train::Schedule::default() {
            String::new()
        } else {
            format!(" ({})", config.schedule)
        },
        if config.transforms.is_empty() { String::new() } else { format!(", {}", config.transforms) },
        config.seed,
        rayon::current_num_threads(),
    ));
    let position = trainer.position();
    if position.epoch >= config.epochs {
        output::note(format_args!(
            "all {} epochs are finished; use --epochs to train for more",
            config.epochs
        ));
    } else if position.step > 0 {
        output::note(format_args!("resuming in epoch {} after batch {}", position.epoch + 1, position.batch));
    }
}

/// The result of a finished training, and what is expected of it.
fn result(trainer: &Trainer, folder: &CheckpointDir, start: Instant) -> String {
    let Some((last, best)) = trainer.history().last().zip(trainer.best()) else {
        return "no epochs were trained".to_string();
    };
    let mut text = format!(
        "done in {:.1} s: test accuracy {:.4}, best {:.4} (epoch {}); checkpoints in {}",
        start.elapsed().as_secs_f64(),
        last.test_acc,
        best.test_acc,
        best.epoch,
        folder.path().display()
    );
    let config = trainer.config();
    let model = neocog_models::find(&config.network).ok();
    let model = model.filter(|model| model.spec().is_ok_and(|spec| spec == *trainer.spec()));
    let expected = model.and_then(|model| model.expected);
    if let Some(expected) = expected.filter(|_| config.data == "fashion-mnist" && config.limit.is_none()) {
        text += &format!(
            "\nreported with the recipe of \"Dive into Deep Learning\": train accuracy {:.3}, test accuracy {:.3}{}",
            expected.train_accuracy,
            expected.test_accuracy,
            if expected.best_epoch { " (best epoch)" } else { "" }
        );
    }
    text
}
