//! `bench --against`: the same networks here and elsewhere, in turns.

use std::time::Duration;

use neocog_bench::compare::{self, Comparison, Runner, geometric_mean};
use neocog_bench::python::{NetworkJob, Python};
use neocog_models::Model;
use neocog_tensor::{Device, Error, Result};

use super::{Args, Job, number};
use crate::output;

/// Whom to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Other {
    /// PyTorch, eager, in its usual and in its channels-last format.
    Torch,
    /// ONNX Runtime, which only predicts.
    Onnxruntime,
    /// The CPU here.
    Cpu,
}

/// Whom the arguments ask for: other devices are compared with the CPU.
pub fn others(args: &Args) -> Vec<Other> {
    match args.device {
        Device::OpenCl(_) if args.against.is_empty() => vec![Other::Cpu],
        _ => args.against.clone(),
    }
}

/// Compares, and shows a row for each network and mode.
pub fn run(args: &Args, chosen: &[Model], others: &[Other]) -> Result<()> {
    // For the files of networks that others read; goes away with them at the end.
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder for temporary files", e))?;
    let mut all = Vec::new();
    for model in chosen {
        output::note(format_args!("{}", model.name));
        let job = Job::new(args, model);
        let theirs: Result<Vec<Vec<Runner>>> =
            others.iter().map(|other| sides(*other, args, &job, folder.path())).collect();
        let theirs = theirs?.into_iter().flatten().collect();
        let ours = Box::new(|| job.measure());
        for comparison in compare::compare(args.rounds, ours, theirs)? {
            if args.json {
                output::json(&comparison)?;
            }
            all.push(comparison);
        }
    }
    if args.json {
        return Ok(());
    }
    let head = [
        "network", "mode", "batch", "threads", "images/s", "theirs", "ratio", "from", "to", "peak MiB",
        "theirs", "they are",
    ];
    let mut right = [true; 12];
    (right[0], right[1], right[11]) = (false, false, false);
    output::line(output::table(head, right, all.iter().map(row).collect()))?;
    ["train", "predict"].into_iter().try_for_each(|mode| summary(&all, mode))
}

/// Those who measure for one of the others.
fn sides<'a>(
    other: Other,
    args: &'a Args,
    job: &Job<'a>,
    folder: &std::path::Path,
) -> Result<Vec<Runner<'a>>> {
    let python = Python::new(&args.python);
    let theirs = NetworkJob::new(*job.model, job.batch)
        .threads(job.threads)
        .budget(Duration::from_secs_f64(job.budget));
    Ok(match other {
        Other::Torch => [false, true]
            .into_iter()
            .map(|channels_last| {
                let (python, theirs) = (python.clone(), theirs.clone());
                Box::new(move || python.torch(&theirs, channels_last)) as Runner<'a>
            })
            .collect(),
        Other::Onnxruntime => {
            let file = python.export_onnx(&theirs, folder)?;
            vec![Box::new(move || python.onnxruntime(&theirs, &file))]
        }
        Other::Cpu => {
            let job = Job { device: Device::Cpu, ..job.clone() };
            vec![Box::new(move || job.measure())]
        }
    })
}

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

/// The mean of a mode's ratios, and the smallest.
fn summary(all: &[Comparison], mode: &str) -> Result<()> {
    let of_mode = || all.iter().filter(|c| c.mode == mode);
    let (Some(mean), Some(smallest)) =
        (geometric_mean(of_mode().map(|c| c.ratio)), of_mode().min_by(|a, b| a.ratio.total_cmp(&b.ratio)))
    else {
        return Ok(());
    };
    output::line(format_args!(
        "{mode}: geometric mean of the ratios {mean:.2}, the smallest {:.2} ({})",
        smallest.ratio, smallest.name
    ))
}
