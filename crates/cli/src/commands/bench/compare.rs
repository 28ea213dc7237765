//! `bench --against`: networks interleaved with other implementations.

use neocog_bench::compare::{self, Comparison, Runner, geometric_mean};
use neocog_tensor::{Error, Result};

use super::display::number;
use super::job::Job;
use super::peer::Peer;
use super::subject::Subject;
use crate::output;

/// How to compare.
#[derive(Clone, Debug)]
pub struct Comparing {
    pub peers: Vec<Peer>,
    pub rounds: usize,
    /// The Python interpreter with the peers.
    pub python: String,
    pub json: bool,
}

/// Runs each job interleaved with its peers and prints a row per network and mode.
///
/// # Errors
/// When a benchmark fails.
pub fn run(jobs: &[(&Subject, Job)], comparing: &Comparing) -> Result<()> {
    // For exported ONNX files, inputs and outputs.
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot create a temporary directory", e))?;
    let mut all = Vec::new();
    for (subject, job) in jobs {
        output::note(format_args!("{}", subject.name()));
        let runners = |peer: &Peer| subject.runners(*peer, &comparing.python, job, folder.path());
        let peers: Vec<Vec<Runner<'_>>> = comparing.peers.iter().map(runners).collect::<Result<_>>()?;
        let peers = peers.into_iter().flatten().collect();
        let own = Box::new(|| job.measure());
        for comparison in compare::compare(comparing.rounds, own, peers)? {
            if comparing.json {
                output::json(&comparison)?;
            }
            all.push(comparison);
        }
    }
    if comparing.json {
        return Ok(());
    }
    output::line(output::table(HEAD, RIGHT, all.iter().map(row).collect()))?;
    ["train", "predict"].into_iter().try_for_each(|mode| summary(&all, mode))
}

const HEAD: [&str; 12] = [
    "network",
    "mode",
    "batch",
    "threads",
    "images/s",
    "baseline",
    "ratio",
    "min",
    "max",
    "peak MiB",
    "baseline",
    "baseline is",
];

const RIGHT: [bool; 12] = [false, false, true, true, true, true, true, true, true, true, true, false];

fn row(c: &Comparison) -> [String; 12] {
    [
        c.name.clone(),
        c.mode.clone(),
        c.batch.to_string(),
        c.threads.to_string(),
        number(Some(c.images_per_s), 0),
        number(Some(c.baseline_images_per_s), 0),
        number(Some(c.ratio), 2),
        number(Some(c.ratio_min), 2),
        number(Some(c.ratio_max), 2),
        number(c.peak_rss_mib, 0),
        number(c.baseline_peak_rss_mib, 0),
        c.baseline.clone(),
    ]
}

/// Prints the geometric mean and the minimum of a mode's ratios.
fn summary(all: &[Comparison], mode: &str) -> Result<()> {
    let of_mode = || all.iter().filter(|c| c.mode == mode);
    let mean = geometric_mean(of_mode().map(|c| c.ratio));
    let min = of_mode().min_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let Some((mean, min)) = mean.zip(min) else { return Ok(()) };
    output::line(format_args!(
        "{mode}: geometric mean of the ratios {mean:.2}, minimum {:.2} ({})",
        min.ratio, min.name
    ))
}
