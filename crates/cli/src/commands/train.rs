//! `train`: trains a network, from the start or from a checkpoint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_base::program;
use neocog_data::known::{DEFAULT, DEFAULT_ROOT};
use neocog_tensor::{Context as _, Device, Error, Result};
use neocog_train::{
    Checkpoint, CheckpointDir, Decay, FitOutcome, OptimizerKind, TrainConfig, Trainer, check_fits,
};

use super::network::{NetworkArgs, SelectedNetwork, load_weights};
use crate::help::examples;
use crate::output;
use crate::register_command;

mod progress;
mod transforms;

use progress::Report;
use transforms::Transforms;

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Trains a network and writes checkpoints.
///
/// Without options, the network's recipe is used (for digits, which are few: smaller batches, more epochs, augmentation); the
/// values are printed at the start. After every epoch the checkpoint OUT/last.ckpt is replaced, and OUT/best.ckpt when
/// the test accuracy is the best so far. Ctrl-C ends after the batch, saves, and exits with code 130; --resume goes on
/// from there with the same bits as if it had not been stopped. A second Ctrl-C ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog train
  neocog train lenet_bn --data fashion-mnist
  neocog train lenet_bn --data fashion-mnist --flip --crop-padding 2 --normalize
  neocog train lenet --epochs 10 --batch 64 --optimizer sgd --lr 0.1 --momentum 0.9 --schedule cosine
  neocog train --spec my.json --data mnist
  neocog train resnet --data fashion-mnist --weights resnet.safetensors
  neocog train --resume runs/lenet-digits/last.ckpt --epochs 60
  neocog train --json > epochs.jsonl"))]
struct Args {
    /// The network; `summary` lists them. lenet if absent.
    network: Option<String>,
    #[command(flatten)]
    which: NetworkArgs,
    /// Starts with the weights in a safetensors file, as PyTorch saves them, in place of drawn ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Of the weights, loads what fits, and tells what did not.
    #[arg(long, requires = "weights")]
    partial: bool,
    /// The data set: digits (compiled in), or fashion-mnist or mnist (fetch them first). digits if absent.
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// The folder that holds a folder for each data set.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    data_dir: PathBuf,
    /// How often all training images are seen; with --resume, in all.
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Images in a batch.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The learning rate. If absent: the recipe's, or PyTorch's default for --optimizer.
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// The optimizer: adam, adamw, rmsprop or sgd.
    #[arg(long, value_name = "NAME")]
    optimizer: Option<String>,
    /// The momentum of sgd and rmsprop.
    #[arg(long, allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// The optimizer's weight decay.
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// How the learning rate falls: constant, step (a tenth after each third of the epochs) or cosine (to 0).
    #[arg(long, value_enum)]
    schedule: Option<ScheduleName>,
    /// Steps over which the learning rate rises at the start.
    #[arg(long, value_name = "STEPS")]
    warm_up: Option<u64>,
    /// Decides the initial parameters, the order of the images, and what dropout drops. 0 if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Only so many of the first training images, and of the first test images.
    #[arg(long, value_name = "IMAGES")]
    limit: Option<usize>,
    /// Threads that prepare images; more than one where much is done to them. They change the speed only.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Where to compute: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference (double
    /// precision, plain loops, slow).
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// The folder for the checkpoints; runs/NETWORK-DATA if absent, with --resume the checkpoint's folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Goes on from a checkpoint; only --epochs, --data-dir, --workers, --device and --out can be given with it.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["data", "batch", "lr", "optimizer", "momentum", "weight_decay", "schedule", "warm_up",
            "Transforms", "seed", "limit", "spec", "input", "classes", "weights"]
    )]
    resume: Option<PathBuf>,
    /// One line of JSON for each epoch on standard output.
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
    let (mut training, data) = match &args.resume {
        Some(file) => resume(args, file)?,
        None => start(args)?,
    };
    training.set_workers(args.workers);
    let folder = CheckpointDir::create(out_folder(args, training.config()))?;
    let stop = stop_on_ctrl_c()?;

    announce(&training, &data, args);
    let start = Instant::now();
    let mut report = Report::new(args.json, training.config());
    let end = training.fit(&data, Some(&folder), &mut report, &stop);
    report.finish()?;
    match end? {
        FitOutcome::Finished => {
            let text = finished(&training, &folder, start);
            if args.json {
                output::note(format_args!("{text}"))
            } else {
                output::line(text)?
            }
            Ok(ExitCode::SUCCESS)
        }
        FitOutcome::Stopped(file) => {
            let file = file.map_or(String::new(), |file| file.display().to_string());
            let position = training.position();
            output::note(format_args!(
                "stopped in epoch {} after batch {}; go on with: {}",
                position.epoch + 1,
                position.batch,
                program::command(format_args!("train --resume {file}"))
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// A run from its start.
fn start(args: &Args) -> Result<(Trainer, neocog_data::Split)> {
    let chosen = args.which.choose(args.network.as_deref().or(Some("lenet")))?;
    let mut plan = plan(args, &chosen)?;
    let data = plan.load_data(&args.data_dir)?;
    plan.transforms = args.transforms.pipeline(plan.transforms, &data.train)?;
    let input = chosen.input_for(data.train.shape());
    let place =
        args.which.spec.as_ref().map_or_else(|| chosen.name().into(), |file| file.display().to_string());
    let training = Trainer::with_spec(plan, chosen.spec, input, &data.train, &args.device)
        .and_then(|training| {
            check_fits(training.network(), input, &data.train)?;
            Ok(training)
        })
        .context(|| place)?;
    if let Some(file) = &args.weights {
        load_weights(training.network(), file, args.partial)?;
    }
    Ok((training, data))
}

/// The recipe, changed as the options say.
fn plan(args: &Args, chosen: &SelectedNetwork) -> Result<TrainConfig> {
    let mut plan = chosen.plan(args.data.as_deref().unwrap_or(DEFAULT))?;
    plan.epochs = args.epochs.unwrap_or(plan.epochs);
    plan.batch = args.batch.unwrap_or(plan.batch);
    plan.seed = args.seed.unwrap_or(plan.seed);
    plan.limit = args.limit;
    if let Some(name) = &args.optimizer {
        let rule = OptimizerKind::named(name)?;
        if rule.name() != plan.optimizer.rule.name() {
            plan.optimizer.lr = rule.default_lr();
        }
        plan.optimizer.rule = rule;
    }
    plan.optimizer.lr = args.lr.unwrap_or(plan.optimizer.lr);
    if let Some(momentum) = args.momentum {
        plan.optimizer.rule = plan.optimizer.rule.with_momentum(momentum)?;
    }
    if let Some(weight_decay) = args.weight_decay {
        plan.optimizer.rule = plan.optimizer.rule.with_weight_decay(weight_decay);
    }
    plan.schedule.warm_up = args.warm_up.unwrap_or(plan.schedule.warm_up);
    plan.schedule.decay = match args.schedule {
        None => plan.schedule.decay,
        Some(ScheduleName::Constant) => Decay::Constant,
        Some(ScheduleName::Step) => Decay::Step { epochs: plan.epochs.div_ceil(3).max(1), factor: 0.1 },
        Some(ScheduleName::Cosine) => Decay::Cosine { floor: 0.0 },
    };
    plan.check()?;
    Ok(plan)
}

fn resume(args: &Args, file: &Path) -> Result<(Trainer, neocog_data::Split)> {
    let checkpoint = Checkpoint::read(file)?;
    let place = || file.display().to_string();
    if let Some(name) = &args.network {
        let model = neocog_models::find(name)?;
        let network =
            neocog_layers::Builder::new(&args.device, 0).build(&model.spec()?, &model.input_shape(1))?;
        checkpoint.load_into(&*network).context(place)?;
        if checkpoint.config.network != *name {
            return Err(Error::invalid_argument(format!(
                "this is a run of {}, not of {name}",
                checkpoint.config.network
            )))
            .context(place);
        }
    }
    let mut training = Trainer::resume(checkpoint, &args.device).context(place)?;
    if let Some(epochs) = args.epochs {
        training.set_epochs(epochs).context(place)?;
    }
    let data = training.config().load_data(&args.data_dir)?;
    Ok((training, data))
}

fn out_folder(args: &Args, plan: &TrainConfig) -> PathBuf {
    match (&args.out, args.resume.as_deref().and_then(Path::parent)) {
        (Some(out), _) => out.clone(),
        (None, Some(parent)) => {
            if parent.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                parent.to_path_buf()
            }
        }
        (None, None) => Path::new("runs").join(format!("{}-{}", plan.network, plan.data)),
    }
}

/// The first Ctrl-C asks for an end after the batch, the second one ends at once.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        output::note(format_args!("stopping after this batch; once more to end at once"));
    })
    .map_err(|e| Error::invalid_argument("cannot listen for Ctrl-C").with_source(e))?;
    Ok(stop)
}

