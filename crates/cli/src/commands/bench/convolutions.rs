//! `bench convolutions`: each convolution of networks, forward and both gradients.

use std::time::Duration;

use neocog_bench::convolutions::{ConvTiming, Options, bench_convolutions};
use neocog_bench::python::Python;
use neocog_models::Model;
use neocog_tensor::{Device, Error, Result};

use super::compare::Other;
use super::{Args, number, peak, percent, say_peak, threads, time};
use crate::output;

/// Measures, with PyTorch in turns if the arguments ask for it, and shows a row for each pass.
pub fn run(args: &Args, chosen: &[Model]) -> Result<()> {
    let python = match args.against[..] {
        [] => None,
        [Other::Torch] => Some(Python::new(&args.python)),
        _ => {
            return Err(Error::invalid_argument(
                "convolutions are compared with PyTorch only: --against torch",
            ));
        }
    };
    if args.device != Device::Cpu {
        return Err(Error::invalid_argument(format!(
            "`bench convolutions` runs on the CPU; on {} use `bench ops --filter conv2d`",
            args.device
        )));
    }
    let peak = peak(&args.device);
    say_peak(args, peak);
    let options = Options::new()
        .threads(threads())
        .batch(args.batch)
        .budget(Duration::from_secs_f64(args.budget / 10.0))
        .rounds(args.rounds);
    let passes = bench_convolutions(chosen, &options, python.as_ref())?;
    if args.json {
        return passes.iter().try_for_each(output::json);
    }
    let whole: f64 = passes.iter().map(|p| p.median_s * p.count as f64).sum();
    let rows = passes
        .iter()
        .map(|p| {
            [
                p.networks.join(", "),
                format!("{}, stride {}", shape(p), p.stride),
                p.pass.clone(),
                p.count.to_string(),
                percent(Some(p.median_s * p.count as f64 / whole)),
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
        "times",
        "of all",
        "median",
        "GFLOP/s",
        "of peak",
        "PyTorch's",
        "ratio",
    ];
    let mut right = [true; 10];
    right[..3].fill(false);
    output::line(output::table(head, right, rows))
}

/// `32x64x24x24 -> 64, 3x3`.
fn shape(pass: &ConvTiming) -> String {
    let by = |extents: &[usize]| extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    format!("{} -> {}, {}", by(&pass.input), pass.weight[0], by(&pass.weight[2..]))
}
