//! The trainings of a search: each is a process and a directory.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use neocog_base::file::{read_regular, replace, text_of};
use neocog_insight::Run;
use neocog_tensor::{Error, Result};
use neocog_train::CheckpointDir;
use toml::Value;

use super::plan::Plan;
use crate::output;

/// Most bytes that are read of what a training printed.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Options that a resumed training needs again.
const REPEATED: [&str; 5] = ["data-dir", "device", "workers", "cache", "save-every"];

/// How often processes are asked whether they have ended.
const INTERVAL: Duration = Duration::from_millis(50);

/// How far a training is.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Not started, or in progress.
    Open,
    /// It ended with an error.
    Failed(String),
}

/// What a table shows of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub epochs: u64,
    /// The best accuracy and its epoch.
    pub best: Option<(f64, u64)>,
    pub seconds: f64,
}

/// A training.
#[derive(Debug)]
pub struct Trial {
    /// The options that differ from other trainings.
    pub options: Vec<(String, Value)>,
    pub status: Status,
    summary: Summary,
}

impl Trial {
    /// The state of its directory when it was last looked at.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The options as text: `lr=0.1 batch=16`.
    pub fn describe(&self) -> String {
        let options: Vec<String> =
            self.options.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        options.join(" ")
    }

    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&str> {
        match &self.status {
            Status::Failed(why) => Some(why),
            Status::Open => None,
        }
    }
}

/// The trainings of a search.
#[derive(Debug)]
pub struct Trials {
    out: PathBuf,
    base: PathBuf,
    /// Options of a resumed training.
    repeated: Vec<String>,
    trials: Vec<Trial>,
}

impl Trials {
    /// Looks at the trainings in the directory of a search.
    ///
    /// # Errors
    /// When the options of all trainings cannot be written.
    pub fn new(plan: &Plan, out: &Path) -> Result<Self> {
        let base = out.join("base.toml");
        let text_of_base = plan.base.to_string();
        replace(&base, |file| file.write_all(text_of_base.as_bytes()))
            .map_err(|e| Error::io(format!("cannot write {}", base.display()), e))?;
        let repeated = plan.base.iter().filter_map(|(name, value)| {
            let name = name.replace('_', "-");
            REPEATED.contains(&name.as_str()).then(|| format!("--{name}={}", text(value)))
        });
        let mut trials = Trials {
            out: out.to_path_buf(),
            base,
            repeated: repeated.collect(),
            trials: plan
                .trials
                .iter()
                .map(|options| Trial {
                    options: options.clone(),
                    status: Status::Open,
                    summary: Summary::default(),
                })
                .collect(),
        };
        (0..trials.trials.len()).for_each(|i| trials.look(i));
        Ok(trials)
    }

    pub fn all(&self) -> &[Trial] {
        &self.trials
    }

    /// The directory of a training.
    pub fn path(&self, i: usize) -> PathBuf {
        let digits = self.trials.len().to_string().len();
        self.out.join(format!("{:0digits$}", i + 1))
    }

    fn file(&self, i: usize, ending: &str) -> PathBuf {
        self.path(i).with_extension(ending)
    }

    /// Returns the numbers of the `most` best trainings, the best first; of equal ones, the first. Failed ones are last.
    pub fn best(&self, most: usize) -> Vec<usize> {
        let key = |i: &usize| {
            let trial = &self.trials[*i];
            let failed = matches!(trial.status, Status::Failed(_));
            (failed, trial.summary.best.map_or(f64::NEG_INFINITY, |(acc, _)| acc))
        };
        let mut order: Vec<usize> = (0..self.trials.len()).collect();
        order.sort_by(|a, b| {
            let ((a_failed, a_acc), (b_failed, b_acc)) = (key(a), key(b));
            a_failed.cmp(&b_failed).then(b_acc.total_cmp(&a_acc))
        });
        order.truncate(most);
        order
    }

    /// Reads the directory of a training.
    fn look(&mut self, i: usize) {
        let failed = read_regular(&self.file(i, "failed"), MAX_LOG_BYTES).and_then(text_of).ok();
        let run = Run::open(&self.path(i)).ok();
        let trial = &mut self.trials[i];
        trial.status = failed.map_or(Status::Open, |why| Status::Failed(why.trim().to_string()));
        trial.summary = run.map_or(Summary::default(), |run| Summary {
            epochs: run.last.position.epoch,
            best: run.best_epoch().map(|best| (best.eval_acc, best.epoch)),
            seconds: run.history().iter().map(|epoch| epoch.seconds).sum(),
        });
    }

