//! `tune`: finds the sizes with which products are fast on an OpenCL device.

use neocog_tensor::{Device, Error, Result};

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Tries sizes of blocks for matrix products and convolutions on an OpenCL device, and keeps the best for all later
/// commands. Takes a minute or two; the device should have nothing else to do.
///
/// Each choice must first give right results. What is found is kept beside the compiled kernels, for this device and
/// driver; a device that was not tuned has sizes that suit its kind.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog tune
  neocog tune --device opencl:0:1"))]
struct Args {
    /// The device.
    #[arg(long, default_value = "opencl")]
    device: Device,
}

register_command!("tune", 130, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let Device::OpenCl(id) = args.device else {
        return Err(Error::invalid_argument(format!("tune is for OpenCL devices, not for {}", args.device)));
    };
    output::note(format_args!("{id}: {}", id.info()?.name));
    let best = id.autotune(|trial| match (trial.gflops, &trial.error) {
        (Some(gflops), _) => output::note(format_args!("{gflops:8.1} GFLOP/s  {}", trial.config)),
        (None, error) => output::note(format_args!(
            "   wrong          {}: {}",
            trial.config,
            error.as_deref().unwrap_or("no result")
        )),
    })?;
    output::line(format_args!("{id}: {} ({:.1} GFLOP/s)", best.config, best.gflops.unwrap_or_default()))
}
