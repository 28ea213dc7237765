//! Trainings in processes of their own, and what they leave.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neocog_base::testing::heed_signals;
use neocog_base::{Error, Result, fault};
use neocog_train::{Checkpoint, CheckpointDir, EpochReport};

use super::fault::Fault;

/// The longest time that a process may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How a process ended.
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stderr: String,
    /// Whether it had to be killed because it took too long.
    pub timed_out: bool,
}

impl Ended {
    /// Whether it panicked, aborted or hung.
    pub fn is_panic(&self) -> bool {
        self.timed_out
            || self.code == Some(101)
            || ["panicked at", "memory allocation of", "stack overflow"]
                .iter()
                .any(|t| self.stderr.contains(t))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hung = if self.timed_out { ", hung" } else { "" };
        let last = self.stderr.lines().last().unwrap_or("");
        write!(f, "exit {:?}{hung}: {last}", self.code)
    }
}

/// A process that runs.
pub struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// Starts a process; its standard error goes to a file.
    pub fn start(mut command: Command, stderr: PathBuf) -> Result<Self> {
        let cannot = |e| Error::io("cannot start a run", e);
        let file = File::create(&stderr).map_err(cannot)?;
        let child =
            heed_signals(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Ok(Running { child: child.map_err(cannot)?, stderr })
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).output();
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Result<Ended> {
        let start = Instant::now();
        let mut timed_out = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|e| Error::io("cannot wait for a run", e))? {
                break status;
            }
            if start.elapsed() > TIMEOUT && !timed_out {
                timed_out = true;
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = fs::read(&self.stderr).unwrap_or_default();
        let _ = fs::remove_file(&self.stderr);
        Ok(Ended { code: status.code(), stderr: String::from_utf8_lossy(&stderr).into_owned(), timed_out })
    }
}

/// Starts runs of one training.
pub struct Runs {
    pub program: PathBuf,
    pub scratch: PathBuf,
    /// The directory of the run that is not disturbed.
    undisturbed: PathBuf,
}

/// The training: several checkpoints in each of three epochs.
const TRAINING: &str =
    "train lenet --data digits --limit 200 --batch 20 --epochs 3 --seed 5 --threads 1 --save-every 3steps";

impl Runs {
    /// Makes the run that is not disturbed.
    pub fn new(scratch: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let undisturbed = scratch.join("undisturbed");
        let runs = Runs { program, scratch: scratch.to_path_buf(), undisturbed: undisturbed.clone() };
        let ended = runs.train(&undisturbed, &Fault::None)?;
        if ended.code != Some(0) {
            return Err(Error::invalid_argument(format!("the training fails undisturbed: {ended}")));
        }
        Ok(runs)
    }

    /// Returns a file in the scratch directory with a name of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.scratch.join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts the training in `folder`, or resumes it.
    pub fn start(&self, folder: &Path, fault: &Fault) -> Result<Running> {
        let mut command = Command::new(&self.program);
        let last = folder.join(CheckpointDir::LAST);
        if last.exists() {
            command.args(["train", "--threads", "1", "--save-every", "3steps", "--resume"]).arg(last);
        } else {
            // Killed before the first checkpoint: what is there is nothing to resume from.
            command.args(TRAINING.split(' ')).arg("--out").arg(folder);
        }
        if let Fault::Point(point) = fault {
            command.env(fault::VARIABLE, point);
        }
        Running::start(command, self.file("stderr"))
    }

    /// Starts the training, disturbs it, and waits for its end.
    pub fn train(&self, folder: &Path, fault: &Fault) -> Result<Ended> {
        let running = self.start(folder, fault)?;
        if let Fault::Signal { name, after, twice } = fault {
            if *name != "KILL" {
                // The handler must be there: the configuration is printed after that.
                let start = Instant::now();
                let ready =
                    || fs::read_to_string(&running.stderr).is_ok_and(|text| text.contains(" on digits: "));
                while !ready() && start.elapsed() < Duration::from_secs(60) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            std::thread::sleep(*after);
            running.signal(name);
            if *twice {
                running.signal(name);
            }
        }
        running.wait()
    }

    /// Compares the checkpoints of a finished run with those of the undisturbed one.
    pub fn difference(&self, folder: &Path) -> Result<Option<String>> {
        for name in [CheckpointDir::LAST, CheckpointDir::BEST] {
            let read = |folder: &Path| Checkpoint::read(&folder.join(name));
            let (found, expected) = (without_times(read(folder)?), without_times(read(&self.undisturbed)?));
            if found != expected {
                return Ok(Some(format!("{name} is another one")));
            }
        }
        Ok(None)
    }
}

/// A checkpoint without what depends on the time.
fn without_times(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.sums.seconds = 0.0;
    for report in &mut checkpoint.history {
        (report.seconds, report.images_per_s) = (0.0, 0.0);
    }
    checkpoint
}

/// The last checkpoint, if there is one.
pub fn state_of(folder: &Path) -> Result<Option<Checkpoint>> {
    let last = folder.join(CheckpointDir::LAST);
    if last.exists() { Checkpoint::read(&last).map(Some) } else { Ok(None) }
}

/// Whether the best checkpoint is that of the best epoch of its history, and not older than that of the last one's.
pub fn is_best_right(folder: &Path, last: &Checkpoint) -> bool {
    let first_best = |history: &[EpochReport]| {
        history.iter().copied().reduce(|best, next| if next.eval_acc > best.eval_acc { next } else { best })
    };
    let path = folder.join(CheckpointDir::BEST);
    if !path.exists() {
        return last.history.is_empty();
    }
    let Ok(best) = Checkpoint::read(&path) else { return false };
    let own = first_best(&best.history);
    let is_own = best.position.batch == 0 && own == best.history.last().copied();
    let epoch = |report: Option<EpochReport>| report.map_or(0, |report| report.epoch);
    is_own && epoch(own) >= epoch(first_best(&last.history))
}
