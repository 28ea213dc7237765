//! [`Run`]: the directory of a training run, to read.

use std::path::{Path, PathBuf};

use neocog_base::text::count;
use neocog_base::{Error, ErrorKind, Result};
use neocog_train::{Checkpoint, CheckpointDir, EpochReport, LogLine};

/// What the directory of a run holds. The run may still be in progress: checkpoints are replaced atomically.
#[derive(Debug)]
pub struct Run {
    /// The directory.
    pub path: PathBuf,
    /// The newest state, without that of the optimizer; with the parameters only if there is no best one.
    pub last: Checkpoint,
    /// The state after the best epoch, if it is there and of this run; without that of the optimizer.
    pub best: Option<Checkpoint>,
    /// What a reader should know about the files.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads the checkpoints in the directory `path`.
    ///
    /// # Errors
    /// `NotFound` when it holds no checkpoints, `InvalidArgument` when it is a file. Those of [`Checkpoint::read`], as `Format` when
    /// a checkpoint is damaged or of a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Err(Error::invalid_argument(format!(
                "{} is a file; expected the directory of a run, such as {}",
                path.display(),
                parent.display()
            )));
        }
        let [last, best] = [CheckpointDir::LAST, CheckpointDir::BEST].map(|name| path.join(name));
        let mut notes = Vec::new();
        if !last.exists() && best.exists() {
            notes.push(format!("There is no {}: the state is that of the best epoch.", CheckpointDir::LAST));
            let best = Checkpoint::read(&best)?;
            return Ok(Run { path: path.to_path_buf(), last: best.clone(), best: Some(best), notes });
        }
        if !last.exists() {
            let what = if path.exists() { "it has no checkpoints" } else { "there is no such directory" };
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{} is not the directory of a run: {what}; `train` writes to runs/NETWORK-DATA",
                    path.display()
                ),
            ));
        }
        // Optimizer states are as large as the network, and nothing here needs them.
        let mut last = CheckpointDir::read_to_resume(&last)?;
        last.optimizer.clear();
        let best = match best.exists().then(|| Checkpoint::read(&best)) {
            Some(Ok(mut best)) if last.history.starts_with(&best.history) && best.position.batch == 0 => {
                best.optimizer.clear();
                last.state.clear();
                Some(best)
            }
            Some(Ok(_)) => {
                notes.push(format!("{} is of another run and was not used.", CheckpointDir::BEST));
                None
            }
            Some(Err(e)) => {
                notes.push(format!("{} cannot be read and was not used: {e}", CheckpointDir::BEST));
                None
            }
            None => None,
        };
        LogLine::restore_times(path, &mut last.history);
        Ok(Run { path: path.to_path_buf(), last, best, notes })
    }

    /// Returns the name of the directory.
    pub fn name(&self) -> String {
        let full = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        full.file_name()
            .map_or_else(|| full.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Returns the reports of the finished epochs.
    pub fn history(&self) -> &[EpochReport] {
        &self.last.history
    }

    /// Returns the report of the first epoch with the best accuracy.
    pub fn best_epoch(&self) -> Option<&EpochReport> {
        EpochReport::best(self.history())
    }

    /// Returns the state to evaluate: that of the best epoch, or else the newest one.
    pub fn evaluated(&self) -> &Checkpoint {
        self.best.as_ref().unwrap_or(&self.last)
    }

    /// Whether all epochs are finished.
    pub fn is_finished(&self) -> bool {
        self.last.position.epoch >= self.last.config.epochs
    }

    /// Returns the number of steps in an epoch; `None` before the first one is finished.
    pub fn steps_per_epoch(&self) -> Option<u64> {
        let position = self.last.position;
        (position.step - position.batch as u64).checked_div(position.epoch).filter(|steps| *steps > 0)
    }

    /// Describes how much is finished: `3 of 10 epochs, and 12 batches of the next`.
    pub fn progress(&self) -> String {
        let position = self.last.position;
        let mut text = format!("{} of {} epochs", position.epoch, self.last.config.epochs);
        if position.batch > 0 {
            text += &format!(", and {} of the next", count(position.batch, "batch"));
        }
        text
    }
}
