//! `bench`: measurements.

use std::process::{Command, Stdio};
use std::time::Duration;

use neocog_benches::against_torch::{self, Comparison};
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
  cargo xtask bench lenet --against torch   beside PyTorch, in turns")]
pub struct Args {
    /// `networks`, `ops`, or names of networks.
    #[arg(default_value = "networks")]
    what: Vec<String>,
    /// Where to run: cpu or reference.
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
        return bench_ops(args);
    }
    let chosen = if args.what == ["networks"] {
        models()?
    } else {
        args.what.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?
    };
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
    let options = networks::Options {
        device: args.device.clone(),
        threads: threads(),
        batch: args.batch,
        budget: Duration::from_secs_f64(args.budget),
    };
    let peak = peak(&args.device);
    for model in chosen {
        for record in networks::bench_network(model, &options, peak)? {
            output::json(&record)?;
        }
    }
    Ok(())
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
