//! `bench ops`: single operations.

use std::time::Duration;

use neocog_bench::ops;
use neocog_tensor::{Error, Result};

use super::display::{number, peak, percent, print_peak, time};
use super::options::seconds;
use crate::arguments::DeviceArg;
use crate::help::examples;
use crate::output;

/// Benchmark operations.
///
/// Runs the benchmark cases of every registered operation and prints the median time, GFLOP/s and the fraction of the CPU's
/// peak performance.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench ops
  neocog bench ops --filter conv2d
  neocog bench ops --device opencl --json"))]
pub struct OpsArgs {
    /// Rejected, with the option to use instead.
    #[arg(hide = true, value_name = "OPERATION", value_parser = reject_operation)]
    operation: Option<String>,
    /// Benchmark only the operations and cases whose name contains TEXT.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Time budget in seconds; a case gets a tenth of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0, value_parser = seconds)]
    budget: f64,
    #[command(flatten)]
    device: DeviceArg,
    /// Print one JSON object per result instead of a table.
    #[arg(long)]
    json: bool,
}

fn reject_operation(name: &str) -> Result<String, String> {
    Err(format!("select operations with --filter {name}"))
}

/// Runs the command.
pub fn run(args: &OpsArgs) -> Result<()> {
    let device = &args.device.device;
    let peak = peak(device);
    print_peak(device, peak);
    let options = ops::Options::new(*device)
        .threads(rayon::current_num_threads())
        .budget(Duration::from_secs_f64(args.budget / 10.0))
        .filter(args.filter.clone());
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
        return Err(Error::invalid_argument(format!("no benchmark case of an operation matches `{filter}`")));
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
    let head = ["operation", "median", "GFLOP/s", "of peak", "calls"];
    output::line(output::table(head, [false, true, true, true, true], rows))
}
