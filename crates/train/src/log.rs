//! The log of a run: `log.jsonl` in its directory.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use neocog_base::file::{read_regular, replace, text_of};
use neocog_data::Part;
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::meter::Totals;
use crate::progress::EpochReport;

/// What a line of the log reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// The steps since the line before, within an epoch.
    Step,
    /// A whole epoch, with its evaluation.
    Epoch,
}

/// A line of `log.jsonl`, a JSON object. A run writes one for each epoch, and within epochs one every so many steps; see
/// [`Trainer::set_log_every`](crate::Trainer::set_log_every).
///
/// The file only grows, a line at a time. A run that is resumed first removes the lines of steps that it repeats, so that each
/// step and epoch is reported once. A process that is killed may leave part of a line at the end.
///
/// ```text
/// {"kind":"step","epoch":1,"step":50,"loss":2.1,"acc":0.28,"lr":0.001,"images_per_second":9000.0,"seconds":0.7,"time":1795737600.5}
/// {"kind":"epoch","epoch":1,"step":90,"loss":1.9,"acc":0.36,"lr":0.001,"images_per_second":9100.0,"seconds":1.3,
///  "test_loss":1.2,"test_acc":0.7,"time":1795737601.1}
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// What the line reports.
    pub kind: LogKind,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Number of finished steps of the run, over all epochs.
    pub step: u64,
    /// Mean training loss per image: over the epoch, or over the steps since the line before.
    pub loss: f64,
    /// Training accuracy over the same images, from 0 to 1.
    pub acc: f64,
    /// Learning rate of the last of these steps.
    pub lr: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Duration of the training part of the epoch so far, in seconds, since the run was resumed if that was in this epoch; evaluation is
    /// not counted.
    pub seconds: f64,
    /// Mean loss on the validation images after the epoch, if they are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Accuracy on the validation images after the epoch, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_acc: Option<f64>,
    /// Mean loss on the test images after the epoch, for data without validation images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    /// Accuracy on the test images after the epoch, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_acc: Option<f64>,
    /// Mean loss of the averaged network after the epoch, on the same images, if the run keeps an average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_loss: Option<f64>,
    /// Accuracy of the averaged network after the epoch, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_acc: Option<f64>,
    /// When the line was written, in seconds since 1970 (UTC); absent where a resumed run restored the line from a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
}

/// Maximum size of a log.
const MAX_BYTES: u64 = 256 << 20;

impl LogLine {
    /// File name of the log in the directory of a run.
    pub const FILE: &'static str = "log.jsonl";

