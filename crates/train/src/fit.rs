//! The training loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_autograd::{Tape, Var};
use neocog_base::random::philox;
use neocog_data::{Dataset, Loader, LoaderOptions, Split};
use neocog_layers::{Builder, Context, Layer, LayerSpec};
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointDir};
use crate::evaluate::{Evaluation, check_fits, evaluate};
use crate::meter::{Measured, Meter, Totals, measure, to_device};
use crate::optimizer::Optimizer;
use crate::plan::TrainConfig;
use crate::schedule::ScheduleStep;

/// A run of a [`TrainConfig`]: the network, its optimizer, and where the run stands.
#[derive(Debug)]
pub struct Trainer {
    plan: TrainConfig,
    device: Device,
    spec: LayerSpec,
    /// `[c, h, w]`.
    input: [usize; 3],
    class_names: Vec<String>,
    network: Box<dyn Layer>,
    optimizer: Optimizer,
    position: Position,
    meter: Meter,
    history: Vec<EpochReport>,
    /// Threads that make batches.
    workers: usize,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are finished.
    pub epoch: u64,
    /// Batches of the next epoch that are done.
    pub batch: usize,
    /// Steps that were made, over all epochs.
    pub step: u64,
}

/// What an epoch gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Which epoch, from 1.
    pub epoch: u64,
    /// The mean loss of a training image, while the network changed.
    pub train_loss: f64,
    /// The share of training images that were classified rightly, while the network changed.
    pub train_acc: f64,
    /// The mean loss of a test image, after the epoch.
    pub test_loss: f64,
    /// The share of test images that are classified rightly, after the epoch.
    pub test_acc: f64,
    /// Training images per second.
    pub images_per_s: f64,
    /// How long the training part of the epoch took.
    pub seconds: f64,
}

/// What a batch gave, for a progress bar.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// Which epoch, from 1.
    pub epoch: u64,
    /// Batches of the epoch that are done.
    pub batch: usize,
    /// Batches in an epoch.
    pub batches: usize,
    /// Over the epoch so far; the newest batch may not be in them yet.
    pub sums: Totals,
}

/// Is told how a run goes.
pub trait Progress {
    /// A batch was trained on.
    fn batch(&mut self, report: &BatchReport);
    /// An epoch is finished, evaluated and saved.
    fn epoch(&mut self, report: &EpochReport);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn batch(&mut self, _report: &BatchReport) {}
    fn epoch(&mut self, _report: &EpochReport) {}
}

/// What images are for.
enum Part {
    Train,
    Test,
}

/// How [`Trainer::fit`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FitOutcome {
    /// All epochs are done.
    Finished,
    /// It was told to stop; where the checkpoint was written, if there is a folder for it.
    Stopped(Option<PathBuf>),
}

impl Trainer {
    /// A run from the start: the plan's network with initial parameters.
    ///
    /// # Errors
    /// When the plan is not allowed, or network and data do not fit.
    pub fn new(plan: TrainConfig, data: &Dataset, device: &Device) -> Result<Self> {
        let model = neocog_models::find(&plan.network)?;
        Self::with_spec(plan, model.spec()?, model.recipe.input, data, device)
    }

