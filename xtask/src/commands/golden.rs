//! `golden`: tests against PyTorch's results.

use std::path::PathBuf;

use neocog_cli::{output, register_command};
use neocog_tensor::{Device, Error, ErrorKind, Result};
use neocog_tests::golden;

/// Test operations and networks against golden files from PyTorch.
///
/// Prints a table: for each file and device, the number of cases, how many passed, and the largest deviation relative to the
/// tolerance; below it, the failed cases. Exits with code 1 if a case fails or there is no golden file.
#[derive(Debug, clap::Args)]
struct Args {
    /// Golden file, or a directory of them [default: tests/golden].
    dir: Option<PathBuf>,
    /// Device: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference [default: cpu and
    /// reference].
    #[arg(long)]
    device: Option<Device>,
    /// Print one JSON object per file and device: file, device, cases, passed, kind, worst, worst_at and failures.
    #[arg(long)]
    json: bool,
}

register_command!("golden", 200, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let folder = args.dir.clone().unwrap_or_else(golden::own_folder);
    let devices = args.device.map_or(vec![Device::Cpu, Device::Reference], |device| vec![device]);
    let mut written = Ok(());
    let reports = golden::run_folder(&folder, &devices, |report| {
        if args.json && written.is_ok() {
            written = output::line(golden::json_line(report));
        }
    })?;
    written?;
    let table = golden::table(&reports);
    if args.json {
        output::note(format_args!("{}", table.trim_end()));
    } else {
        output::line(table.trim_end())?;
    }
    match reports.iter().filter(|r| !r.is_right()).count() {
        0 => Ok(()),
        failed => Err(Error::new(
            ErrorKind::Diverged,
            format!("{failed} of {} runs of golden files failed", reports.len()),
        )),
    }
}