    /// Reads the log at `path`. Part of a line at the end is left out.
    ///
    /// # Errors
    /// `Io` when the file cannot be read, `Format` when a line is not one of a log; the message has its number.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = read_regular(path, MAX_BYTES)
            .and_then(text_of)
            .map_err(|e| Error::io(format!("cannot read the log {}", path.display()), e))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(i, line): (usize, &str)| {
            let not_a_line = |e| {
                Error::format(format!("line {} is not one of a log", i + 1))
                    .with_source(e)
                    .context(path.display().to_string())
            };
            serde_json::from_str(line).map_err(not_a_line)
        };
        whole.lines().enumerate().map(parse).collect()
    }

    /// Takes the times of the epochs of `history` from the log in the directory `folder`, where it has their results: checkpoints hold
    /// no times.
    pub fn restore_times(folder: &Path, history: &mut [EpochReport]) {
        let lines = Self::read(&folder.join(Self::FILE)).unwrap_or_default();
        for line in lines.iter().filter(|line| line.kind == LogKind::Epoch) {
            let found = history.iter_mut().find(|report| report.epoch == line.epoch);
            if let Some(report) =
                found.filter(|report| report.train_loss == line.loss && report.seconds == 0.0)
            {
                (report.images_per_s, report.seconds) = (line.images_per_second, line.seconds);
            }
        }
    }

    /// The line of steps within an epoch: those of `sums` that are not in `before`; `None` if there are none, as when the results
    /// of an asynchronous device are not read yet.
    pub(crate) fn of_steps(epoch: u64, step: u64, lr: f64, [before, sums]: [&Totals; 2]) -> Option<Self> {
        let part = Totals {
            images: sums.images - before.images,
            loss: sums.loss - before.loss,
            correct: sums.correct - before.correct,
            seconds: sums.seconds - before.seconds,
            untimed: 0,
        };
        (part.images > 0).then(|| LogLine {
            kind: LogKind::Step,
            epoch,
            step,
            loss: part.mean_loss(),
            acc: part.accuracy(),
            lr,
            images_per_second: part.images_per_second(),
            seconds: sums.seconds,
            val_loss: None,
            val_acc: None,
            test_loss: None,
            test_acc: None,
            average_loss: None,
            average_acc: None,
            time: now(),
        })
    }

    /// The line of an epoch, which ended with step `step` and was evaluated on `part`.
    pub(crate) fn of_epoch(report: &EpochReport, part: Part, step: u64, lr: f64) -> Self {
        let evaluated = Some((report.eval_loss, report.eval_acc));
        let (val, test) = if part == Part::Test { (None, evaluated) } else { (evaluated, None) };
        LogLine {
            kind: LogKind::Epoch,
            epoch: report.epoch,
            step,
            loss: report.train_loss,
            acc: report.train_acc,
            lr,
            images_per_second: report.images_per_s,
            seconds: report.seconds,
            val_loss: val.map(|(loss, _)| loss),
            val_acc: val.map(|(_, acc)| acc),
            test_loss: test.map(|(loss, _)| loss),
            test_acc: test.map(|(_, acc)| acc),
            average_loss: None,
            average_acc: None,
            time: now(),
        }
    }
}

/// The log of a run, open for more lines.
#[derive(Debug)]
pub(crate) struct RunLog {
    file: File,
    path: PathBuf,
}

