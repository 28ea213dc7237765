//! `bench`: measurements.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_benches::against_torch::{self, Comparison};
use neocog_benches::networks::Share;
use neocog_benches::{Record, networks, ops};
use neocog_models::{Model, find, models};
use neocog_tensor::{Device, Error, Result, fma_peak_gflops, instruction_set};

use crate::output;

/// Measures operations and networks: training step and prediction, speed, share of the machine's peak, peak memory.
///
/// A time is the median of single calls after a warm-up. A training step is forward, mean cross-entropy, backward and
/// SGD. GFLOP/s count two operations for each multiply-add of the forward pass, three times that for training. Each
/// network runs in a process of its own, whose peak memory is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                         all networks
  cargo xtask bench lenet lenet_bn          these networks
  cargo xtask bench ops --filter conv2d     operations, by a part of their name
  cargo xtask bench lenet --profile         where the time goes
  cargo xtask bench lenet --against torch   beside PyTorch, in turns")]
pub struct Args {
    /// `networks`, `ops`, or names of networks.
    #[arg(default_value = "networks")]
    what: Vec<String>,
    /// Where to run: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference.
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// Images in a batch; each network's own number if absent.
    #[arg(long)]
    batch: Option<usize>,
    /// Seconds for a network, or for an operation a tenth of it.
    #[arg(long, default_value_t = 6.0)]
    budget: f64,
    /// Only operations whose name or case contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Runs the networks here and in PyTorch in turns.
    #[arg(long, value_parser = ["torch"])]
    against: Option<String>,
    /// How many turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The Python with PyTorch.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Also runs PyTorch in its channels-last format; the better of the two counts.
    #[arg(long)]
    channels_last: bool,
    /// Shows where the time goes, by operation and by layer.
    #[arg(long, conflicts_with = "against")]
    profile: bool,
    /// One line of JSON for each result instead.
    #[arg(long)]
    json: bool,
    /// Measures one network in this process and writes its records.
    #[arg(long, hide = true)]
    in_process: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if !(args.budget > 0.0 && args.budget <= 3600.0) {
        return Err(Error::argument(format!(
            "--budget is a number of seconds up to 3600, not {}",
            args.budget
        )));
    }
    if args.batch == Some(0) || args.rounds == 0 {
        return Err(Error::argument("--batch and --rounds must be at least 1"));
    }
    if args.what == ["ops"] {
        if args.profile {
            return Err(Error::argument("--profile is for networks: operations are shown one by one anyway"));
        }
        return bench_ops(args);
    }
    let chosen = if args.what == ["networks"] {
        models()?
    } else {
        args.what.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?
    };
    if args.profile {
        return chosen.iter().try_for_each(|model| profile(args, model));
    }
    if args.in_process {
        return bench_in_process(args, &chosen);
    }
    if args.against.is_some() { compare(args, &chosen) } else { bench_networks(args, &chosen) }
}

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
        return Err(Error::argument(format!("no operation has a timed case with `{filter}` in its name")));
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
    say_peak(args, peak(&args.device));
    let mut rows = Vec::new();
    for model in chosen {
        output::note(format_args!("{}", model.name));
        for r in measure_in_new_process(args, model)? {
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
            ]);
        }
    }
    if args.json {
        return Ok(());
    }
    let head = ["network", "mode", "batch", "median", "images/s", "GFLOP/s", "of peak", "peak MiB"];
    output::line(output::table(head, [false, false, true, true, true, true, true, true], rows))
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
        budget: Duration::from_secs_f64(args.budget),
    }
}

/// Shows where the time of a network goes: first by operation, then by layer and operation.
fn profile(args: &Args, model: &Model) -> Result<()> {
    let peak = peak(&args.device);
    say_peak(args, peak);
    let shares = networks::profile_network(model, &network_options(args), peak)?;
    if args.json {
        return shares.iter().try_for_each(output::json);
    }
    let columns = |s: &Share| {
        [
            time(s.seconds),
            percent(Some(s.share)),
            number(s.gflops, 1),
            percent(s.share_of_peak),
            number(Some(s.gb_per_s), 1),
        ]
    };
    for mode in ["predict", "train"] {
        let of_mode: Vec<&Share> = shares.iter().filter(|s| s.mode == mode).collect();
        let whole: f64 = of_mode.iter().map(|s| s.seconds).sum();
        output::line(format_args!("{}, {mode}: {} a call", model.name, time(whole)))?;
        let rows = by_operation(&of_mode, peak).into_iter().map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(&s);
            let op = if s.op.is_empty() { "(between operations)".to_string() } else { s.op.clone() };
            [op, format!("{:.0}", s.calls), time, share, gflops, peak, bandwidth]
        });
        let head = ["operation", "runs", "time", "of all", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(head, [false, true, true, true, true, true, true], rows.collect()))?;
        let rows = of_mode.iter().filter(|s| !s.op.is_empty()).map(|s| {
            let [time, share, gflops, peak, bandwidth] = columns(s);
            [s.layer.clone(), s.op.clone(), format!("{:?}", s.output), time, share, gflops, peak, bandwidth]
        });
        let head = ["layer", "operation", "output", "time", "of all", "GFLOP/s", "of peak", "GB/s"];
        output::line(output::table(
            head,
            [false, false, false, true, true, true, true, true],
            rows.collect(),
        ))?;
    }
    Ok(())
}

