//! The report that a training leaves in its directory.

use std::fs;
use std::time::Duration;

use neocog_base::program;
use neocog_data::Split;
use neocog_insight::Run;
use neocog_insight::report::{self, ReportOptions};
use neocog_tensor::{Device, Result};
use neocog_train::CheckpointDir;

use crate::output;

/// Name of the file.
pub const REPORT: &str = "report.html";

/// How long the evaluation may take when the time of the run was over.
pub const STOPPED_LIMIT: Duration = Duration::from_secs(10);

/// How long the evaluation may take when a signal stopped the run: who stops it does not want to wait.
pub const SIGNAL_LIMIT: Duration = Duration::from_secs(1);

/// The largest checkpoint that is read for a report after a signal.
const MAX_BYTES_AFTER_SIGNAL: u64 = 256 << 20;

/// Writes the report of the run in `folder`. A failure is a warning: the run is saved all the same.
pub fn write(
    folder: &CheckpointDir,
    data: &Split,
    device: Device,
    workers: usize,
    time_limit: Option<Duration>,
) {
    let options = ReportOptions::new().device(device).workers(workers).time_limit(time_limit);
    let path = folder.path().join(REPORT);
    let size = fs::metadata(folder.path().join(CheckpointDir::LAST)).map_or(0, |metadata| metadata.len());
    if time_limit == Some(SIGNAL_LIMIT) && size > MAX_BYTES_AFTER_SIGNAL {
        let command = program::command(format_args!("report {}", program::quoted_path(folder.path())));
        return output::note(format_args!("no report was written, which would take a while; {command} does"));
    }
    let written = || -> Result<()> {
        let report = report::render(&Run::open(folder.path())?, Ok(data), &options)?;
        report::write(&path, &report.html)
    };
    match written() {
        Ok(()) => output::note(format_args!("report: {}", path.display())),
        Err(e) => output::note(format_args!("warning: there is no new report {}: {e}", path.display())),
    }
}
