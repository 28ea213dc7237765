//! `golden`: runs golden files, and compares what is computed here with what PyTorch computed.

use std::path::PathBuf;

use clap::Args;
use neocog_tensor::{Device, Error, ErrorKind, Result};
use neocog_tests::golden;

/// Compares operations and networks with golden values that PyTorch computed.
#[derive(Args, Debug)]
pub struct GoldenArgs {
    /// The folder with golden files, or one of them; those of the project if absent.
    dir: Option<PathBuf>,
    /// Where to run: cpu or reference; both if absent.
    #[arg(long)]
    device: Option<Device>,
    /// One JSON object a line for each file and device on standard output; the table goes to standard error.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no golden file, or a case is wrong.
pub fn run(args: GoldenArgs) -> Result<()> {
    let folder = args.dir.unwrap_or_else(golden::own_folder);
    let devices = args.device.map_or(vec![Device::Cpu, Device::Reference], |device| vec![device]);
    let reports = golden::run_folder(&folder, &devices, |report| {
        if args.json {
            println!("{}", golden::json_line(report));
        }
    })?;
    if args.json {
        eprint!("{}", golden::table(&reports));
    } else {
        print!("{}", golden::table(&reports));
    }
    let wrong = reports.iter().filter(|r| !r.is_right()).count();
    if wrong > 0 {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("{wrong} of {} runs of golden files are wrong", reports.len()),
        ));
    }
    Ok(())
}
