//! The training loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_autograd::{Tape, Var};
use neocog_base::random::philox;
use neocog_data::{Dataset, Loader, LoaderOptions, Split};
use neocog_layers::{Builder, Layer, LayerSpec, Predictor, TrainPass};
use neocog_models::ScheduleStep;
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::checkpoint::{Checkpoint, CheckpointDir};
use crate::config::TrainConfig;
use crate::evaluate::{Evaluation, check_fits, evaluate};
use crate::meter::{BatchMetrics, Meter, Totals, batch_metrics, to_device};
use crate::optimizer::Optimizer;
use crate::progress::{BatchReport, EpochReport, Position, Progress};

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
}

/// A part of the data set.
enum Part {
    Train,
    Test,
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
    pub fn new(config: TrainConfig, data: &Dataset, device: &Device) -> Result<Self> {
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
        data: &Dataset,
        device: &Device,
    ) -> Result<Self> {
        Self::with_classes(config, spec, input, data.class_names().to_vec(), device)
    }

    /// As [`Trainer::with_spec`], with the names of the classes instead of the data.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_classes(
        config: TrainConfig,
        spec: LayerSpec,
        input: [usize; 3],
        class_names: Vec<String>,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        // Fail now and not when the checkpoint is read.
        if LayerSpec::from_json(&spec.to_json()?)? != spec {
            return Err(Error::invalid_argument(
                "the network changes when it is written as JSON and read back, so the run could not be resumed",
            ));
        }
        let [c, h, w] = input;
        let network: Arc<dyn Layer> =
            Builder::new(device, config.seed).build(&spec, &Shape::new(&[1, c, h, w])?)?.into();
        let optimizer = Optimizer::new(config.optimizer, &*network)?;
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
        })
    }

    /// Resumes a run from a checkpoint, bit-for-bit.
    ///
    /// # Errors
    /// When the network cannot be built, or the state does not match it.
    pub fn resume(checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        checkpoint.config.check()?;
        let network: Arc<dyn Layer> = checkpoint.network(device)?.into();
        let mut optimizer = Optimizer::new(checkpoint.config.optimizer, &*network)?;
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

    /// Trains until all epochs are finished, or until the end of the batch during which `stop` becomes true.
    ///
    /// After every epoch, and when the run is stopped, [`CheckpointDir::LAST`] is written; after every epoch with the best
    /// test accuracy so far, [`CheckpointDir::BEST`] too.
    ///
    /// # Errors
    /// When the network does not fit the data, the device fails, or a checkpoint cannot be written.
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
        check_fits(self.network(), self.input, &data.train).context(|| self.config.network.as_str())?;
        let train = self.loader(&data.train, Part::Train)?;
        let test = self.loader(&data.test, Part::Test)?;

        while self.position.epoch < self.config.epochs {
            let sums = self.train_epoch(&train, progress, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(FitOutcome::Stopped(self.save(checkpoints)?));
            }
            // Not kept: its packed weights are memory, and out of date after the next step.
            let predictor = Predictor::new(self.shared_network());
            let test = evaluate(&predictor, &test, &self.device).context(|| "test images")?;
            drop(predictor);
            let report = self.finish_epoch(sums, test);
            self.save(checkpoints)?;
            progress.epoch(&report);
        }
        Ok(FitOutcome::Finished)
    }

    /// Trains on the remaining batches of the current epoch, or until `stop`.
    fn train_epoch(
        &mut self,
        loader: &Loader,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Totals> {
        let start = Instant::now();
        let before = self.meter.sums().seconds;
        for batch in loader.epoch_from(self.position.epoch, self.position.batch)? {
            let (images, labels) = to_device(&batch?, &self.device)?;
            let metrics = self.train_step(images, &labels, loader.batches())?;
            self.meter.add(metrics)?;
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
        }
        self.meter.flush()?;
        self.meter.set_seconds(before + start.elapsed().as_secs_f64());
        Ok(self.meter.sums())
    }

    /// Makes one step: forward pass, loss, backward pass, update.
    fn train_step(
        &mut self,
        images: Tensor,
        labels: &Tensor,
        steps_per_epoch: usize,
    ) -> Result<BatchMetrics> {
        let tape = Tape::new();
        let logits = self.pass.run(&tape, &Var::constant(images), self.step_seed())?;
        let (loss, metrics) = batch_metrics(&tape, &logits, labels)?;
        let grads = tape.backward(&loss)?;
        let factor = self.config.schedule.lr_factor(self.schedule_step(steps_per_epoch));
        let lr = self.config.optimizer.lr * factor;
        self.optimizer.step(self.pass.network(), &grads, lr)?;
        Ok(metrics)
    }

    fn finish_epoch(&mut self, sums: Totals, test: Evaluation) -> EpochReport {
        let report = EpochReport {
            epoch: self.position.epoch + 1,
            train_loss: sums.mean_loss(),
            train_acc: sums.accuracy(),
            test_loss: test.loss,
            test_acc: test.accuracy,
            images_per_s: sums.images_per_second(),
            seconds: sums.seconds,
        };
        self.history.push(report);
        self.position.epoch += 1;
        self.position.batch = 0;
        self.meter = Meter::default();
        report
    }

    /// Writes the last checkpoint, and the best one if the epoch that has just finished is the best so far.
    fn save(&mut self, checkpoints: Option<&CheckpointDir>) -> Result<Option<PathBuf>> {
        let Some(checkpoints) = checkpoints else { return Ok(None) };
        let checkpoint = self.checkpoint()?;
        let path = checkpoints.write(CheckpointDir::LAST, &checkpoint)?;
        let newest = self.history.last().filter(|_| self.position.batch == 0);
        if newest.is_some() && self.best() == newest {
            checkpoints.write(CheckpointDir::BEST, &checkpoint)?;
        }
        Ok(Some(path))
    }

    /// Creates the loader of the training images, shuffled and augmented, or of the test images, with the transforms that are
    /// not random.
    fn loader(&self, dataset: &Arc<Dataset>, part: Part) -> Result<Loader> {
        let [_, h, w] = self.input;
        let TrainConfig { batch, seed, ref transforms, .. } = self.config;
        let (shuffle, transforms) = match part {
            Part::Train => (Some(seed), transforms.clone()),
            Part::Test => (None, transforms.fixed()),
        };
        let augment = transforms.into_augment(seed);
        let options = LoaderOptions::new()
            .batch_size(batch)
            .image_size((h, w))
            .shuffle(shuffle)
            .augment(augment)
            .workers(self.workers);
        Loader::new(Arc::clone(dataset), options)
    }

    /// Returns the seed of the next step, a function of the seed of the run and the step: a resumed run needs no state.
    fn step_seed(&self) -> u64 {
        // The high bit keeps the counter apart from those of the streams with the same seed.
        let [a, b, ..] = philox(self.config.seed, 1 << 127 | u128::from(self.position.step));
        u64::from(a) << 32 | u64::from(b)
    }

    fn schedule_step(&self, steps_per_epoch: usize) -> ScheduleStep {
        ScheduleStep {
            step: self.position.step,
            steps_per_epoch: steps_per_epoch as u64,
            epochs: self.config.epochs,
        }
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

    /// Returns the report of the first epoch with the best test accuracy.
    pub fn best(&self) -> Option<&EpochReport> {
        self.history.iter().reduce(|best, next| if next.test_acc > best.test_acc { next } else { best })
    }
}
