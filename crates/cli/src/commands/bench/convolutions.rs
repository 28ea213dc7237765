//! `bench convolutions`: each convolution of networks, forward and both gradients.

use std::time::Duration;

use neocog_base::program::{command, quoted};
use neocog_bench::convolutions::{ConvTiming, Options, bench_convolutions};
use neocog_bench::python::Python;
use neocog_tensor::{Device, Error, Result};

use super::display::{number, peak, percent, print_peak, time};
use super::options::{networks_or, seconds};
use crate::arguments::positive;
use crate::help::examples;
use crate::output;

/// Benchmark each convolution of networks.
///
/// Measures the forward pass, the gradient of the input and the gradient of the weight of each distinct convolution, on the
/// CPU.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench convolutions
  neocog bench convolutions resnet --against torch
  neocog bench convolutions vgg --batch 8 --threads 1"))]
pub struct ConvolutionsArgs {
    /// Networks; `summary` lists them [default: resnet vgg googlenet].
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Batch size [default: depends on the network].
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Time budget in seconds; each pass of a convolution gets a tenth of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0, value_parser = seconds)]
    budget: f64,
    /// Run interleaved with PyTorch.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    against: Vec<Peer>,
    /// Number of interleaved runs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Python interpreter with PyTorch.
    #[arg(long, value_name = "COMMAND", default_value = "python3")]
    python: String,
    /// Print one JSON object per result instead of a table.
    #[arg(long)]
    json: bool,
    /// Only cpu.
    #[arg(long, hide = true, default_value_t = Device::Cpu)]
    device: Device,
}

/// An implementation to compare with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Peer {
    /// PyTorch, eager mode.
    Torch,
}

/// Runs the command.
pub fn run(args: &ConvolutionsArgs) -> Result<()> {
    if args.device != Device::Cpu {
        return Err(Error::invalid_argument(format!(
            "`bench convolutions` runs on the CPU; for {} run: {}",
            args.device,
            command(format_args!("bench ops --filter conv2d --device {}", quoted(&args.device.to_string())))
        )));
    }
    let selected = networks_or(&args.networks, &["resnet", "vgg", "googlenet"])?;
    let python = args.against.first().map(|Peer::Torch| Python::new(&args.python));
    let peak = peak(&args.device);
    print_peak(&args.device, peak);
    let options = Options::new()
        .threads(rayon::current_num_threads())
        .batch(args.batch)
        .budget(Duration::from_secs_f64(args.budget / 10.0))
        .rounds(args.rounds);
    let passes = bench_convolutions(&selected, &options, python.as_ref())?;
    if args.json {
        return passes.iter().try_for_each(output::json);
    }
    let total: f64 = passes.iter().map(|p| p.median_s * p.count as f64).sum();
    let rows = passes
        .iter()
        .map(|p| {
            [
                p.networks.join(", "),
                format!("{}, stride {}", shapes(p), p.stride),
                p.pass.clone(),
                p.algorithm.clone(),
                p.count.to_string(),
                percent(Some(p.median_s * p.count as f64 / total)),
                time(p.median_s),
                number(Some(p.gflops), 0),
                percent(peak.map(|peak| p.gflops / peak)),
                number(p.baseline_gflops, 0),
                number(p.ratio, 2),
            ]
        })
        .collect();
    let head = [
        "networks",
        "convolution",
        "pass",
        "algorithm",
        "count",
        "of total",
        "median",
        "GFLOP/s",
        "of peak",
        "PyTorch",
        "ratio",
    ];
    let mut right = [true; 11];
    right[..4].fill(false);
    output::line(output::table(head, right, rows))
}

/// Input, output channels and kernel size: `32x64x24x24 -> 64, 3x3`.
fn shapes(pass: &ConvTiming) -> String {
    let by = |extents: &[usize]| extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    format!("{} -> {}, {}", by(&pass.input), pass.weight[0], by(&pass.weight[2..]))
}
