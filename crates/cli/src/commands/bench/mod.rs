//! `bench`: measurements.

mod compare;
mod convolutions;
mod growth;
mod profile;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_bench::{Record, networks, ops};
use neocog_models::{Model, find, models};
use neocog_tensor::{Device, Error, Result, fma_peak_gflops, instruction_set};

use crate::help::examples;
use crate::output;
use crate::register_command;
use compare::Other;

/// Measures operations and networks: training step and prediction, speed, share of the machine's peak, peak memory.
///
/// A time is the median of single calls after a warm-up. A training step is forward, mean cross-entropy, backward and
/// SGD. GFLOP/s count two operations for each multiply-add of the forward pass, three times that for training. Each
/// network runs in a process of its own, whose peak memory is shown, and the part of it that tensors and scratch hold at
/// once.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench                         all networks
  neocog bench lenet lenet_bn          these networks
  neocog bench --device opencl         all networks on an OpenCL device, beside the CPU
  neocog bench ops --filter conv2d     operations, by a part of their name
  neocog bench lenet --profile         where the time goes
  neocog bench lenet --against torch   beside PyTorch, in turns; also torch,onnxruntime
  neocog bench convolutions resnet --against torch
                                            each of its convolutions, forward and backward, beside PyTorch's
  neocog bench sizes resnet --plot .   speed for batches and sizes of images, as a table and a chart
  neocog bench threads resnet          speed on one thread, two, and so on"))]
pub(crate) struct Args {
    /// `networks`, `ops`, or names of networks; or `convolutions`, `sizes` or `threads`, and names of networks.
    #[arg(default_value = "networks")]
    what: Vec<String>,
    /// Where to run: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference.
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// Images in a batch; each network's own number if absent.
    #[arg(long)]
    batch: Option<usize>,
    /// Height and width of the images; each network's own if absent.
    #[arg(long, conflicts_with_all = ["against", "filter"])]
    size: Option<usize>,
    /// Measures prediction only.
    #[arg(long, conflicts_with = "profile")]
    predict_only: bool,
    /// Seconds for a network, or for an operation a tenth of it.
    #[arg(long, default_value_t = 6.0)]
    budget: f64,
    /// Only operations whose name or case contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Runs the networks here and elsewhere in turns: `torch` (both memory formats), `onnxruntime` (prediction), `cpu`; the
    /// fastest counts. `cpu` is the default for other devices.
    #[arg(long, value_delimiter = ',')]
    against: Vec<Other>,
    /// How many turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The Python with PyTorch.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Shows where the time goes, by operation and by layer; on an OpenCL device by kernel.
    #[arg(long, conflicts_with = "against")]
    profile: bool,
    /// Batches of `sizes`.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128])]
    batches: Vec<usize>,
    /// Heights and widths of `sizes`.
    #[arg(long, value_delimiter = ',', default_values_t = [28, 96, 224])]
    sizes: Vec<usize>,
    /// The folder in which `sizes` draws a chart for each network.
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// One line of JSON for each result instead.
    #[arg(long)]
    json: bool,
    /// Measures one network in this process and writes its records.
    #[arg(long, hide = true)]
    in_process: bool,
}

register_command!("bench", 140, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    if !(args.budget > 0.0 && args.budget <= 3600.0) {
        return Err(Error::invalid_argument(format!(
            "--budget is a number of seconds up to 3600, not {}",
            args.budget
        )));
    }
    let zero = |numbers: &[usize]| numbers.contains(&0);
    if args.batch == Some(0) || args.rounds == 0 || zero(&args.batches) || zero(&args.sizes) {
        return Err(Error::invalid_argument("--batch, --batches, --sizes and --rounds must be at least 1"));
    }
    let (subject, names) = match args.what.split_first() {
        Some((first, rest)) if SUBJECTS.contains(&first.as_str()) => (first.as_str(), rest),
        _ => ("networks", args.what.as_slice()),
    };
    let chosen = || names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>();
    let chosen_or = |others: &[&str]| match names {
        [] => others.iter().map(|name| find(name)).collect(),
        _ => chosen(),
    };
    match subject {
        "ops" if args.profile => {
            Err(Error::invalid_argument("--profile is for networks: operations are shown one by one anyway"))
        }
        "ops" if names.is_empty() => bench_ops(args),
        "ops" => Err(Error::invalid_argument(format!(
            "`bench ops` knows no {}: a part of an operation's name is given as --filter {0}",
            names[0]
        ))),
        "convolutions" => convolutions::run(args, &chosen_or(&["resnet", "vgg", "googlenet"])?),
        "sizes" => growth::sizes(args, &chosen_or(&["lenet", "resnet"])?),
        "threads" => growth::threads(args, &chosen_or(&["lenet", "resnet"])?),
        _ => bench_networks(args, &if names.is_empty() { models()? } else { chosen()? }),
    }
}

/// What can be measured, as the first word.
const SUBJECTS: [&str; 5] = ["networks", "ops", "convolutions", "sizes", "threads"];

