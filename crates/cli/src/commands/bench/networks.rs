//! `bench networks`: training steps and prediction of whole networks.

use std::time::Duration;

use neocog_bench::networks;
use neocog_models::{Family, models_of};
use neocog_tensor::{Device, Result};

use super::compare::{self, Comparing};
use super::display::{number, peak, percent, print_peak, time};
use super::job::Job;
use super::options::{RunArgs, ShapeArgs};
use super::peer::Peer;
use super::profile::profile;
use super::subject::Subject;
use crate::arguments::positive;
use crate::help::examples;
use crate::output;

/// Benchmark training steps and prediction of networks [default].
///
/// Prints the median time, images per second, GFLOP/s, the fraction of the CPU's peak performance and memory. Each network
/// runs in a process of its own: "peak MiB" is the peak memory of the process, "tensors" the part of it that tensors and
/// scratch buffers occupy at the same time.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench networks                         all networks
  neocog bench networks lenet lenet_bn
  neocog bench networks lenet --profile
  neocog bench networks --against torch,onnxruntime --rounds 5
  neocog bench networks --device opencl         all networks, interleaved with the CPU
  neocog bench net.onnx --against onnxruntime,openvino,tract"))]
pub struct NetworksArgs {
    /// Networks, and ONNX models; `summary` lists the networks [default: all of the family].
    #[arg(value_name = "NETWORK|MODEL.onnx")]
    networks: Vec<String>,
    /// Networks to benchmark if none is named: notes or torchvision [default: notes].
    #[arg(long, value_name = "FAMILY", conflicts_with = "networks")]
    family: Option<Family>,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Run interleaved with other implementations and compare with the fastest [default: cpu for OpenCL devices].
    #[arg(long, value_name = "PEER", value_delimiter = ',', conflicts_with = "size")]
    against: Vec<Peer>,
    /// Number of interleaved runs with --against [default: 5].
    #[arg(long, value_name = "N", value_parser = positive)]
    rounds: Option<usize>,
    /// Python interpreter with PyTorch [default: python3].
    #[arg(long, value_name = "COMMAND")]
    python: Option<String>,
    /// Print the time per operation and per layer, on OpenCL devices per kernel.
    #[arg(long, conflicts_with_all = ["against", "predict_only"])]
    profile: bool,
    /// Benchmark in this process and print the records.
    #[arg(long, hide = true)]
    in_process: bool,
}

/// Runs the command.
pub fn run(args: &NetworksArgs) -> Result<()> {
    let selected: Vec<Subject> = match args.networks.as_slice() {
        [] => {
            let models = models_of(args.family.unwrap_or_default())?;
            models.into_iter().map(|model| Subject::Registered(Box::new(model))).collect()
        }
        names => names.iter().map(|name| Subject::find(name, &args.shape)).collect::<Result<_>>()?,
    };
    let device = &args.run.device.device;
    if args.profile {
        let peak = peak(device);
        print_peak(device, peak);
        return selected.iter().try_for_each(|subject| profile(subject, &options(args), peak, args.run.json));
    }
    if args.in_process {
        return measure_in_process(args, &selected);
    }
    let peers = match device {
        Device::OpenCl(_) if args.against.is_empty() => vec![Peer::Cpu],
        _ => args.against.clone(),
    };
    if peers.is_empty() {
        let unused = [("rounds", args.rounds.is_some()), ("python", args.python.is_some())];
        for (option, _) in unused.iter().filter(|(_, is_given)| *is_given) {
            output::note(format_args!("warning: --{option} has no effect without --against"));
        }
        return measure(args, &selected);
    }
    let jobs: Vec<(&Subject, Job)> =
        selected.iter().map(|subject| (subject, subject.job(&args.run, &args.shape))).collect();
    let python = args.python.clone().unwrap_or_else(|| "python3".to_string());
    let comparing = Comparing { peers, rounds: args.rounds.unwrap_or(5), python, json: args.run.json };
    compare::run(&jobs, &comparing)
}

fn measure(args: &NetworksArgs, selected: &[Subject]) -> Result<()> {
    let device = &args.run.device.device;
    print_peak(device, peak(device));
    let mut rows = Vec::new();
    for subject in selected {
        output::note(format_args!("{}", subject.name()));
        for r in subject.job(&args.run, &args.shape).measure()? {
            if args.run.json {
                output::json(&r)?;
            }
            rows.push([
                r.name,
                r.mode,
                r.batch.to_string(),
                time(r.median_s),
                number(r.images_per_s, 0),
                number(r.gflops, 1),
                percent(r.share_of_peak),
                number(r.peak_rss_mib, 0),
                number(r.peak_tensors_mib, 0),
            ]);
        }
    }
    if args.run.json {
        return Ok(());
    }
    let head =
        ["network", "mode", "batch", "median", "images/s", "GFLOP/s", "of peak", "peak MiB", "tensors"];
    output::line(output::table(head, [false, false, true, true, true, true, true, true, true], rows))
}

/// The child process of [`Job::measure`].
fn measure_in_process(args: &NetworksArgs, selected: &[Subject]) -> Result<()> {
    let (options, peak) = (options(args), peak(&args.run.device.device));
    for subject in selected {
        subject.measure(&options, peak)?.iter().try_for_each(output::json)?;
    }
    Ok(())
}

fn options(args: &NetworksArgs) -> networks::Options {
    networks::Options::new(args.run.device.device)
        .threads(rayon::current_num_threads())
        .batch(args.shape.batch)
        .size(args.shape.size)
        .train(!args.run.predict_only)
        .budget(Duration::from_secs_f64(args.run.budget))
}
