//! `golden`: golden files.

use std::path::PathBuf;

use neocog_tensor::{Device, Error, ErrorKind, Result};
use neocog_tests::golden;

use neocog_cli::{output, register_command};

/// Compares operations and networks with golden values that PyTorch computed.
///
/// Prints a table: of each file and device the number of cases, how many passed, and the worst deviation as a share of
/// what is allowed; below it, every case that is wrong. It is an error if one is, or if there is no golden file.
#[derive(Debug, clap::Args)]
struct Args {
    /// The folder with golden files, or one of them; those of the project if absent.
    dir: Option<PathBuf>,
    /// Where to run: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference; cpu and
    /// reference if absent.
    #[arg(long)]
    device: Option<Device>,
    /// One line of JSON for each file and device instead, with file, device, cases, passed, kind, worst, worst_at and
    /// failures.
    #[arg(long)]
    json: bool,
}

register_command!("golden", 200, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let folder = args.dir.clone().unwrap_or_else(golden::own_folder);
    let devices = args.device.clone().map_or(vec![Device::Cpu, Device::Reference], |device| vec![device]);
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
        wrong => Err(Error::new(
            ErrorKind::Diverged,
            format!("{wrong} of {} runs of golden files are wrong", reports.len()),
        )),
    }
}
