//! The start of a training, new or resumed.

use std::path::Path;

use neocog_base::file::is_same;
use neocog_base::program;
use neocog_base::text::count;
use neocog_data::catalog::DEFAULT_DATASET;
use neocog_data::transform::{Pipeline, Step};
use neocog_data::{DataSource, Preprocessing, Split};
use neocog_layers::builder::output_shape;
use neocog_layers::{Layer, drop_branches, weights};
use neocog_tensor::{Context as _, Error, ErrorKind, Result};
use neocog_train::{CheckpointDir, Decay, Environment, LogLine, Ranks, TrainConfig, Trainer, check_fits};

use super::args::Args;
use super::parts;
use super::transforms::Transforms;
use crate::commands::network::{SelectedNetwork, load_pretrained, load_weights};
use crate::commands::part_selection::{elsewhere, other_parts};
use crate::commands::trained_network::check_channels;
use crate::normalization::add_fixed;
use crate::output;

/// Creates a trainer at epoch 0, loads the data set, and, on the first rank, creates the directory.
pub fn start(args: &Args, ranks: &Ranks) -> Result<(Trainer, Split, Option<CheckpointDir>)> {
    let (mut trainer, data) = prepare(args)?;
    join(args, &mut trainer, &data, ranks)?;
    check_outside(trainer.config(), args.out.as_deref().unwrap_or(Path::new(RUNS)))?;
    let folder = ranks.is_first().then(|| new_folder(args, trainer.config())).transpose()?;
    Ok((trainer, data, folder))
}

/// Makes the trainer one of the ranks, before the first of them writes files.
fn join(args: &Args, trainer: &mut Trainer, data: &Split, ranks: &Ranks) -> Result<()> {
    trainer.set_ranks(ranks.clone())?;
    if args.shard_optimizer {
        trainer.shard_optimizer();
    }
    trainer.check_ranks(data)
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
    config.class_balance = args.parts.class_balance(data.train.class_names())?;
    let pretrained = args.weights.as_deref().map(Pretrained::open).transpose()?;
    if let Some(Pretrained { preprocessing: Some(preprocessing), .. }) = &pretrained {
        selected.default_input(preprocessing.input);
    }
    selected.adapt(&*data.train)?;
    if let Some(p) = args.options.stochastic_depth {
        selected.spec = drop_branches(&selected.spec, p).context(|| "--stochastic-depth")?;
        output::note(format_args!("the branch of the last residual block is dropped with probability {p}"));
    }
    if let DataSource::Folder(_) = source {
        small_folder(args, &mut config, data.train.len());
    }
    let input = selected.input_for(&*data.train)?;
    config.transforms = args.transforms.pipeline(config.transforms, &*data.train, input)?;
    if let Some(pretrained) = &pretrained {
        pretrained.prepare_images(&args.transforms, &mut config.transforms, input)?;
    }
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
    note_unused_classes(trainer.network(), input, data.train.classes())?;
    Ok((trainer, data))
}

/// The file of the weights that a training starts from.
struct Pretrained<'a> {
    file: &'a Path,
    /// What its metadata say.
    preprocessing: Option<Preprocessing>,
}

impl<'a> Pretrained<'a> {
    fn open(file: &'a Path) -> Result<Self> {
        let metadata = weights::metadata(file)?;
        let preprocessing = Preprocessing::from_metadata(&metadata).context(|| file.display().to_string())?;
        Ok(Pretrained { file, preprocessing })
    }

    /// Lets images for the input `[c, h, w]` be prepared as those that the weights were trained on, as far as `args` leave that open.
    fn prepare_images(&self, args: &Transforms, transforms: &mut Pipeline, input: [usize; 3]) -> Result<()> {
        let file = self.file.display();
        let Some(own) = &self.preprocessing else {
            if !args.set_normalization() && !transforms.steps.iter().any(|step| step.name() == "Normalize") {
                output::note(format_args!(
                    "{file} does not say how images were preprocessed: they are not normalized; --preset, --resize and \
                     --normalize change that"
                ));
            }
            return Ok(());
        };
        let keeps_size = args.set_size() || own.input != input;
        let is_open = |step: &Step| match step.name() {
            "Normalize" => !args.set_normalization(),
            _ if step.sets_size() => !keeps_size,
            _ => !step.is_random() && !transforms.steps.contains(step),
        };
        let used = Pipeline::from_iter(own.transforms.steps.iter().filter(|step| is_open(step)).cloned());
        if used.is_empty() {
            return Ok(());
        }
        check_channels(&used, input[0]).context(|| file.to_string())?;
        output::note(format_args!("images are prepared as {file} says: {used}"));
        let normalizes = used.steps.iter().any(|step| step.name() == "Normalize");
        let replaces_size = used.sets_size();
        let change = |steps: &mut Vec<Step>| {
            steps.retain(|step| match step.name() {
                "Normalize" => !normalizes,
                _ => !replaces_size || !step.sets_size(),
            });
            add_fixed(steps, used.steps.clone());
        };
        change(&mut transforms.steps);
        transforms.eval.iter_mut().for_each(change);
        transforms.check()
    }
}

