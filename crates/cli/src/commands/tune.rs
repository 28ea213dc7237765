//! `tune`: auto-tuning of tile sizes for an OpenCL device.

use neocog_tensor::{Device, Error, Result};

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Auto-tune tile sizes for an OpenCL device.
///
/// Benchmarks tile sizes of matrix products and convolutions, checks their results, and stores the fastest for this device
/// and driver next to the compiled kernels; later commands use them. This takes a minute or two, during which the device should
/// be otherwise idle. Without tuning, defaults for the type of device are used.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog tune
  neocog tune --device opencl:0:1"))]
struct Args {
    /// OpenCL device.
    #[arg(long, value_name = "DEVICE", default_value = "opencl")]
    device: Device,
}

register_command!("tune", 130, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let Device::OpenCl(id) = args.device else {
        return Err(Error::invalid_argument(format!("tune needs an OpenCL device, not {}", args.device)));
    };
    output::note(format_args!("{id}: {}", id.info()?.name));
    let best = id.autotune(|trial| match (trial.gflops, &trial.error) {
        (Some(gflops), _) => output::note(format_args!("{gflops:8.1} GFLOP/s  {}", trial.config)),
        (None, error) => output::note(format_args!(
            "  failed          {}: {}",
            trial.config,
            error.as_deref().unwrap_or("no result")
        )),
    })?;
    output::line(format_args!("{id}: {} ({:.1} GFLOP/s)", best.config, best.gflops.unwrap_or_default()))
}