/// One row for each kind of operation, the longest first.
fn by_operation(shares: &[&Share], peak: Option<f64>) -> Vec<Share> {
    let mut all: BTreeMap<&str, Share> = BTreeMap::new();
    for s in shares {
        // Back to amounts of work, which can be added.
        let (flops, bytes) = (s.gflops.unwrap_or(0.0) * s.seconds, s.gb_per_s * s.seconds);
        let sum = all.entry(&s.op).or_insert_with(|| Share {
            seconds: 0.0,
            calls: 0.0,
            share: 0.0,
            gflops: None,
            gb_per_s: 0.0,
            ..(*s).clone()
        });
        sum.seconds += s.seconds;
        sum.calls += s.calls;
        sum.share += s.share;
        sum.gb_per_s += bytes;
        if s.gflops.is_some() {
            sum.gflops = Some(sum.gflops.unwrap_or(0.0) + flops);
        }
    }
    let mut rows: Vec<Share> = all
        .into_values()
        .map(|s| {
            let gflops = s.gflops.map(|work| work / s.seconds);
            let share_of_peak = gflops.zip(peak).map(|(g, p)| g / p);
            let gb_per_s = if s.seconds > 0.0 { s.gb_per_s / s.seconds } else { 0.0 };
            Share { gflops, share_of_peak, gb_per_s, ..s }
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

fn measure_in_new_process(args: &Args, model: &Model) -> Result<Vec<Record>> {
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let mut command = Command::new(program);
    command.args(["bench", model.name, "--in-process", "--device", &args.device.to_string()]);
    command.args(["--threads", &threads().to_string(), "--budget", &args.budget.to_string()]);
    if let Some(batch) = args.batch {
        command.args(["--batch", &batch.to_string()]);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Error::io("cannot start a process to measure in", e))?;
    if !output.status.success() {
        return Err(Error::device(format!("the measurement of {} failed: {}", model.name, output.status)));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str(line)
                .map_err(|e| Error::format("the measurement's answer is not understood").with_source(e))
        })
        .collect()
}

fn compare(args: &Args, chosen: &[Model]) -> Result<()> {
    let options = against_torch::Options {
        python: args.python.clone(),
        rounds: args.rounds,
        threads: threads(),
        batch: args.batch,
        budget: Duration::from_secs_f64(args.budget),
        channels_last: args.channels_last,
    };
    let mut rows = Vec::new();
    for model in chosen {
        output::note(format_args!("{}", model.name));
        for c in against_torch::compare(model, &options, || measure_in_new_process(args, model))? {
            if args.json {
                output::json(&c)?;
            }
            rows.push(comparison_row(&c));
        }
    }
    if args.json {
        return Ok(());
    }
    let head = [
        "network",
        "mode",
        "batch",
        "threads",
        "images/s",
        "PyTorch",
        "ratio",
        "from",
        "to",
        "peak MiB",
        "PyTorch's",
    ];
    let mut right = [true; 11];
    right[0] = false;
    right[1] = false;
    output::line(output::table(head, right, rows))
}

fn comparison_row(c: &Comparison) -> [String; 11] {
    [
        c.name.clone(),
        c.mode.clone(),
        c.batch.to_string(),
        c.threads.to_string(),
        number(Some(c.ours), 0),
        number(Some(c.theirs), 0),
        number(Some(c.ratio), 2),
        number(Some(c.ratio_min), 2),
        number(Some(c.ratio_max), 2),
        number(Some(c.ours_rss_mib), 0),
        number(Some(c.theirs_rss_mib), 0),
    ]
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
