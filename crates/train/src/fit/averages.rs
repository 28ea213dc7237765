//! The averaged network of a run, and checkpoints besides the last and the best one.

use neocog_data::Loader;
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Result};

use super::Trainer;
use crate::checkpoint::{Checkpoint, CheckpointDir, SavedAverage};
use crate::progress::AverageReport;

impl Trainer {
    /// Adds the network to an average of epochs.
    pub(super) fn average_epoch(&mut self) -> Result<()> {
        match (self.config.options.swa, &mut self.average) {
            (Some(first), Some(average)) if self.position.epoch >= first => {
                average.update(self.pass.network(), 1.0 / (average.updates() + 1) as f64)
            }
            _ => Ok(()),
        }
    }

    /// Evaluates the averaged network; `None` if there is none yet.
    pub(super) fn evaluate_average(
        &self,
        evaluation: &Loader,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<AverageReport>> {
        let Some(average) = self.average.as_ref().filter(|average| average.updates() > 0) else {
            return Ok(None);
        };
        let predictor = Predictor::new(average.network().clone());
        let result = self.evaluate(&predictor, evaluation, stop, None).context(|| "the averaged network")?;
        let epoch = self.position.epoch;
        Ok(result.map(|result| AverageReport { epoch, loss: result.loss, acc: result.accuracy }))
    }

    /// Writes the averaged network and the checkpoint of the epoch, if they are asked for.
    pub(super) fn save_more(&mut self, folder: Option<&CheckpointDir>) -> Result<()> {
        if !self.ranks.first(folder.is_some() && self.keep > 0)? && self.average.is_none() {
            return Ok(());
        }
        let Some((folder, checkpoint)) = self.checkpoint_for(folder)? else { return Ok(()) };
        if let Some(averaged) = checkpoint.averaged() {
            folder.write(CheckpointDir::AVERAGED, &averaged)?;
        }
        if self.keep > 0 { folder.write_epoch(&checkpoint, self.keep) } else { Ok(()) }
    }

    /// Returns the averaged network for a checkpoint; `None` if there is none yet.
    pub(super) fn saved_average(&self) -> Result<Option<SavedAverage>> {
        let Some(average) = self.average.as_ref().filter(|average| average.updates() > 0) else {
            return Ok(None);
        };
        Ok(Some(SavedAverage {
            updates: average.updates(),
            state: Checkpoint::state_of(&**average.network())?,
            counters: Checkpoint::counters_of(&**average.network()),
        }))
    }
}