/// Prints a note if the network has more classes than the data.
fn note_unused_classes(network: &dyn Layer, [c, h, w]: [usize; 3], classes: usize) -> Result<()> {
    let output = output_shape(network, &[1, c, h, w].into())?;
    if output[1] > classes {
        output::note(format_args!(
            "warning: the network has {} classes, the data have {classes}: the others have no images, and keep what they have learned",
            output[1]
        ));
    }
    Ok(())
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

/// The directory of the runs whose directory is not given.
const RUNS: &str = "runs";

/// Checks that the directory `out` is not in the folder of images: it would be a class of the next run.
fn check_outside(config: &TrainConfig, out: &Path) -> Result<()> {
    let DataSource::Folder(data) = DataSource::find(&config.data)? else { return Ok(()) };
    let (Ok(data), Ok(out_path)) = (data.canonicalize(), std::path::absolute(out)) else { return Ok(()) };
    // What exists of the path, without links.
    let existing = out_path.ancestors().find_map(|part| part.canonicalize().ok());
    if data.is_dir() && existing.is_some_and(|existing| existing.starts_with(&data)) {
        return Err(Error::invalid_argument(format!(
            "the directory {} for checkpoints is in the folder of images {}, where it would be taken for a class: choose another \
             one with --out",
            out.display(),
            config.data
        )));
    }
    Ok(())
}

/// Creates the directory of a new run.
fn new_folder(args: &Args, config: &TrainConfig) -> Result<CheckpointDir> {
    let data = DataSource::find(&config.data)?.short_name();
    let default = || Path::new(RUNS).join(format!("{}-{data}", config.network));
    match &args.out {
        Some(out) => unused(args, CheckpointDir::create(out)?),
        None if args.overwrite => unused(args, CheckpointDir::create(default())?),
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
    if folder.holds_run() {
        folder.replace_run()?;
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

/// Creates a trainer from a checkpoint, loads the data set, and, on the first rank, locks the directory.
pub fn resume(args: &Args, file: &Path, ranks: &Ranks) -> Result<(Trainer, Split, Option<CheckpointDir>)> {
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
        _ if ranks.is_first() && file.is_file() => Some(CheckpointDir::create(parent)?),
        _ => None,
    };
    let mut checkpoint = CheckpointDir::read_to_resume(file)?;
    LogLine::restore_times(parent, &mut checkpoint.history);
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
    if let Some(data) = &args.data {
        trainer.set_data(data);
    }
    if args.parts.skip_broken() {
        trainer.skip_broken();
    }
    let data =
        trainer.config().load_data(&args.data_dir.data_dir).map_err(|e| match (e.kind(), &args.data) {
            (ErrorKind::NotFound, None) => e.context(elsewhere(&trainer.config().data)),
            _ => e,
        })?;
    output::warnings(&data);
    trainer.set_allow_different(args.allow_different);
    trainer.check_environment(&data).context(location)?;
    if args.allow_different {
        for difference in trainer.environment().differences(&Environment::of(&data, device)?) {
            output::note(format_args!("going on although different: {difference}"));
        }
        if trainer.environment().data_difference(&data).is_some() {
            output::note(format_args!("warning: {}", other_parts(&trainer.config().data)));
        }
    }
    note_stretched_schedule(&trainer, planned, data.train.len());
    join(args, &mut trainer, &data, ranks)?;
    let folder = match own {
        None if ranks.is_first() => {
            let folder = unused(args, CheckpointDir::create(args.out.as_deref().unwrap_or(parent))?)?;
            folder.adopt_best(parent, &history)?;
            folder.adopt_config(parent)?;
            Some(folder)
        }
        own => own,
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