    /// Runs the trainings with these numbers up to an epoch, `jobs` at a time; those that are there already, or failed, are not
    /// repeated.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn run(
        &mut self,
        numbers: &[usize],
        epochs: Option<u64>,
        jobs: usize,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut waiting: Vec<usize> =
            numbers.iter().copied().filter(|&i| self.is_open(i, epochs)).rev().collect();
        let threads = (rayon::current_num_threads() / jobs).max(1);
        let mut running: Vec<(usize, Child)> = Vec::new();
        let mut is_stopping = false;
        loop {
            if stop.load(Ordering::Relaxed) && !is_stopping {
                is_stopping = true;
                waiting.clear();
                running.iter().for_each(|(_, child)| terminate(child));
            }
            while running.len() < jobs
                && let Some(at) = waiting.iter().rposition(|&i| !self.is_held(i))
            {
                let i = waiting.remove(at);
                // Another process may have trained it.
                self.look(i);
                if !self.is_open(i, epochs) {
                    continue;
                }
                match self.start(i, epochs, threads) {
                    Ok(child) => running.push((i, child)),
                    Err(e) => {
                        // What runs is not left alone.
                        running.iter().for_each(|(_, child)| terminate(child));
                        running.iter_mut().for_each(|(_, child)| drop(child.wait()));
                        return Err(e);
                    }
                }
            }
            if running.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            let mut still = Vec::with_capacity(running.len());
            for (i, mut child) in running {
                match child.try_wait() {
                    Ok(None) => still.push((i, child)),
                    Ok(Some(status)) => self.ended(i, status.success(), is_stopping),
                    Err(e) => return Err(Error::io("cannot wait for a training", e)),
                }
            }
            running = still;
            std::thread::sleep(INTERVAL);
        }
    }

    fn is_open(&self, i: usize, epochs: Option<u64>) -> bool {
        let trial = &self.trials[i];
        let is_there = match epochs {
            Some(epochs) => trial.summary.epochs >= epochs,
            None => Run::open(&self.path(i)).is_ok_and(|run| run.is_finished()),
        };
        trial.status == Status::Open && !is_there
    }

    /// Whether a process still trains it, as after the search was killed.
    fn is_held(&self, i: usize) -> bool {
        self.path(i).is_dir() && CheckpointDir::create(self.path(i)).is_err()
    }

    fn start(&self, i: usize, epochs: Option<u64>, threads: usize) -> Result<Child> {
        let cannot = |e| Error::io("cannot start a training", e);
        let path = self.path(i);
        let last = path.join(CheckpointDir::LAST);
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command.arg("train");
        if last.is_file() {
            command.arg("--resume").arg(last).args(&self.repeated);
        } else {
            command.arg("--config").arg(&self.base).arg("--out").arg(&path).arg("--overwrite");
            for (name, value) in &self.trials[i].options {
                command.args(option(name, value));
            }
        }
        command.args(epochs.map(|epochs| format!("--epochs={epochs}")));
        command.arg(format!("--threads={threads}"));
        let log = File::options().create(true).append(true).open(self.file(i, "log")).map_err(cannot)?;
        let errors = log.try_clone().map_err(cannot)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(cannot)
    }

    /// Reports a training whose process has ended.
    fn ended(&mut self, i: usize, success: bool, is_stopping: bool) {
        let failed = self.file(i, "failed");
        let why = (!success && !is_stopping).then(|| {
            let log = read_regular(&self.file(i, "log"), MAX_LOG_BYTES).and_then(text_of).unwrap_or_default();
            let why = log.lines().rev().find(|line| line.starts_with("error: ")).or(log.lines().last());
            let why = why.unwrap_or("it ended without a message").trim_start_matches("error: ").to_string();
            // Kept, so that it is not tried again; without the file it would be.
            let _ = replace(&failed, |file| file.write_all(why.as_bytes()));
            why
        });
        self.look(i);
        if let Some(why) = why {
            // Also on a full disk.
            self.trials[i].status = Status::Failed(why);
        }
        let trial = &self.trials[i];
        let result = match (&trial.status, trial.summary.best) {
            (Status::Failed(why), _) if failed.exists() => {
                format!("failed: {why} (not tried again while {} exists)", failed.display())
            }
            (Status::Failed(why), _) => format!("failed: {why}"),
            (_, Some((acc, epoch))) => {
                format!("best accuracy {acc:.4} in epoch {epoch} of {}", trial.summary.epochs)
            }
            _ => "stopped".to_string(),
        };
        output::note(format_args!("{} ({}): {result}", self.path(i).display(), trial.describe()));
    }
}

/// A value as text, without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// An option for the command line; none for a flag that is off.
fn option(name: &str, value: &Value) -> Option<String> {
    match value {
        _ if name == "network" => Some(text(value)),
        Value::Boolean(true) => Some(format!("--{name}")),
        Value::Boolean(false) => None,
        _ => Some(format!("--{name}={}", text(value))),
    }
}

/// Asks a process to save and end.
fn terminate(child: &Child) {
    #[cfg(unix)]
    if let Some(id) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
    #[cfg(not(unix))]
    let _ = child;
}