fn announce(training: &Trainer, data: &neocog_data::Split, args: &Args) {
    let plan = training.config();
    output::note(format_args!(
        "{} on {}: {} training and {} test images, {} epochs, batch {}, {} with learning rate {:?}{}{}, seed {}, {} with {} \
         threads",
        plan.network,
        plan.data,
        data.train.len(),
        data.test.len(),
        plan.epochs,
        plan.batch,
        plan.optimizer.rule.name(),
        plan.optimizer.lr,
        if plan.schedule == neocog_train::Schedule::default() {
            String::new()
        } else {
            format!(" ({})", plan.schedule)
        },
        if plan.transforms.is_empty() { String::new() } else { format!(", {}", plan.transforms) },
        plan.seed,
        args.device,
        rayon::current_num_threads(),
    ));
    let position = training.position();
    if position.epoch >= plan.epochs {
        output::note(format_args!("all {} epochs are done already; --epochs can ask for more", plan.epochs));
    } else if position.step > 0 {
        output::note(format_args!("going on in epoch {} after batch {}", position.epoch + 1, position.batch));
    }
}

fn finished(training: &Trainer, folder: &CheckpointDir, start: Instant) -> String {
    let Some((last, best)) = training.history().last().zip(training.best()) else {
        return "nothing was trained".to_string();
    };
    let mut text = format!(
        "done in {:.1} s: test accuracy {:.4}, best {:.4} (epoch {}); checkpoints in {}",
        start.elapsed().as_secs_f64(),
        last.test_acc,
        best.test_acc,
        best.epoch,
        folder.path().display()
    );
    let plan = training.config();
    let model = neocog_models::find(&plan.network).ok();
    let model = model.filter(|model| model.spec().is_ok_and(|spec| spec == *training.spec()));
    let expected = model.and_then(|model| model.expected);
    if let Some(expected) = expected.filter(|_| plan.data == "fashion-mnist" && plan.limit.is_none()) {
        text += &format!(
            "\nwith the recipe, the book reports train accuracy {:.3}, test accuracy {:.3}{}",
            expected.train_accuracy,
            expected.test_accuracy,
            if expected.best_epoch { " (best epoch)" } else { "" }
        );
    }
    text
}
