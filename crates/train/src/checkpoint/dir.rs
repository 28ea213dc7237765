//! The directory of a run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use neocog_base::file::{check_output_dir, is_same, remove_leftovers, replace, sync_folder};
use neocog_base::lock::FileLock;
use neocog_tensor::{Error, Result};

use super::MAGIC;
use super::content::Checkpoint;
use crate::log::LogLine;
use crate::progress::EpochReport;

/// Name of the file that a run locks.
const LOCK: &str = ".lock";

/// The files of a run that exist before its first checkpoint.
const RECORDS: [&str; 2] = [CheckpointDir::CONFIG, LogLine::FILE];

/// Temporary files of earlier versions.
const OLD_TEMPORARY: [&str; 3] = [".last.ckpt.part", ".best.ckpt.part", ".probe.part"];

/// The directory for the checkpoints of a run. One run at a time holds it.
#[derive(Debug)]
pub struct CheckpointDir {
    path: PathBuf,
    lock: FileLock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_written: Option<PathBuf>,
    /// Files of another run, or of a later position of this one, that the first write must not mix with its own.
    foreign: Vec<&'static str>,
    /// Whether they are kept under another name.
    keep_foreign: bool,
    /// Whether the first write removes what there is of an earlier run.
    replaces_run: bool,
    set_aside: Vec<PathBuf>,
}

