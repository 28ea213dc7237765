//! `fetch-data`: downloads data sets.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use neocog_base::text::count;
use neocog_data::catalog::{DEFAULT_ROOT, DatasetInfo};
use neocog_data::fetch::{Event, FetchOptions, TIMEOUT, fetch, manifest};
use neocog_tensor::{Error, Result};

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Download data sets.
///
/// Verifies SHA-256 checksums, resumes interrupted downloads, and skips files that are already present.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog fetch-data fashion-mnist
  neocog fetch-data all --dir /data
  neocog fetch-data mnist --from /mnt/usb
  neocog fetch-data mnist --from https://example.org/mnist"))]
struct Args {
    /// Data set, such as fashion-mnist, mnist or cifar-10; all: fashion-mnist and mnist.
    #[arg(default_value = "all")]
    name: String,
    /// Root directory of the data sets.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    dir: PathBuf,
    /// Directory or base URL to get the files from [default: the official sources].
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
    /// Seconds without a response, or with less than 1 KiB per second, after which a server counts as failed.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

register_command!("fetch-data", 10, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    output::go_on_without_reader();
    let fetchable = DatasetInfo::fetchable()?;
    let names: Vec<&str> = fetchable.iter().map(|known| known.name).collect();
    let selected = match args.name.as_str() {
        "all" => {
            let by_default = fetchable.iter().filter(|known| known.is_fetched_by_default);
            by_default.map(|known| known.name).collect()
        }
        name if names.contains(&name) || DatasetInfo::find(name).is_ok() => vec![name],
        name => {
            return Err(Error::not_found("data set to fetch", name, names.into_iter().chain(["all"])));
        }
    };
    for name in selected {
        let mut bar = FetchProgress { bar: None, failures: Vec::new() };
        let mut progress = |event: Event<'_>| bar.event(event);
        let options = FetchOptions::new(manifest(name)?, &args.dir)
            .from(args.from.as_deref())
            .timeout(Duration::from_secs(args.timeout))
            .progress(&mut progress);
        let fetched = fetch(options)?;
        output::line(format_args!(
            "{name}: {} fetched, {} already present, in {}",
            count(fetched.fetched, "file"),
            fetched.present,
            fetched.folder.display()
        ))?;
    }
    Ok(())
}

/// Reports the progress on standard error: a progress bar on a terminal, lines elsewhere.
struct FetchProgress {
    bar: Option<ProgressBar>,
    /// Sources that failed for the current file. The error of a file that no source provides lists them itself.
    failures: Vec<String>,
}

impl FetchProgress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Present { file } => self.message(format!("{file}: already present, checksum verified")),
            Event::Damaged { file, why } => self.message(format!("{file}: damaged ({why}), fetching again")),
            Event::Start { file, from, done, size } => {
                let resumed = if done > 0 { format!(", resuming at byte {done}") } else { String::new() };
                self.message(format!("{file}: {} from {from}{resumed}", count(size, "byte")));
                if std::io::stderr().is_terminal() {
                    let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                    let style =
                        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
                    self.bar = Some(ProgressBar::new(size).with_style(style).with_position(done));
                }
            }
            Event::Bytes { done, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                }
            }
            Event::Busy { file, from, status, wait } => self.message(format!(
                "{file}: {from} is busy ({status}), trying again in {:.1} s",
                wait.as_secs_f64()
            )),
            Event::Failed { file, from, why } => self.failures.push(format!("{file}: {from} failed: {why}")),
            Event::Done { file } => {
                for failure in std::mem::take(&mut self.failures) {
                    self.message(failure);
                }
                self.message(format!("{file}: done, checksum verified"));
            }
            _ => {}
        }
    }

    fn message(&mut self, text: String) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        output::note(format_args!("{text}"));
    }
}
