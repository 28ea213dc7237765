//! `report`: a page about a training run.

use std::path::PathBuf;

use neocog_base::program;
use neocog_insight::Run;
use neocog_insight::report::{self, ReportOptions};
use neocog_tensor::{Error, Result};

use super::train::REPORT;
use crate::arguments::{DataDirArg, DeviceArg, PartArg, positive};
use crate::help::examples;
use crate::output;
use crate::outputs;
use crate::register_command;

/// Write a report of a training run as one HTML file.
///
/// The report has the curves, the metrics of each class, the confusion matrix, the calibration, the images with the largest loss
/// and the most confident mistakes, the network, the configuration and the machine. It needs no other file and no network
/// connection. `train` writes RUN/report.html at its end; this command writes it again, also while the run is in progress, or for
/// another part of the data. Without the data set, the report has no predictions and says so.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog report runs/lenet-digits
  neocog report runs/resnet-flowers --part test --to flowers-test.html"))]
struct Args {
    /// Directory of the run.
    run: PathBuf,
    /// File to write [default: RUN/report.html].
    #[arg(long, value_name = "FILE.html")]
    to: Option<PathBuf>,
    /// Part of the data set to evaluate [default: the one that the best epoch was selected on].
    #[arg(long, value_enum, value_name = "PART")]
    part: Option<PartArg>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    workers: usize,
    #[command(flatten)]
    device: DeviceArg,
}

register_command!("report", 41, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    output::go_on_without_reader();
    if let Some(file) = &args.to {
        outputs::check([], [file.as_path()])?;
        let ending =
            file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        // A device or a pipe may have any name.
        let is_file = file.is_file() || !file.exists();
        if is_file && !["html", "htm"].contains(&ending.as_str()) {
            return Err(Error::invalid_argument(format!(
                "a report is an HTML page, but the name of {} does not end in .html",
                file.display()
            )));
        }
    }
    let run = Run::open(&args.run)?;
    for note in &run.notes {
        output::note(format_args!("warning: {note}"));
    }
    let data = run.last.config.load_data(&args.data_dir.data_dir);
    if let Ok(data) = &data {
        output::warnings(data);
    }
    let options =
        ReportOptions::new().device(args.device.device).workers(args.workers).part(args.part.map(Into::into));
    let report = report::render(&run, data.as_ref(), &options)?;
    if let Some(reason) = &report.missing {
        output::note(format_args!("warning: there are no predictions in the report: {reason}"));
    }
    let path = args.to.clone().unwrap_or_else(|| args.run.join(REPORT));
    report::write(&path, &report.html)?;
    if !run.is_finished() {
        output::note(format_args!("the run is not finished: {}", run.progress()));
    }
    output::line(format_args!("wrote {}", program::quoted_path(&path)))
}