fn threads() -> usize {
    rayon::current_num_threads()
}

/// The peak that a share is of; nothing for devices that do not use the same vectors.
fn peak(device: &Device) -> Option<f64> {
    (*device == Device::Cpu).then(|| fma_peak_gflops(threads()))
}

fn bench_ops(args: &Args) -> Result<()> {
    let peak = peak(&args.device);
    say_peak(args, peak);
    let options = ops::Options {
        device: args.device.clone(),
        threads: threads(),
        budget: Duration::from_secs_f64(args.budget / 10.0),
        filter: args.filter.clone(),
    };
    let mut records = Vec::new();
    let mut written = Ok(());
    ops::bench_ops(&options, peak, |record| {
        if args.json && written.is_ok() {
            written = output::json(&record);
        } else {
            output::note(format_args!("{}", record.name));
        }
        records.push(record);
    })?;
    written?;
    if records.is_empty() {
        let filter = args.filter.as_deref().unwrap_or_default();
        return Err(Error::invalid_argument(format!(
            "no operation has a timed case with `{filter}` in its name"
        )));
    }
    if args.json {
        return Ok(());
    }
    let rows = records
        .iter()
        .map(|r| {
            [
                r.name.clone(),
                time(r.median_s),
                number(r.gflops, 1),
                percent(r.share_of_peak),
                r.calls.to_string(),
            ]
        })
        .collect();
    output::line(output::table(
        ["operation", "median", "GFLOP/s", "of peak", "calls"],
        [false, true, true, true, true],
        rows,
    ))
}

fn bench_networks(args: &Args, chosen: &[Model]) -> Result<()> {
    if args.profile {
        return chosen.iter().try_for_each(|model| profile::profile(args, model));
    }
    if args.in_process {
        return bench_in_process(args, chosen);
    }
    let others = compare::others(args);
    if !others.is_empty() {
        return compare::run(args, chosen, &others);
    }
    say_peak(args, peak(&args.device));
    let mut rows = Vec::new();
    for model in chosen {
        output::note(format_args!("{}", model.name));
        for r in Job::new(args, model).measure()? {
            if args.json {
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
    if args.json {
        return Ok(());
    }
    let head =
        ["network", "mode", "batch", "median", "images/s", "GFLOP/s", "of peak", "peak MiB", "tensors"];
    output::line(output::table(head, [false, false, true, true, true, true, true, true, true], rows))
}

/// Measures in this process; called by the same program, which reads the records.
fn bench_in_process(args: &Args, chosen: &[Model]) -> Result<()> {
    let (options, peak) = (network_options(args), peak(&args.device));
    for model in chosen {
        for record in networks::bench_network(model, &options, peak)? {
            output::json(&record)?;
        }
    }
    Ok(())
}

fn network_options(args: &Args) -> networks::Options {
    networks::Options {
        device: args.device.clone(),
        threads: threads(),
        batch: args.batch,
        size: args.size,
        train: !args.predict_only,
        budget: Duration::from_secs_f64(args.budget),
    }
}

/// A network to measure in a process of its own.
#[derive(Clone)]
struct Job<'a> {
    model: &'a Model,
    device: Device,
    threads: usize,
    batch: usize,
    size: Option<usize>,
    predict_only: bool,
    budget: f64,
}

impl<'a> Job<'a> {
    fn new(args: &Args, model: &'a Model) -> Self {
        Job {
            model,
            device: args.device.clone(),
            threads: threads(),
            batch: args.batch.unwrap_or_else(|| neocog_bench::default_batch(model)),
            size: args.size,
            predict_only: args.predict_only,
            budget: args.budget,
        }
    }

    fn measure(&self) -> Result<Vec<Record>> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let mut command = Command::new(program);
        command.args(["bench", self.model.name, "--in-process", "--device", &self.device.to_string()]);
        command.args(["--threads", &self.threads.to_string(), "--batch", &self.batch.to_string()]);
        command.args(["--budget", &self.budget.to_string()]);
        if let Some(size) = self.size {
            command.args(["--size", &size.to_string()]);
        }
        if self.predict_only {
            command.arg("--predict-only");
        }
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| Error::io("cannot start a process to measure in", e))?;
        if !output.status.success() {
            let name = self.model.name;
            return Err(Error::device(format!("the measurement of {name} failed: {}", output.status)));
        }
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|e| Error::format("the measurement's answer is not understood").with_source(e))
            })
            .collect()
    }
}

fn say_peak(args: &Args, peak: Option<f64>) {
    if let Some(peak) = peak {
        let (name, lanes) = instruction_set();
        output::note(format_args!(
            "{} on {} threads, {name} ({lanes} floats): peak {peak:.0} GFLOP/s",
            args.device,
            threads()
        ));
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_string(), |v| format!("{v:.digits$}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_string(), |s| format!("{:.0} %", s * 100.0))
}

/// TODO-BENCH
pub fn old_spelling(arguments: impl Iterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    arguments.collect()
}
