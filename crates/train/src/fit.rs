//! The training loop.

mod access;
mod averages;
mod compressed;
mod exchange;
mod find;
mod step;
mod together;

use exchange::Buckets;

pub use find::{LrPoint, LrRange, steepest_lr};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neocog_data::transform::Pipeline;
use neocog_data::{Batch, Dataset, Loader, LoaderOptions, Part, Share, Split};
use neocog_layers::{Builder, Layer, LayerSpec, Predictor, TrainPass};
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape};

use crate::average::Average;
use crate::checkpoint::{Checkpoint, CheckpointDir};
use crate::class_balance::ClassBalance;
use crate::config::TrainConfig;
use crate::environment::Environment;
use crate::evaluate::{Evaluation, check_fits};
use crate::log::{LogLine, RunLog};
use crate::meter::{Meter, Totals};
use crate::optimizer::Optimizer;
use crate::predictions::Predictions;
use crate::progress::{BatchReport, EpochReport, Position, Progress};
use crate::ranks::{Compressed, Ranks, Receivers};
use crate::save_every::{SaveEvery, SaveTimer};

/// The default of [`Trainer::set_log_every`].
const LOG_EVERY: u64 = 50;

/// A training run: the network, its optimizer and the position of the run.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    device: Device,
    spec: LayerSpec,
    /// `[c, h, w]`.
    input: [usize; 3],
    class_names: Vec<String>,
    /// The forward pass of the network in training mode.
    pass: TrainPass,
    /// The network in evaluation mode.
    optimizer: Optimizer,
    position: Position,
    meter: Meter,
    history: Vec<EpochReport>,
    /// Number of data loader threads.
    workers: usize,
    allow_different: bool,
    save_every: SaveEvery,
    /// Number of steps between two lines of the log; 0 for lines of epochs only.
    log_every: u64,
    /// Maximum memory for images that were read and resized, in bytes.
    cache_bytes: u64,
    /// The epoch whose checkpoint is in [`CheckpointDir::BEST`].
    best_saved: Option<EpochReport>,
    average: Option<Average>,
    /// Number of checkpoints of finished epochs that are kept, besides the last and the best one.
    keep: u64,
    time_budget: Option<Duration>,
    /// When a call of [`Trainer::fit`] ends.
    deadline: Option<Instant>,
    /// The learning rate of the next step, in place of the schedule's.
    fixed_lr: Option<f64>,
    ranks: Ranks,
    buckets: Buckets,
    /// What the exchange of gradients in bf16 has left out, if the run has one.
    compressed: Option<Compressed>,
    /// The rank that updates each parameter, if the state of the optimizer is divided among the ranks.
    owners: Option<Vec<usize>>,
}

/// The outcome of [`Trainer::fit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FitOutcome {
    /// All epochs are finished.
    Finished,
    /// The run was stopped; with the path of the checkpoint, if there is a checkpoint directory.
    Stopped(Option<PathBuf>),
}

/// What a run writes while it trains.
struct RunFiles<'a> {
    checkpoints: Option<&'a CheckpointDir>,
    timer: SaveTimer,
    log: Option<RunLog>,
}

impl Trainer {
    /// Creates a run of the registered network that `config` names, with initial parameters.
    ///
    /// # Errors
    /// When the configuration is invalid, or the network cannot be built.
    pub fn new(config: TrainConfig, data: &dyn Dataset, device: &Device) -> Result<Self> {
        let model = neocog_models::find(&config.network)?;
        Self::with_spec(config, model.spec()?, model.input, data, device)
    }