    /// As [`Trainer::new`], for a network that is not registered; `input` is `[c, h, w]`.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_spec(
        plan: TrainConfig,
        spec: LayerSpec,
        input: [usize; 3],
        data: &Dataset,
        device: &Device,
    ) -> Result<Self> {
        Self::with_classes(plan, spec, input, data.class_names().to_vec(), device)
    }

    /// As [`Trainer::with_spec`], with the names of the classes in place of the data.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_classes(
        plan: TrainConfig,
        spec: LayerSpec,
        input: [usize; 3],
        class_names: Vec<String>,
        device: &Device,
    ) -> Result<Self> {
        plan.check()?;
        // Better now than when the checkpoint is read.
        if LayerSpec::from_json(&spec.to_json()?)? != spec {
            return Err(Error::invalid_argument(
                "the network is not the same when it was written as JSON and read again, so it could not be resumed",
            ));
        }
        let [c, h, w] = input;
        let network = Builder::new(device, plan.seed).build(&spec, &Shape::new(&[1, c, h, w])?)?;
        let optimizer = Optimizer::new(plan.optimizer, &*network)?;
        Ok(Trainer {
            plan,
            device: device.clone(),
            spec,
            input,
            class_names,
            network,
            optimizer,
            position: Position::default(),
            meter: Meter::default(),
            history: Vec::new(),
            workers: 1,
        })
    }

    /// A run that goes on from a checkpoint as if it had never stopped.
    ///
    /// # Errors
    /// When the checkpoint does not fit the network that it names.
    pub fn resume(checkpoint: Checkpoint, device: &Device) -> Result<Self> {
        checkpoint.plan.check()?;
        let network = checkpoint.network(device)?;
        let mut optimizer = Optimizer::new(checkpoint.plan.optimizer, &*network)?;
        optimizer.set_state(checkpoint.optimizer_state(device)?)?;
        Ok(Trainer {
            device: device.clone(),
            spec: checkpoint.spec()?,
            input: checkpoint.input,
            network,
            optimizer,
            meter: Meter::resume(checkpoint.sums, checkpoint.position.batch as u64),
            position: checkpoint.position,
            plan: checkpoint.plan,
            class_names: checkpoint.class_names,
            history: checkpoint.history,
            workers: 1,
        })
    }

    /// All that is needed to go on later.
    ///
    /// # Errors
    /// [`ErrorKind::Diverged`] when a parameter is not a finite number; when the device fails.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            plan: self.plan.clone(),
            spec: self.spec.to_json()?,
            input: self.input,
            class_names: self.class_names.clone(),
            state: Checkpoint::state_of(&*self.network)?,
            counters: Checkpoint::counters_of(&*self.network),
            optimizer: Checkpoint::optimizer_state_of(&self.optimizer)?,
            position: self.position,
            sums: self.meter.settle()?,
            history: self.history.clone(),
        })
    }

    /// Trains until all epochs are done, or `stop` becomes true: then it ends after the batch.
    ///
    /// After every epoch, and when it is stopped, the checkpoint `last` is written to `folder`; after every epoch
    /// that is the best so far on the test images, `best` too.
    ///
    /// # Errors
    /// When network and data do not fit, the device fails, or a checkpoint cannot be written.
    /// [`ErrorKind::Diverged`] when the loss is no longer a finite number: the error tells the step, and the last
    /// checkpoint is kept.
    pub fn fit(
        &mut self,
        data: &Split,
        folder: Option<&CheckpointDir>,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<FitOutcome> {
        self.fit_unexplained(data, folder, progress, stop).map_err(|e| self.explain(e, folder))
    }

    fn fit_unexplained(
        &mut self,
        data: &Split,
        folder: Option<&CheckpointDir>,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<FitOutcome> {
        check_fits(&*self.network, self.input, &data.train).context(|| self.plan.network.as_str())?;
        let train = self.loader(&data.train, Part::Train)?;
        let test = self.loader(&data.test, Part::Test)?;

        while self.position.epoch < self.plan.epochs {
            let sums = self.train_epoch(&train, progress, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(FitOutcome::Stopped(self.save(folder)?));
            }
            let test = evaluate(&*self.network, &test, &self.device).context(|| "test images")?;
            let report = self.finish_epoch(sums, test);
            self.save(folder)?;
            progress.epoch(&report);
        }
        Ok(FitOutcome::Finished)
    }

    /// Trains on the batches of the current epoch that are left, or until `stop`.
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
            let measured = self.train_step(images, &labels, loader.batches())?;
            self.meter.add(measured)?;
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
        self.meter.settle()?;
        self.meter.set_seconds(before + start.elapsed().as_secs_f64());
        Ok(self.meter.sums())
    }

    /// One step: forward, loss, backward, update.
    fn train_step(&mut self, images: Tensor, labels: &Tensor, steps_per_epoch: usize) -> Result<Measured> {
        let tape = Tape::new();
        let context = Context::train(&tape, self.step_seed());
        let logits = context.run(&*self.network, &Var::constant(images))?;
        let (loss, measured) = measure(&tape, &logits, labels)?;
        let grads = tape.backward(&loss)?;
        let lr = self.plan.optimizer.lr * self.plan.schedule.lr_factor(self.moment(steps_per_epoch));
        self.optimizer.step(&*self.network, &grads, lr)?;
        Ok(measured)
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

    /// Writes the last checkpoint, and the best one when the epoch that was just finished is the best so far.
    fn save(&mut self, folder: Option<&CheckpointDir>) -> Result<Option<PathBuf>> {
        let Some(folder) = folder else { return Ok(None) };
        let checkpoint = self.checkpoint()?;
        let path = folder.write(CheckpointDir::LAST, &checkpoint)?;
        let newest = self.history.last().filter(|_| self.position.batch == 0);
        if newest.is_some() && self.best() == newest {
            folder.write(CheckpointDir::BEST, &checkpoint)?;
        }
        Ok(Some(path))
    }

    /// The training images in the order and with the changes that the plan's seed decides, or the test images with
    /// those that are not random.
    fn loader(&self, dataset: &Arc<Dataset>, part: Part) -> Result<Loader> {
        let [_, h, w] = self.input;
        let TrainConfig { batch, seed, ref transforms, .. } = self.plan;
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

    /// The seed of a step's random numbers: a function of the run's seed and the step, so nothing needs to be
    /// remembered to go on.
    fn step_seed(&self) -> u64 {
        // Far away from the counters of the streams that start from the same seed.
        let [a, b, ..] = philox(self.plan.seed, 1 << 127 | u128::from(self.position.step));
        u64::from(a) << 32 | u64::from(b)
    }

    fn moment(&self, steps_per_epoch: usize) -> ScheduleStep {
        ScheduleStep {
            step: self.position.step,
            steps_per_epoch: steps_per_epoch as u64,
            epochs: self.plan.epochs,
        }
    }

    /// Adds to the error of a run that diverged when it did, and what can be done.
    fn explain(&self, e: Error, folder: Option<&CheckpointDir>) -> Error {
        if e.kind() != ErrorKind::Diverged {
            return e;
        }
        let kept = match folder.and_then(CheckpointDir::last_written) {
            Some(path) => format!("the last good checkpoint is kept: {}", path.display()),
            None => "no checkpoint was written by this run".to_string(),
        };
        Error::new(
            ErrorKind::Diverged,
            format!(
                "epoch {}, step {}: {e}; {kept}; a learning rate below {:?} may help",
                self.position.epoch + u64::from(self.position.batch > 0 || self.meter.batches() > 0),
                self.position.step - self.position.batch as u64 + self.meter.batches(),
                self.plan.optimizer.lr
            ),
        )
    }

    /// The plan.
    pub fn plan(&self) -> &TrainConfig {
        &self.plan
    }

    /// Changes how many epochs there are: the one number of the plan that may change on the way.
    ///
    /// # Errors
    /// When that many epochs are behind already.
    pub fn set_epochs(&mut self, epochs: u64) -> Result<()> {
        if epochs <= self.position.epoch {
            return Err(Error::invalid_argument(format!(
                "the epochs of a run are counted from its start: {0} are behind it, so ask for more than {0}, not {epochs}",
                self.position.epoch
            )));
        }
        self.plan.epochs = epochs;
        Ok(())
    }

    /// Changes how many threads make batches: 1 at first. It changes the speed only, and is no part of the plan.
    pub fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
    }

    /// The network.
    pub fn network(&self) -> &dyn Layer {
        &*self.network
    }

    /// The network as a value.
    pub fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    /// The network's input, `[c, h, w]`.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The reports of all finished epochs.
    pub fn history(&self) -> &[EpochReport] {
        &self.history
    }

    /// The report with the best test accuracy, the first of equals.
    pub fn best(&self) -> Option<&EpochReport> {
        self.history.iter().reduce(|best, next| if next.test_acc > best.test_acc { next } else { best })
    }
}