impl CheckpointDir {
    /// File name of the latest checkpoint.
    pub const LAST: &'static str = "last.ckpt";
    /// File name of the checkpoint with the best test accuracy.
    pub const BEST: &'static str = "best.ckpt";
    /// File name of the checkpoint with the averaged network of the latest epoch, of a run that keeps an average.
    pub const AVERAGED: &'static str = "averaged.ckpt";
    /// File name of the configuration of the run, as a program writes it.
    pub const CONFIG: &'static str = "config.toml";
    /// Names of the files that a run needs.
    pub const FILES: [&'static str; 6] =
        [Self::LAST, Self::BEST, Self::AVERAGED, Self::CONFIG, LogLine::FILE, LOCK];

    /// Creates the directory if it does not exist, locks it until the value is dropped, checks that files can be written in
    /// it, and removes temporary files that a killed run left. Checkpoints that are in it are replaced by those of the next
    /// run; see [`CheckpointDir::holds_run`] and [`CheckpointDir::replace_run`].
    ///
    /// # Errors
    /// `Io` when the directory cannot be created or written to. `InvalidArgument` when another run holds it; the message has
    /// the process, its host and since when.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match Self::try_create(&path)? {
            Ok(dir) => Ok(dir),
            Err(holder) => Err(Error::invalid_argument(format!(
                "another run writes to the directory {}: {holder}; wait until it ends, or choose another directory",
                path.display()
            ))),
        }
    }

    /// As [`CheckpointDir::create`], for a new run: uses `path`, or `path-2`, `path-3` and so on, the first that holds no run
    /// and that no run has locked.
    ///
    /// # Errors
    /// `Io` when the directory cannot be created or written to.
    pub fn create_numbered(path: &Path) -> Result<Self> {
        path.parent().map_or(Ok(()), check_output_dir)?;
        let mut candidate = path.to_path_buf();
        for number in 2u64.. {
            // If nothing can be said of this one, nor can it of the next ones.
            match fs::symlink_metadata(&candidate) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot_write(&candidate, e)),
                _ => {}
            }
            if is_unused(&candidate)
                && let Ok(dir) = Self::try_create(&candidate)?
                && is_unused(&candidate)
            {
                return Ok(dir);
            }
            let mut name = path.as_os_str().to_owned();
            name.push(format!("-{number}"));
            candidate = name.into();
        }
        unreachable!("there are not that many directories")
    }

    fn try_create(path: &Path) -> Result<Result<Self, String>> {
        let cannot_write = |e| cannot_write(path, e);
        check_output_dir(path)?;
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(cannot_write)?;
        if is_new && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(cannot_write)?;
        }
        let lock = match FileLock::acquire(&path.join(LOCK)).map_err(cannot_write)? {
            Ok(lock) => lock,
            Err(holder) => return Ok(Err(holder.to_string())),
        };
        remove_leftovers(path);
        for name in OLD_TEMPORARY {
            let _ = fs::remove_file(path.join(name));
        }
        let probe = path.join(".probe.part");
        let written = File::create(&probe).and_then(|mut file| file.write_all(&MAGIC));
        let removed = fs::remove_file(&probe);
        written.and(removed).map_err(cannot_write)?;
        let dir = CheckpointDir { path: path.to_path_buf(), lock, state: Mutex::default() };
        dir.restore_run();
        Ok(Ok(dir))
    }

    /// Prepares for a new run in place of the one that the directory holds: its configuration and log get other names until the
    /// new run writes its first checkpoint, which removes the files of the old one. If it never does, they get their names back.
    ///
    /// # Errors
    /// `Io` when a file cannot be renamed.
    pub fn replace_run(&self) -> Result<()> {
        for name in RECORDS {
            match fs::rename(self.path.join(name), self.aside(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot_write(&self.path, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Undoes [`CheckpointDir::replace_run`] if the new run has written no checkpoint.
    fn restore_run(&self) {
        for name in RECORDS {
            // What cannot be renamed stays under its other name.
            let _ = fs::rename(self.aside(name), self.path.join(name));
        }
    }

    /// Removes what the directory has of the old run, besides the files that the new one replaces.
    fn remove_old_run(&self) -> io::Result<()> {
        let old =
            |name: &str| number_of(name).is_some() || RECORDS.iter().any(|record| name == aside_name(record));
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| old(name) || name == Self::AVERAGED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.path.join(aside_name(name))
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory has checkpoints.
    pub fn holds_run(&self) -> bool {
        [Self::LAST, Self::BEST].iter().any(|name| exists(&self.path.join(name)))
    }

    /// Whether the lock keeps other runs out. Not where the file system has no locks.
    pub fn is_exclusive(&self) -> bool {
        self.lock.is_exclusive()
    }

    /// Returns the path of [`CheckpointDir::LAST`], if it was written through this value.
    pub fn last_written(&self) -> Option<PathBuf> {
        self.state().last_written.clone()
    }

    /// Returns the files that were kept under another name because they were ahead of the resumed run, or of another one.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        self.state().set_aside.clone()
    }

    /// Writes a checkpoint under `name`, replacing an existing one; returns its path.
    ///
    /// # Errors
    /// `Io` when it cannot be written; an existing file is not changed then.
    pub fn write(&self, name: &str, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let path = self.path.join(name);
        self.prepare(name)?;
        checkpoint.write(&path)?;
        if name == Self::LAST {
            self.state().last_written = Some(path.clone());
        }
        Ok(path)
    }

    /// Reads the checkpoint `file` to resume from it. A run that was killed between the writes of [`CheckpointDir::BEST`] and
    /// [`CheckpointDir::LAST`] has finished the epoch that the first has: that one is returned then.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_to_resume(file: &Path) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::read(file)?;
        if file.file_name().is_none_or(|name| name != Self::LAST) {
            return Ok(checkpoint);
        }
        match Checkpoint::read(&file.with_file_name(Self::BEST)) {
            Ok(best) if is_next_epoch(&best, &checkpoint) => Ok(best),
            _ => Ok(checkpoint),
        }
    }

    /// Copies [`CheckpointDir::BEST`] of the directory `from` if it is of an epoch of `history`; for a run that is resumed into
    /// another directory.
    ///
    /// # Errors
    /// `Io` when the file cannot be copied.
    pub fn adopt_best(&self, from: &Path, history: &[EpochReport]) -> Result<()> {
        let (from, to) = (from.join(Self::BEST), self.path.join(Self::BEST));
        if is_same(&from, &to) || !is_of_epoch(&from, history) {
            return Ok(());
        }
        copy(&from, &to)
    }

    /// Copies [`CheckpointDir::CONFIG`] of the directory `from`, unless there is one; for a run that is resumed into another directory,
    /// whose options are not all of the run's.
    ///
    /// # Errors
    /// `Io` when the file cannot be copied.
    pub fn adopt_config(&self, from: &Path) -> Result<()> {
        let (from, to) = (from.join(Self::CONFIG), self.path.join(Self::CONFIG));
        if from.is_file() && !to.exists() { copy(&from, &to) } else { Ok(()) }
    }

    /// Looks at the files that a run with the finished epochs `history` finds; returns the epoch that
    /// [`CheckpointDir::BEST`] holds, if it is one of them.
    pub(crate) fn begin(&self, history: &[EpochReport]) -> Option<EpochReport> {
        let best = self.path.join(Self::BEST);
        let held = Checkpoint::read(&best).ok().and_then(|best| epoch_of(&best, history));
        let mut foreign = Vec::new();
        if held.is_none() && exists(&best) {
            foreign.push(Self::BEST);
        }
        let last = self.path.join(Self::LAST);
        if exists(&last) && !Checkpoint::read(&last).is_ok_and(|last| history.starts_with(&last.history)) {
            foreign.push(Self::LAST);
        }
        let mut state = self.state();
        state.replaces_run = history.is_empty() && self.holds_run();
        state.foreign = foreign;
        state.keep_foreign = !history.is_empty();
        held
    }

    /// Writes the checkpoint of a finished epoch under its number, and removes those that are older than the latest `keep`.
    pub(crate) fn write_epoch(&self, checkpoint: &Checkpoint, keep: u64) -> Result<()> {
        let newest = checkpoint.position.epoch;
        checkpoint.write(&self.path.join(format!("epoch-{newest}.ckpt")))?;
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(number_of);
            if number.is_some_and(|number| number + keep <= newest) {
                fs::remove_file(entry.path())
                    .map_err(|e| Error::io(format!("cannot remove {}", entry.path().display()), e))?;
            }
        }
        Ok(())
    }

    /// Whether [`CheckpointDir::LAST`] is there.
    pub(crate) fn has_last(&self) -> bool {
        exists(&self.path.join(Self::LAST))
    }

    /// Sees to it that, when `name` is written, the directory does not mix two runs. A new run replaces the files of an earlier
    /// one; those that are ahead of a resumed run are kept under another name.
    fn prepare(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let keep = state.keep_foreign;
        if !keep {
            state.foreign.retain(|foreign| *foreign != name);
            if name != Self::LAST {
                return Ok(());
            }
        }
        if !keep && std::mem::take(&mut state.replaces_run) {
            self.remove_old_run().map_err(|e| cannot_write(&self.path, e))?;
        }
        for foreign in std::mem::take(&mut state.foreign) {
            let path = self.path.join(foreign);
            let done = if keep {
                let aside = self.aside(foreign);
                let renamed = fs::rename(&path, &aside);
                state.set_aside.push(aside);
                renamed
            } else {
                fs::remove_file(&path)
            };
            done.map_err(|e| Error::io(format!("cannot replace {}", path.display()), e))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CheckpointDir {
    fn drop(&mut self) {
        if self.state().last_written.is_none() {
            self.restore_run();
        }
    }
}

/// Whether something is at `path`, a broken link too.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The name of a file of a run while another run begins in its place.
fn aside_name(name: &str) -> String {
    format!("{name}.old")
}

/// The epoch of a checkpoint that is kept under its number.
fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("epoch-")?.strip_suffix(".ckpt")?.parse().ok()
}

fn cannot_write(path: &Path, e: io::Error) -> Error {
    Error::io(format!("cannot write checkpoints to the directory {}", path.display()), e)
}

/// Whether the directory is absent or has only what a run leaves that was killed before its first checkpoint.
fn is_unused(path: &Path) -> bool {
    let ours = |name: &str| {
        name == LOCK
            || RECORDS.contains(&name)
            || OLD_TEMPORARY.contains(&name)
            || name.ends_with(".neocog.part")
    };
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().all(|entry| entry.file_name().to_str().is_some_and(ours)),
        Err(e) => e.kind() == io::ErrorKind::NotFound && !exists(path),
    }
}

/// The epoch at whose end `best` was written, if it is one of `history`.
fn epoch_of(best: &Checkpoint, history: &[EpochReport]) -> Option<EpochReport> {
    let at_end = best.position.batch == 0 && history.starts_with(&best.history);
    best.history.last().copied().filter(|_| at_end)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied =
        File::open(from).and_then(|mut source| replace(to, |file| io::copy(&mut source, file).map(drop)));
    copied.map_err(|e| Error::io(format!("cannot copy {} to {}", from.display(), to.display()), e))
}

fn is_of_epoch(best: &Path, history: &[EpochReport]) -> bool {
    Checkpoint::read(best).is_ok_and(|best| epoch_of(&best, history).is_some())
}

/// Whether `best` was written at the end of the epoch that `last` is in, by the same run.
fn is_next_epoch(best: &Checkpoint, last: &Checkpoint) -> bool {
    best.position.batch == 0
        && best.history.len() == last.history.len() + 1
        && best.history.starts_with(&last.history)
        && best.position.step >= last.position.step
        && best.config == last.config
        && best.spec == last.spec
}