    /// As [`Trainer::new`], for a network that is not registered; `input` is the shape `[c, h, w]` of one input.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_spec(
        config: TrainConfig,
        spec: LayerSpec,
        input: [usize; 3],
        data: &dyn Dataset,
        device: &Device,
    ) -> Result<Self> {
        Self::with_classes(config, spec, input, data.class_names().to_vec(), device)
    }

    /// As [`Trainer::with_spec`], with the names of the classes instead of the data.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_classes(
        mut config: TrainConfig,
        spec: LayerSpec,
        input: [usize; 3],
        class_names: Vec<String>,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        config.environment = Environment::default();
        // Fail now and not when the checkpoint is read.
        if LayerSpec::from_json(&spec.to_json()?)? != spec {
            return Err(Error::invalid_argument(
                "the network changes when it is written as JSON and read back, so the run could not be resumed",
            ));
        }
        let [c, h, w] = input;
        let network: Arc<dyn Layer> =
            Builder::new(device, config.seed).build(&spec, &Shape::new(&[1, c, h, w])?)?.into();
        let optimizer = config.prepare(&*network)?;
        let average = config.options.averages().then(|| Average::new(&spec, input, device)).transpose()?;
        let buckets = Buckets::of(&*network);
        Ok(Trainer {
            average,
            compressed: Self::begin_compressed(&config, &buckets),
            keep: 0,
            time_budget: None,
            deadline: None,
            fixed_lr: None,
            ranks: Ranks::single(),
            buckets,
            owners: None,
            config,
            device: *device,
            spec,
            input,
            class_names,
            pass: TrainPass::new(network),
            optimizer,
            position: Position::default(),
            meter: Meter::default(),
            history: Vec::new(),
            workers: 1,
            allow_different: false,
            save_every: SaveEvery::Never,
            log_every: LOG_EVERY,
            cache_bytes: 0,
            best_saved: None,
        })
    }

    /// Resumes a run from a checkpoint, bit-for-bit.
    ///
    /// # Errors
    /// When the network cannot be built, or the state does not match it.
    pub fn resume(checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        checkpoint.config.check()?;
        let network: Arc<dyn Layer> = checkpoint.network(device)?.into();
        let mut optimizer = checkpoint.config.prepare(&*network)?;
        optimizer.set_state(checkpoint.optimizer_state(device)?)?;
        let spec = checkpoint.spec()?;
        let average = match (checkpoint.config.options.averages(), checkpoint.averaged()) {
            (false, _) => None,
            (true, None) => Some(Average::new(&spec, checkpoint.input, device)?),
            (true, Some(averaged)) => {
                let updates = checkpoint.average.as_ref().map_or(0, |average| average.updates);
                Some(Average::resume(averaged.network(device)?.into(), updates))
            }
        };
        let buckets = Buckets::of(&*network);
        Ok(Trainer {
            average,
            compressed: Self::resume_compressed(&checkpoint, &*network, &buckets)?,
            keep: 0,
            time_budget: None,
            deadline: None,
            fixed_lr: None,
            ranks: Ranks::single(),
            buckets,
            owners: None,
            device: *device,
            spec,
            input: checkpoint.input,
            pass: TrainPass::new(network),
            optimizer,
            meter: Meter::resume(checkpoint.sums, checkpoint.position.batch as u64),
            position: checkpoint.position,
            config: checkpoint.config,
            class_names: checkpoint.class_names,
            history: checkpoint.history,
            workers: 1,
            allow_different: false,
            save_every: SaveEvery::Never,
            log_every: LOG_EVERY,
            cache_bytes: 0,
            best_saved: None,
        })
    }

    /// Returns a checkpoint of the run. With several ranks, all must call it.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a parameter is not finite; when the device fails.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        let checkpoint = self.checkpoint_on(Receivers::All)?;
        checkpoint.ok_or_else(|| Error::new(ErrorKind::Internal, "no checkpoint was received"))
    }

    /// Trains until all epochs are finished, or until the end of the batch, of training or evaluation, during which `stop`
    /// becomes true.
    ///
    /// After every epoch, and when the run is stopped, [`CheckpointDir::LAST`] is written, and within epochs as often as
    /// [`Trainer::set_save_every`] says; after every epoch with the best accuracy so far on the validation part, or on the test part if there is none, first
    /// [`CheckpointDir::BEST`].
    ///
    /// # Errors
    /// When the network does not fit the data, the device fails, or a checkpoint cannot be written. `Mismatch` when a resumed
    /// run would not be the same; see [`Trainer::check_environment`].
    /// [`ErrorKind::Diverged`] when the loss is not finite: the message has the step, and the last checkpoint is kept.
    pub fn fit(
        &mut self,
        data: &Split,
        checkpoints: Option<&CheckpointDir>,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<FitOutcome> {
        self.run_epochs(data, checkpoints, progress, stop).map_err(|e| self.explain(e, checkpoints))
    }

    fn run_epochs(
        &mut self,
        data: &Split,
        checkpoints: Option<&CheckpointDir>,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<FitOutcome> {
        check_fits(self.network(), self.input, &*data.train).context(|| self.config.network.as_str())?;
        let (part, evaluated) = data.evaluated()?;
        let total = (data.train.len() + evaluated.len()) as f64;
        let cache = |part: &dyn Dataset| (self.cache_bytes as f64 * (part.len() as f64 / total)) as u64;
        let train = self.loader(&data.train, Part::Train, cache(&*data.train))?;
        let evaluation = self.loader(evaluated, part, cache(&**evaluated))?;
        let (mut unreadable, mut evaluated_images) = (0, evaluated.len() as u64);
        let mut now = Environment::of(data, &self.device)?;
        self.check_ranks(data)?;
        if !self.allow_different {
            self.config.environment.check(&now)?;
        }
        let then = &self.config.environment;
        now.data_changed = then.data_changed || then.has_other_data(&now);
        self.config.environment = now;
        self.config.selected_on = Some(part);
        let class_weights = self.class_weights(data)?;
        self.begin(checkpoints)?;
        let steps = train.batches() as u64;
        let log = checkpoints.map(|folder| self.open_log(folder, part, steps)).transpose()?;
        let mut files = RunFiles { checkpoints, timer: SaveTimer::new(self.save_every), log };

        self.deadline = self.time_budget.and_then(|budget| Instant::now().checked_add(budget));
        while self.position.epoch < self.config.epochs && !self.has_stopped_early() {
            if self.ranks.any(self.is_out_of_time())? {
                return Ok(FitOutcome::Stopped(self.save(checkpoints)?));
            }
            let sums = self.train_epoch(&train, class_weights.as_deref(), &mut files, progress, stop)?;
            if self.position.batch < train.batches() && self.ranks.any(self.is_out_of_time())? {
                return Ok(FitOutcome::Stopped(self.save(checkpoints)?));
            }
            // Not kept: its packed weights are memory, and out of date after the next step.
            let predictor = Predictor::new(self.shared_network());
            let mut predictions = self.ranks.first(progress.wants_predictions())?.then(Predictions::default);
            let stops = || stop.load(Ordering::Relaxed);
            let result = self
                .evaluate(&predictor, &evaluation, &stops, predictions.as_mut())
                .context(|| format!("{part} images"))?;
            drop(predictor);
            let new = new_unreadable(&train, &evaluation, &mut unreadable);
            for (_, message) in self.ranks.collect(new)?.into_iter().flatten() {
                progress.warning(&format!("left out, from now on: {message}"));
            }
            // A resumed run evaluates again.
            let Some(result) = result else {
                // Another rank may have been asked to.
                stop.store(true, Ordering::Relaxed);
                return Ok(FitOutcome::Stopped(self.save(checkpoints)?));
            };
            if std::mem::replace(&mut evaluated_images, result.images) != result.images {
                progress.warning(&format!(
                    "from now on, the accuracy on the {part} images is of {} of {}: it cannot be compared with that of epochs before",
                    result.images,
                    evaluated.len()
                ));
            }
            let report = self.finish_epoch(sums, result);
            progress.evaluated(&report, predictions.as_ref());
            drop(predictions);
            self.average_epoch()?;
            let averaged = self.evaluate_average(&evaluation, &stops)?;
            if let Some(log) = &mut files.log {
                let line = self.epoch_line(&report, part, steps);
                let (loss, acc) = (averaged.map(|report| report.loss), averaged.map(|report| report.acc));
                log.add(&LogLine { average_loss: loss, average_acc: acc, ..line })?;
            }
            self.save(checkpoints)?;
            self.save_more(checkpoints)?;
            if let Some(report) = &averaged {
                progress.average(report);
            }
            files.timer.saved();
            progress.epoch(&report);
        }
        Ok(FitOutcome::Finished)
    }

    /// The weight of each class in the loss, if the configuration has any.
    fn class_weights(&self, data: &Split) -> Result<Option<Vec<f64>>> {
        self.config.class_balance.loss_weights(data.train.labels(), data.train.classes())
    }

    /// Looks at the checkpoints in the directory of the run.
    fn begin(&mut self, checkpoints: Option<&CheckpointDir>) -> Result<()> {
        self.best_saved = checkpoints.and_then(|checkpoints| checkpoints.begin(&self.history));
        let newest = self.history.last().filter(|_| self.position.batch == 0);
        let lacks_best = newest.is_some() && self.best() == newest && self.best_saved.as_ref() != newest;
        let lacks_last =
            self.position.step > 0 && checkpoints.is_some_and(|checkpoints| !checkpoints.has_last());
        let newest = newest.copied();
        let (lacks_best, lacks_last) = self.ranks.first((lacks_best, lacks_last))?;
        if !lacks_best && !lacks_last {
            return Ok(());
        }
        let Some((checkpoints, checkpoint)) = self.checkpoint_for(checkpoints)? else { return Ok(()) };
        if lacks_best {
            checkpoints.write(CheckpointDir::BEST, &checkpoint)?;
            self.best_saved = newest;
        }
        if lacks_last {
            checkpoints.write(CheckpointDir::LAST, &checkpoint)?;
        }
        Ok(())
    }

    /// Trains on the remaining batches of the current epoch, or until `stop`.
    fn train_epoch(
        &mut self,
        loader: &Loader,
        class_weights: Option<&[f64]>,
        files: &mut RunFiles<'_>,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Totals> {
        let start = Instant::now();
        let before = self.meter.sums().seconds;
        let mut logged = self.meter.sums();
        let first_step = self.position.step;
        for batch in loader.epoch_from(self.position.epoch, self.position.batch)? {
            let images = loader.batch_len(self.position.batch);
            let is_save_due = files.timer.is_due(self.position.step);
            let agreed = self.agree(batch?, images, class_weights, stop, is_save_due)?;
            if agreed.is_save_due && self.position.step > first_step {
                self.save(files.checkpoints)?;
                files.timer.saved();
            }
            if agreed.stops {
                break;
            }
            let metrics = self.train_step(agreed.batch, loader.batches(), progress)?;
            if let Some(metrics) = metrics {
                self.meter.add(metrics)?;
            }
            self.position.batch += 1;
            self.position.step += 1;
            self.meter.set_seconds(before + start.elapsed().as_secs_f64());
            progress.batch(&BatchReport {
                epoch: self.position.epoch + 1,
                batch: self.position.batch,
                batches: loader.batches(),
                lr: self.lr_at(self.position.step - 1, loader.batches() as u64, self.config.epochs),
                sums: self.meter.sums(),
            });
            if let Some(log) = &mut files.log {
                self.log_steps(log, &mut logged, loader.batches() as u64)?;
            }
        }
        self.meter.flush()?;
        self.meter.set_seconds(before + start.elapsed().as_secs_f64());
        Ok(self.meter.sums())
    }

    /// Opens the log in the directory of the run, with a line for each finished epoch.
    fn open_log(&self, folder: &CheckpointDir, part: Part, steps_per_epoch: u64) -> Result<RunLog> {
        let lines: Vec<LogLine> =
            self.history.iter().map(|report| self.epoch_line(report, part, steps_per_epoch)).collect();
        RunLog::open(folder.path(), self.position.step, &lines)
    }

    fn epoch_line(&self, report: &EpochReport, part: Part, steps_per_epoch: u64) -> LogLine {
        let step = report.epoch * steps_per_epoch;
        let lr = self.lr_at(step.saturating_sub(1), steps_per_epoch, self.config.epochs);
        LogLine::of_epoch(report, part, step, lr)
    }

    /// Adds a line to the log if it is due; `logged` are the totals at the line before.
    fn log_steps(&self, log: &mut RunLog, logged: &mut Totals, steps_per_epoch: u64) -> Result<()> {
        let step = self.position.step;
        if self.log_every == 0 || !step.is_multiple_of(self.log_every) {
            return Ok(());
        }
        let lr = self.lr_at(step - 1, steps_per_epoch, self.config.epochs);
        let sums = self.meter.sums();
        if let Some(line) = LogLine::of_steps(self.position.epoch + 1, step, lr, [logged, &sums]) {
            log.add(&line)?;
            *logged = sums;
        }
        Ok(())
    }

    fn finish_epoch(&mut self, sums: Totals, result: Evaluation) -> EpochReport {
        let report = EpochReport {
            epoch: self.position.epoch + 1,
            train_loss: sums.mean_loss(),
            train_acc: sums.accuracy(),
            eval_loss: result.loss,
            eval_acc: result.accuracy,
            images_per_s: sums.images_per_second(),
            seconds: sums.seconds,
        };
        self.history.push(report);
        self.position.epoch += 1;
        self.position.batch = 0;
        self.meter = Meter::default();
        report
    }

    /// Writes the best checkpoint if the epoch that has just finished is better than the one that is saved, then the last one:
    /// the best is never older than the history of the last.
    fn save(&mut self, checkpoints: Option<&CheckpointDir>) -> Result<Option<PathBuf>> {
        let Some((checkpoints, checkpoint)) = self.checkpoint_for(checkpoints)? else { return Ok(None) };
        let newest = self.history.last().filter(|_| self.position.batch == 0).copied();
        if let Some(newest) = newest
            && self.best_saved.is_none_or(|best| newest.eval_acc > best.eval_acc)
        {
            checkpoints.write(CheckpointDir::BEST, &checkpoint)?;
            self.best_saved = Some(newest);
        }
        checkpoints.write(CheckpointDir::LAST, &checkpoint).map(Some)
    }

    /// Returns a checkpoint for the rank that has a directory for it. Others take part if it needs what they have.
    fn checkpoint_for<'a>(
        &mut self,
        checkpoints: Option<&'a CheckpointDir>,
    ) -> Result<Option<(&'a CheckpointDir, Checkpoint)>> {
        if checkpoints.is_none() && !self.checkpoints_together() {
            return Ok(None);
        }
        Ok(checkpoints.zip(self.checkpoint_on(Receivers::First)?))
    }

    /// Creates the loader of the training images, shuffled and augmented, or of another part, with the transforms that are
    /// not random.
    fn loader(&self, dataset: &Arc<dyn Dataset>, part: Part, cache_bytes: u64) -> Result<Loader> {
        self.loader_with(dataset, part, cache_bytes, self.config.transforms.clone())
    }

    fn loader_with(
        &self,
        dataset: &Arc<dyn Dataset>,
        part: Part,
        cache_bytes: u64,
        transforms: Pipeline,
    ) -> Result<Loader> {
        let [_, h, w] = self.input;
        let TrainConfig { batch, seed, .. } = self.config;
        let (shuffle, transforms) = match part {
            Part::Train => (Some(seed), transforms),
            Part::Validation | Part::Test => (None, transforms.fixed()),
        };
        let drawn = part == Part::Train && self.config.class_balance == ClassBalance::WeightedSampler;
        let class_weights = drawn.then(|| ClassBalance::weights(dataset.labels(), dataset.classes()).into());
        let augment = transforms.into_augment(seed);
        let options = LoaderOptions::new()
            .batch_size(batch)
            .image_size((h, w))
            .channels(Some(self.input[0]))
            .shuffle(shuffle)
            .class_weights(class_weights)
            .cache_bytes(cache_bytes)
            .fast_decode(self.config.fast_decode && part == Part::Train)
            .augment(augment)
            .share(self.share(part))
            .workers(self.workers);
        Loader::new(Arc::clone(dataset), options)
    }

    /// Returns what this rank loads.
    fn share(&self, part: Part) -> Share {
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        match part {
            _ if size == 1 => Share::All,
            Part::Train => {
                Share::Shards { of: self.config.shards, own: self.ranks.own_shards(self.config.shards) }
            }
            Part::Validation | Part::Test => Share::Batches { of: size, first: rank },
        }
    }

    /// Returns the first batch of the run, shuffled and augmented as in training, but not normalized: values from 0 to 1, to be
    /// looked at.
    ///
    /// # Errors
    /// When no image can be read.
    pub fn first_batch(&self, data: &Split) -> Result<Batch> {
        let transforms = self.config.transforms.without_normalization();
        let loader = self.loader_with(&data.train, Part::Train, 0, transforms)?;
        let first = loader.epoch(0)?.next();
        first.unwrap_or_else(|| Err(Error::format("there are no images").context(data.train.name())))
    }

    /// Adds the step and advice to the error of a run that diverged.
    fn explain(&self, e: Error, checkpoints: Option<&CheckpointDir>) -> Error {
        if e.kind() != ErrorKind::Diverged {
            return e;
        }
        let kept = match checkpoints.and_then(CheckpointDir::last_written) {
            Some(path) => format!("the last good checkpoint is kept: {}", path.display()),
            None => "no checkpoint was written by this run".to_string(),
        };
        Error::new(
            ErrorKind::Diverged,
            format!(
                "epoch {}, step {}: {e}; {kept}; a learning rate below {:?} may help",
                self.position.epoch + u64::from(self.position.batch > 0 || self.meter.batches() > 0),
                self.position.step - self.position.batch as u64 + self.meter.batches(),
                self.config.optimizer.lr
            ),
        )
    }
}

/// Returns what could not be read since `known` files were known, and counts it.
fn new_unreadable(train: &Loader, evaluation: &Loader, known: &mut usize) -> Vec<(u32, String)> {
    let all = [train.unreadable(), evaluation.unreadable()].concat();
    if all.len() == *known {
        return Vec::new();
    }
    *known = all.len();
    all
}
