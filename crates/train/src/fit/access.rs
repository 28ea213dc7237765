//! What a [`Trainer`] is asked for and told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use neocog_data::{Dataset, Split};
use neocog_layers::{Layer, LayerSpec, Untraceable};
use neocog_models::{EpochMetrics, Factors, ScheduleStep};
use neocog_tensor::{Error, Result, Shape};

use super::Trainer;
use crate::config::TrainConfig;
use crate::environment::Environment;
use crate::memory::MemoryNeed;
use crate::meter::Totals;
use crate::progress::{EpochReport, Position};
use crate::save_every::SaveEvery;

impl Trainer {
    /// Sets the name or the path of the data set: where the same data are when the run is resumed. [`Trainer::check_environment`] tells
    /// if they are others.
    pub fn set_data(&mut self, data: impl Into<String>) {
        self.config.data = data.into();
    }

    /// Leaves images out that cannot be read when the data are loaded. [`Trainer::check_environment`] tells if others are left.
    pub fn skip_broken(&mut self) {
        self.config.data_options.skip_broken = true;
    }

    /// Estimates the memory that the run needs for batches of `data`; see [`MemoryNeed`].
    ///
    /// # Errors
    /// When the network does not accept its input.
    pub fn memory_need(&self, data: &dyn Dataset) -> Result<MemoryNeed> {
        let [c, h, w] = self.input;
        let shape = [self.config.batch.min(data.len()), c, h, w];
        let TrainConfig { optimizer, shards, .. } = &self.config;
        let mut need =
            MemoryNeed::of_training(&self.pass, optimizer, shape, *shards, self.workers, &self.device)?;
        if self.compressed.is_some() {
            // For each shard of this process, and each sum of two, what rounding leaves out.
            let own = self.config.shards / self.ranks.size();
            let parameters = neocog_layers::state::param_count(self.network()) as u64;
            need.state += 2 * own as u64 * parameters * size_of::<f32>() as u64;
        }
        Ok(need)
    }

    /// Returns why the training runs layer by layer on whole batches of `data`, if it does; what changes from step to step without the
    /// tape is found out during the first steps.
    ///
    /// # Errors
    /// When the network does not accept its input.
    pub fn reason(&self, data: &dyn Dataset) -> Result<Option<Untraceable>> {
        let [c, h, w] = self.input;
        let images = self.config.batch.min(data.len()).div_ceil(self.config.shards);
        self.pass.reason(&Shape::new(&[images, c, h, w])?, &self.device)
    }

    /// Returns the configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Returns the totals of the batches of the current epoch, as of those before a resume.
    pub fn epoch_totals(&self) -> Totals {
        self.meter.sums()
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

    /// Sets how many checkpoints of finished epochs are kept as `epoch-N.ckpt`, besides the last and the best one; none by default.
    pub fn set_keep(&mut self, epochs: u64) {
        self.keep = epochs;
    }

    /// Sets a time after which a call of [`Trainer::fit`] stops at the end of a step, as if it was asked to; none by default. It does not
    /// interrupt an evaluation.
    pub fn set_time_budget(&mut self, time: Option<Duration>) {
        self.time_budget = time;
    }

    /// Whether the time of this call of [`Trainer::fit`] is over.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether the run ended, or ends now, before its last epoch: there was no better accuracy for the number of epochs that
    /// [`TrainOptions::early_stopping`](crate::TrainOptions::early_stopping) says.
    pub fn has_stopped_early(&self) -> bool {
        let waited = self.best().map_or(0, |best| self.position.epoch - best.epoch);
        self.config.options.early_stopping.is_some_and(|patience| waited >= patience)
    }

    /// Returns the averaged network, if the run keeps one and it was updated at least once.
    pub fn averaged_network(&self) -> Option<Arc<dyn Layer>> {
        self.average.as_ref().filter(|average| average.updates() > 0).map(|average| average.network().clone())
    }

    /// Sets after how many steps a line is added to the [log](crate::LogLine) of a run in a directory, besides that of each epoch; 50 by
    /// default. With 0, there are only lines of epochs.
    pub fn set_log_every(&mut self, steps: u64) {
        self.log_every = steps;
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
        self.config.optimizer.lr * self.factors_at(ScheduleStep { step, steps_per_epoch, epochs }).lr
    }

    /// Returns what the schedule says about a step.
    pub(super) fn factors_at(&self, now: ScheduleStep) -> Factors {
        let start = self.config.schedule_from;
        let metrics: Vec<EpochMetrics> =
            self.history.iter().skip(start as usize).map(EpochMetrics::from).collect();
        let now = ScheduleStep {
            step: now.step.saturating_sub(start * now.steps_per_epoch),
            epochs: now.epochs.saturating_sub(start),
            ..now
        };
        self.config.schedule.factors(now, self.config.optimizer.lr, &metrics)
    }

    /// Starts the schedule anew, warm-up included: it then spans the rest of the run, from the start of the current epoch on.
    pub fn restart_schedule(&mut self) {
        self.config.schedule_from = self.position.epoch;
    }

    /// Returns the network.
    pub fn network(&self) -> &dyn Layer {
        self.pass.network()
    }

    /// Returns the network, shared: for a [`Predictor`](neocog_layers::Predictor).
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
        EpochReport::best(&self.history)
    }

    /// Returns the report of the epoch whose checkpoint is in [`CheckpointDir::BEST`](crate::CheckpointDir::BEST). It is not the [`best`](Self::best) one
    /// where the run was resumed without the checkpoint of that.
    pub fn best_saved(&self) -> Option<&EpochReport> {
        self.best_saved.as_ref()
    }
}