impl RunLog {
    /// Opens the log in the directory `folder` for a run that has finished `steps` steps and the epochs of `epochs`, in the form
    /// of their lines. Later lines are removed; where the file is not of this run, its lines become those of the epochs.
    ///
    /// # Errors
    /// `Io` when the file cannot be read or written.
    pub(crate) fn open(folder: &Path, steps: u64, epochs: &[LogLine]) -> Result<Self> {
        let path = folder.join(LogLine::FILE);
        let kept = kept_lines(&path, steps, epochs)?;
        let cannot_write = |e| Error::io(format!("cannot write the log {}", path.display()), e);
        let old = read_regular(&path, MAX_BYTES).and_then(text_of).unwrap_or_default();
        if steps == 0 {
            File::create(&path).map_err(cannot_write)?;
        } else if old != kept {
            replace(&path, |file| file.write_all(kept.as_bytes())).map_err(cannot_write)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(cannot_write)?;
        Ok(RunLog { file, path })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub(crate) fn add(&mut self, line: &LogLine) -> Result<()> {
        self.file
            .write_all(text(line).as_bytes())
            .map_err(|e| Error::io(format!("cannot write the log {}", self.path.display()), e))
    }
}

/// Returns the lines of the log at `path` that a run keeps; see [`RunLog::open`].
fn kept_lines(path: &Path, steps: u64, epochs: &[LogLine]) -> Result<String> {
    if steps == 0 {
        return Ok(String::new());
    }
    let old = match LogLine::read(path) {
        Ok(lines) => lines,
        Err(_) if !path.exists() => Vec::new(),
        Err(e) if e.kind() == neocog_tensor::ErrorKind::Format => Vec::new(),
        Err(e) => return Err(e),
    };
    let mut kept: Vec<LogLine> = old.into_iter().filter(|line| line.step <= steps).collect();
    let is_same = |line: &LogLine, epoch: &LogLine| {
        (line.epoch, line.loss, line.test_loss, line.val_loss)
            == (epoch.epoch, epoch.loss, epoch.test_loss, epoch.val_loss)
    };
    // The last epoch may be in the file although it is not in the checkpoint: it is evaluated again.
    kept.retain(|line| line.kind == LogKind::Step || line.epoch <= epochs.len() as u64);
    let of_epochs: Vec<&LogLine> = kept.iter().filter(|line| line.kind == LogKind::Epoch).collect();
    if of_epochs.len() != epochs.len() || !of_epochs.iter().zip(epochs).all(|(a, b)| is_same(a, b)) {
        kept = epochs.iter().map(|line| LogLine { time: None, ..*line }).collect();
    }
    Ok(kept.iter().map(text).collect())
}

fn text(line: &LogLine) -> String {
    // A structure of numbers can be written as JSON.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

fn now() -> Option<f64> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .map(|time| (time.as_secs_f64() * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u64, loss: f64) -> LogLine {
        let report = EpochReport {
            epoch: number,
            train_loss: loss,
            train_acc: 0.5,
            eval_loss: loss / 3.0,
            eval_acc: 0.25,
            images_per_s: 10.0,
            seconds: 2.0,
        };
        LogLine::of_epoch(&report, Part::Test, 3 * number, 0.1)
    }

    fn step(step: u64) -> LogLine {
        let sums = |images| Totals {
            images,
            loss: images as f64 / 7.0,
            correct: images / 2,
            seconds: 1.0,
            untimed: 0,
        };
        LogLine::of_steps(1 + step / 3, step, 0.1, [&sums(2), &sums(8)]).unwrap()
    }

    #[test]
    fn a_resumed_run_keeps_the_lines_of_what_it_does_not_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LogLine::FILE);
        let (first, second) = (epoch(1, 2.0), epoch(2, 1.0 / 3.0));
        let mut log = RunLog::open(folder.path(), 0, &[]).unwrap();
        let lines = [step(2), first, step(4), step(5), second];
        lines.iter().for_each(|line| log.add(line).unwrap());
        log.file.write_all(b"{\"kind\":\"st").unwrap();
        assert_eq!(LogLine::read(&path).unwrap(), lines);
        // In the second epoch; after it; and after it, before its evaluation was saved.
        RunLog::open(folder.path(), 6, &[first]).unwrap();
        assert_eq!(LogLine::read(&path).unwrap(), lines[..4]);
        RunLog::open(folder.path(), 4, &[first]).unwrap().add(&step(5)).unwrap();
        assert_eq!(LogLine::read(&path).unwrap().len(), 4);
        // Another run: its epochs replace the lines.
        RunLog::open(folder.path(), 6, &[epoch(1, 7.0), epoch(2, 3.0)]).unwrap();
        let restored = LogLine::read(&path).unwrap();
        assert_eq!((restored.len(), restored[0].loss, restored[1].time), (2, 7.0, None));
        RunLog::open(folder.path(), 0, &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn lines_have_the_documented_form() {
        let line = LogLine { time: None, ..step(2) };
        let start = r#"{"kind":"step","epoch":1,"step":2,"loss":0.142857142857142"#;
        let end = r#","acc":0.5,"lr":0.1,"images_per_second":6000000000.0,"seconds":1.0}"#;
        assert!(text(&line).starts_with(start) && text(&line).trim_end().ends_with(end), "{}", text(&line));
        let keys: Vec<String> = serde_json::from_str::<serde_json::Map<_, _>>(&text(&epoch(1, 1.0)))
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let names = "kind epoch step loss acc lr images_per_second seconds test_loss test_acc time";
        assert_eq!(keys.join(" "), names);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LogLine::FILE);
        std::fs::write(&path, "{}\n").unwrap();
        let e = LogLine::read(&path).unwrap_err().to_string();
        assert!(e.contains("log.jsonl") && e.contains("line 1 is not one of a log"), "{e}");
    }
}
