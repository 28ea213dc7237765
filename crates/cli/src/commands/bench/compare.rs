//! `bench --against`: networks interleaved with other implementations.

use std::path::Path;
use std::time::Duration;

use neocog_bench::compare::{self, Comparison, Runner, geometric_mean};
use neocog_bench::python::{NetworkJob, Python};
use neocog_tensor::{Device, Error, Result};

use super::display::number;
use super::job::Job;
use crate::output;

/// An implementation to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// PyTorch, eager mode, in both memory formats.
    Torch,
    /// ONNX Runtime, prediction only.
    Onnxruntime,
    /// This library on the CPU.
    Cpu,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct Comparing {
    pub peers: Vec<Peer>,
    pub rounds: usize,
    /// The Python interpreter with PyTorch and ONNX Runtime.
    pub python: String,
    pub json: bool,
}

/// Runs each job interleaved with its peers and prints a row per network and mode.
///
/// # Errors
/// When a benchmark fails.
pub fn run(jobs: &[Job<'_>], comparing: &Comparing) -> Result<()> {
    // For exported ONNX files.
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot create a temporary directory", e))?;
    let mut all = Vec::new();
    for job in jobs {
        output::note(format_args!("{}", job.model.name));
        let peers: Result<Vec<Vec<Runner<'_>>>> =
            comparing.peers.iter().map(|peer| sides(*peer, &comparing.python, job, folder.path())).collect();
        let peers = peers?.into_iter().flatten().collect();
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

/// The benchmarks of one peer: one per memory format.
fn sides<'a>(peer: Peer, python: &str, job: &Job<'a>, folder: &Path) -> Result<Vec<Runner<'a>>> {
    let python = Python::new(python);
    let python_job = NetworkJob::new(*job.model, job.batch)
        .threads(job.threads)
        .budget(Duration::from_secs_f64(job.budget));
    Ok(match peer {
        Peer::Torch => [false, true]
            .into_iter()
            .map(|channels_last| {
                let (python, job) = (python.clone(), python_job.clone());
                Box::new(move || python.torch(&job, channels_last)) as Runner<'a>
            })
            .collect(),
        Peer::Onnxruntime => {
            let file = python.export_onnx(&python_job, folder)?;
            vec![Box::new(move || python.onnxruntime(&python_job, &file))]
        }
        Peer::Cpu => {
            let job = Job { device: Device::Cpu, ..job.clone() };
            vec![Box::new(move || job.measure())]
        }
    })
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
