//! The training loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_autograd::{Tape, Var};
use neocog_base::random::philox;
use neocog_data::transform::Pipeline;
use neocog_data::{Batch, Dataset, Loader, LoaderOptions, Part, Split};
use neocog_layers::{Builder, Context, Layer, LayerSpec, Predictor, TrainPass};
use neocog_models::ScheduleStep;
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::checkpoint::{Checkpoint, CheckpointDir};
use crate::config::{ClassBalance, TrainConfig};
use crate::environment::Environment;
use crate::evaluate::{Evaluation, check_fits, evaluate_batches};
use crate::memory::MemoryNeed;
use crate::meter::{BatchMetrics, Meter, Totals, batch_metrics, sample_weights, to_device};
use crate::optimizer::Optimizer;
use crate::predictions::Predictions;
use crate::progress::{BatchReport, EpochReport, Position, Progress};
use crate::save_every::{SaveEvery, SaveTimer};

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
    /// Maximum memory for images that were read and resized, in bytes.
    cache_bytes: u64,
    /// The epoch whose checkpoint is in [`CheckpointDir::BEST`].
    best_saved: Option<EpochReport>,
}

/// The outcome of [`Trainer::fit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FitOutcome {
    /// All epochs are finished.
    Finished,
    /// The run was stopped; with the path of the checkpoint, if there is a checkpoint directory.
    Stopped(Option<PathBuf>),
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
        Ok(Trainer {
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
        Ok(Trainer {
            device: *device,
            spec: checkpoint.spec()?,
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
            cache_bytes: 0,
            best_saved: None,
        })
    }

    /// Returns a checkpoint of the run.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a parameter is not finite; when the device fails.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            config: self.config.clone(),
            spec: self.spec.to_json()?,
            input: self.input,
            class_names: self.class_names.clone(),
            state: Checkpoint::state_of(self.network())?,
            counters: Checkpoint::counters_of(self.network()),
            optimizer: Checkpoint::optimizer_state_of(&self.optimizer)?,
            position: self.position,
            sums: self.meter.flush()?,
            history: self.history.clone(),
        })
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
        let mut unreadable = 0;
        let now = Environment::of(data, &self.device)?;
        if !self.allow_different {
            self.config.environment.check(&now)?;
        }
        self.config.environment = now;
        self.config.selected_on = Some(part);
        let class_weights = (self.config.class_balance == ClassBalance::BalancedWeights)
            .then(|| ClassBalance::weights(data.train.labels(), data.train.classes()));
        self.begin(checkpoints)?;
        let mut timer = SaveTimer::new(self.save_every);

        while self.position.epoch < self.config.epochs {
            let sums =
                self.train_epoch(&train, class_weights.as_deref(), checkpoints, &mut timer, progress, stop)?;
            // Not kept: its packed weights are memory, and out of date after the next step.
            let predictor = Predictor::new(self.shared_network());
            let mut predictions = progress.wants_predictions().then(Predictions::default);
            let stop = || stop.load(Ordering::Relaxed);
            let result = evaluate_batches(&predictor, &evaluation, &self.device, &stop, predictions.as_mut())
                .context(|| format!("{part} images"))?;
            drop(predictor);
            for (_, message) in new_unreadable(&train, &evaluation, &mut unreadable) {
                progress.warning(&format!("left out, from now on: {message}"));
            }
            // A resumed run evaluates again.
            let Some(result) = result else { return Ok(FitOutcome::Stopped(self.save(checkpoints)?)) };
            let report = self.finish_epoch(sums, result);
            progress.evaluated(&report, predictions.as_ref());
            drop(predictions);
            self.save(checkpoints)?;
            timer.saved();
            progress.epoch(&report);
        }
        Ok(FitOutcome::Finished)
    }

    /// Looks at the checkpoints in the directory of the run.
    fn begin(&mut self, checkpoints: Option<&CheckpointDir>) -> Result<()> {
        let Some(checkpoints) = checkpoints else { return Ok(()) };
        self.best_saved = checkpoints.begin(&self.history);
        let newest = self.history.last().filter(|_| self.position.batch == 0);
        let lacks_best = newest.is_some() && self.best() == newest && self.best_saved.as_ref() != newest;
        if lacks_best {
            let newest = newest.copied();
            checkpoints.write(CheckpointDir::BEST, &self.checkpoint()?)?;
            self.best_saved = newest;
        }
        if self.position.step > 0 && !checkpoints.has_last() {
            checkpoints.write(CheckpointDir::LAST, &self.checkpoint()?)?;
        }
        Ok(())
    }

    /// Trains on the remaining batches of the current epoch, or until `stop`.
    fn train_epoch(
        &mut self,
        loader: &Loader,
        class_weights: Option<&[f64]>,
        checkpoints: Option<&CheckpointDir>,
        timer: &mut SaveTimer,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Totals> {
        let start = Instant::now();
        let before = self.meter.sums().seconds;
        for batch in loader.epoch_from(self.position.epoch, self.position.batch)? {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let batch = batch?;
            if !batch.is_empty() && !self.is_left_out(batch.len(), loader.batches()) {
                let (images, labels) = to_device(&batch, &self.device)?;
                let weights = class_weights.map(|weights| sample_weights(&batch, weights, &self.device));
                let metrics =
                    self.train_step(images, &labels, weights.transpose()?, loader.batches(), progress)?;
                self.meter.add(metrics)?;
            }
            self.position.batch += 1;
            self.position.step += 1;
            self.meter.set_seconds(before + start.elapsed().as_secs_f64());
            progress.batch(&BatchReport {
                epoch: self.position.epoch + 1,
                batch: self.position.batch,
                batches: loader.batches(),
                sums: self.meter.sums(),
            });
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if timer.is_due(self.position.step) {
                self.save(checkpoints)?;
                timer.saved();
            }
        }
        self.meter.flush()?;
        self.meter.set_seconds(before + start.elapsed().as_secs_f64());
        Ok(self.meter.sums())
    }

    /// Whether a batch is not trained on: a single image that is left at the end of an epoch, which batch norm cannot normalize.
    /// In each epoch it is another one, if the images are shuffled.
    fn is_left_out(&self, images: usize, batches: usize) -> bool {
        if images != 1 || self.config.batch == 1 || batches == 1 {
            return false;
        }
        let accepts = |n: usize| {
            let [c, h, w] = self.input;
            let shapes = Tensor::zeros([n, c, h, w], &Device::Meta)?;
            let tape = Tape::no_grad();
            Context::train(&tape, 0).run(self.pass.network(), &Var::constant(shapes)).map(drop)
        };
        accepts(1).is_err() && accepts(2).is_ok()
    }

    /// Makes one step: forward pass, loss, backward pass, update.
    fn train_step(
        &mut self,
        images: Tensor,
        labels: &Tensor,
        weights: Option<Tensor>,
        steps_per_epoch: usize,
        progress: &mut dyn Progress,
    ) -> Result<BatchMetrics> {
        let tape = Tape::new();
        let logits = self.pass.run(&tape, &Var::constant(images), self.step_seed())?;
        let (loss, metrics) = batch_metrics(&tape, &logits, labels, weights)?;
        let grads = tape.backward(&loss)?;
        progress.gradients(self.position.step + 1, self.pass.network(), &grads);
        let step = ScheduleStep {
            step: self.position.step,
            steps_per_epoch: steps_per_epoch as u64,
            epochs: self.config.epochs,
        };
        let factor = self.config.schedule.lr_factor(step);
        self.optimizer.step_scaled(self.pass.network(), &grads, factor)?;
        Ok(metrics)
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
        let Some(checkpoints) = checkpoints else { return Ok(None) };
        let checkpoint = self.checkpoint()?;
        let newest = self.history.last().filter(|_| self.position.batch == 0).copied();
        if let Some(newest) = newest
            && self.best_saved.is_none_or(|best| newest.eval_acc > best.eval_acc)
        {
            checkpoints.write(CheckpointDir::BEST, &checkpoint)?;
            self.best_saved = Some(newest);
        }
        checkpoints.write(CheckpointDir::LAST, &checkpoint).map(Some)
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
            .workers(self.workers);
        Loader::new(Arc::clone(dataset), options)
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

    /// Returns the seed of the next step, a function of the seed of the run and the step: a resumed run needs no state.
    fn step_seed(&self) -> u64 {
        // The high bit keeps the counter apart from those of the streams with the same seed.
        let [a, b, ..] = philox(self.config.seed, 1 << 127 | u128::from(self.position.step));
        u64::from(a) << 32 | u64::from(b)
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

    /// Estimates the memory that the run needs for batches of `data`; see [`MemoryNeed`].
    ///
    /// # Errors
    /// When the network does not accept its input.
    pub fn memory_need(&self, data: &dyn Dataset) -> Result<MemoryNeed> {
        let [c, h, w] = self.input;
        let shape = [self.config.batch.min(data.len()), c, h, w];
        MemoryNeed::of_training(&self.pass, &self.config.optimizer, shape, self.workers, &self.device)
    }

    /// Returns the configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Sets the number of epochs, the only value of the configuration that may change during a run.
    ///
    /// # Errors
    /// `InvalidArgument` when that many epochs are already finished.
    pub fn set_epochs(&mut self, epochs: u64) -> Result<()> {
        if epochs <= self.position.epoch {
            return Err(Error::invalid_argument(format!(
                "the number of epochs includes the {0} finished ones and must be greater than {0}, not {epochs}",
                self.position.epoch
            )));
        }
        self.config.epochs = epochs;
        Ok(())
    }

    /// Sets the number of data loader threads, 1 by default. It affects speed only, not the result.
    pub fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
    }

    /// Sets the maximum memory for images that were read from disk and resized, in bytes; 0 by default.
    pub fn set_cache_bytes(&mut self, cache_bytes: u64) {
        self.cache_bytes = cache_bytes;
    }

    /// Sets how often a checkpoint is written within an epoch; never by default.
    pub fn set_save_every(&mut self, save_every: SaveEvery) {
        self.save_every = save_every;
    }

    /// Sets whether [`Trainer::fit`] resumes a run with other data, or on another device, instruction set or version of neocog.
    pub fn set_allow_different(&mut self, allow: bool) {
        self.allow_different = allow;
    }

    /// Checks that a resumed run is the same, bit for bit: with `data`, on this device, instruction set and version of neocog.
    ///
    /// # Errors
    /// `Mismatch`, with what differs, unless [`Trainer::set_allow_different`] allows it.
    pub fn check_environment(&self, data: &Split) -> Result<()> {
        let is_checked = !self.allow_different && !self.config.environment.is_unknown();
        if is_checked { self.config.environment.check(&Environment::of(data, &self.device)?) } else { Ok(()) }
    }

    /// Returns the environment of the checkpoint that the run was resumed from, or of the last call of [`Trainer::fit`].
    pub fn environment(&self) -> &Environment {
        &self.config.environment
    }

    /// Returns the learning rate of step `step`, counted from 0, of this run if it had `epochs` epochs of
    /// `steps_per_epoch` steps.
    pub fn lr_at(&self, step: u64, steps_per_epoch: u64, epochs: u64) -> f64 {
        let factor = self.config.schedule.lr_factor(ScheduleStep { step, steps_per_epoch, epochs });
        self.config.optimizer.lr * factor
    }

    /// Returns the network.
    pub fn network(&self) -> &dyn Layer {
        self.pass.network()
    }

    /// Returns the network, shared: for a [`Predictor`].
    pub fn shared_network(&self) -> Arc<dyn Layer> {
        self.pass.shared_network()
    }

    /// Returns the spec of the network.
    pub fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    /// Returns the shape of one input, `[c, h, w]`.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// Returns the position of the run.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the reports of all finished epochs.
    pub fn history(&self) -> &[EpochReport] {
        &self.history
    }

    /// Returns the report of the first epoch with the best accuracy on the part that
    /// [`TrainConfig::selected_on`] names.
    pub fn best(&self) -> Option<&EpochReport> {
        self.history.iter().reduce(|best, next| if next.eval_acc > best.eval_acc { next } else { best })
    }

    /// Returns the report of the epoch whose checkpoint is in [`CheckpointDir::BEST`]. It is not the [`best`](Self::best) one
    /// where the run was resumed without the checkpoint of that.
    pub fn best_saved(&self) -> Option<&EpochReport> {
        self.best_saved.as_ref()
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
