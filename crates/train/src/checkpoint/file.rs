//! Checkpoints as files; for the format see [`neocog_models::trained`].

use std::path::Path;

use neocog_models::trained::{CheckpointFile, VERSION, write};
use neocog_tensor::{Context as _, Result};

use super::content::{Checkpoint, SavedAverage, SavedFeedback};
use super::version1::Version1;

/// The format version that a checkpoint is written in.
fn version_of(checkpoint: &Checkpoint) -> u32 {
    match (&checkpoint.average, checkpoint.feedback.is_empty()) {
        (_, false) => VERSION,
        (Some(_), true) => 3,
        (None, true) => 2,
    }
}

impl Checkpoint {
    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Format` when it is not a checkpoint, has a newer version, or is truncated or
    /// damaged. The message names the file.
    pub fn read(path: &Path) -> Result<Self> {
        decode(&CheckpointFile::read(path)?).context(|| path.display().to_string())
    }

    /// Parses a checkpoint from the bytes of a file.
    ///
    /// # Errors
    /// `Format` as of [`Checkpoint::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        decode(&CheckpointFile::from_bytes(bytes)?)
    }

    /// Writes the checkpoint to `path`, replacing an existing file.
    ///
    /// # Errors
    /// `Io` when it cannot be written; an existing file is not changed then.
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, version_of(self), |content| {
            content.encode(self)?;
            let Checkpoint { average, feedback, .. } = self;
            if !feedback.is_empty() {
                content.encode((average, feedback))
            } else if let Some(average) = average {
                content.encode(average)
            } else {
                Ok(())
            }
        })
    }
}

fn decode(file: &CheckpointFile) -> Result<Checkpoint> {
    let checkpoint = match file.version() {
        1 => file.decode::<Version1>()?.into(),
        2 => file.decode()?,
        3 => {
            let (checkpoint, average) = file.decode::<(Checkpoint, SavedAverage)>()?;
            Checkpoint { average: Some(average), ..checkpoint }
        }
        _ => {
            let (checkpoint, (average, feedback)) =
                file.decode::<(Checkpoint, (Option<SavedAverage>, Vec<SavedFeedback>))>()?;
            Checkpoint { average, feedback, ..checkpoint }
        }
    };
    checkpoint.check()?;
    Ok(checkpoint)
}
