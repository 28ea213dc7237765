//! The same network here and in PyTorch, alternating, each run in a process of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_models::Model;
use neocog_tensor::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::Record;

/// The comparison of one network in one mode.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The network.
    pub name: String,
    /// `train` or `predict`.
    pub mode: String,
    /// Threads on both sides.
    pub threads: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Images per second here, the median of the rounds.
    pub ours: f64,
    /// Images per second in PyTorch, in its better memory format, the median of the rounds.
    pub theirs: f64,
    /// The median of the rounds' ratios, ours to theirs.
    pub ratio: f64,
    /// The smallest ratio of a round.
    pub ratio_min: f64,
    /// The largest ratio of a round.
    pub ratio_max: f64,
    /// The most memory that the process has held here, in MiB.
    pub ours_rss_mib: f64,
    /// The same in PyTorch.
    pub theirs_rss_mib: f64,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Python with PyTorch.
    pub python: String,
    /// How often both sides take turns.
    pub rounds: usize,
    /// Threads on both sides.
    pub threads: usize,
    /// Images in a batch; the model's own number if `None`.
    pub batch: Option<usize>,
    /// Time for a run of one side.
    pub budget: Duration,
    /// Whether PyTorch also runs in its channels-last format, and the better one counts.
    pub channels_last: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Theirs {
    predict_s: f64,
    train_s: f64,
    predict_rss_mib: f64,
    train_rss_mib: f64,
}

/// Runs `ours` (which measures the network in a new process: prediction, training) and PyTorch in turns.
///
/// # Errors
/// When Python or PyTorch is missing or fails.
pub fn compare(
    model: &Model,
    options: &Options,
    mut ours: impl FnMut() -> Result<Vec<Record>>,
) -> Result<[Comparison; 2]> {
    let batch = options.batch.unwrap_or(model.recipe.bench_batch);
    let mut rounds = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let mine = ours()?;
        let mut theirs = run_torch(model, options, batch, false)?;
        if options.channels_last {
            let other = run_torch(model, options, batch, true)?;
            theirs.predict_s = theirs.predict_s.min(other.predict_s);
            theirs.train_s = theirs.train_s.min(other.train_s);
        }
        rounds.push((mine, theirs));
    }
    let one = |mode: &str, their_time: fn(&Theirs) -> f64, their_rss: fn(&Theirs) -> f64| {
        let mine: Vec<&Record> =
            rounds.iter().filter_map(|(m, _)| m.iter().find(|r| r.mode == mode)).collect();
        let my_speed: Vec<f64> = mine.iter().map(|r| batch as f64 / r.median_s).collect();
        let their_speed: Vec<f64> = rounds.iter().map(|(_, t)| batch as f64 / their_time(t)).collect();
        let ratios: Vec<f64> = my_speed.iter().zip(&their_speed).map(|(m, t)| m / t).collect();
        let my_rss: Vec<f64> = mine.iter().filter_map(|r| r.peak_rss_mib).collect();
        let their_rss: Vec<f64> = rounds.iter().map(|(_, t)| their_rss(t)).collect();
        Comparison {
            name: model.name.to_string(),
            mode: mode.to_string(),
            threads: options.threads,
            batch,
            ours: median(&my_speed),
            theirs: median(&their_speed),
            ratio: median(&ratios),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            ours_rss_mib: median(&my_rss),
            theirs_rss_mib: median(&their_rss),
        }
    };
    Ok([
        one("train", |t| t.train_s, |t| t.train_rss_mib),
        one("predict", |t| t.predict_s, |t| t.predict_rss_mib),
    ])
}

fn run_torch(model: &Model, options: &Options, batch: usize, channels_last: bool) -> Result<Theirs> {
    const SCRIPT: &str = include_str!("../torch_bench.py");
    let job = serde_json::json!({
        "spec": model.spec()?,
        "input": model.recipe.input,
        "classes": model.recipe.classes,
        "batch": batch,
        "threads": options.threads,
        "budget": options.budget.as_secs_f64(),
        "channels_last": channels_last,
    });
    let failed = |what: String| {
        Error::device(format!(
            "cannot measure PyTorch with `{}`: {what}; install it with `pip install torch`, or name another Python with --python",
            options.python
        ))
    };
    let mut child = Command::new(Path::new(&options.python))
        .args(["-c", SCRIPT])
        .env("OMP_NUM_THREADS", options.threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(job.to_string().as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(failed(stderr.lines().last().unwrap_or("it failed without a word").to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("its answer is not understood: {e}")))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
