//! `fetch-data`: brings the data sets that are not compiled in.

use std::io::IsTerminal;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use neocog_data::catalog::{DEFAULT_ROOT, DatasetInfo};
use neocog_data::fetch::{Event, FetchOptions, fetch, manifest};
use neocog_tensor::{Error, Result};

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Fetches data sets, checks their SHA-256, and puts them into a folder.
///
/// A file takes its name only when it is whole. A download that broke goes on where it stopped; what is there and
/// right is not fetched again.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog fetch-data fashion-mnist
  neocog fetch-data all --dir /data
  neocog fetch-data mnist --from /mnt/usb
  neocog fetch-data mnist --from https://example.org/mnist"))]
struct Args {
    /// The data set: fashion-mnist, mnist, or all.
    #[arg(default_value = "all")]
    name: String,
    /// The folder that gets a folder for each data set.
    #[arg(long, default_value = DEFAULT_ROOT)]
    dir: PathBuf,
    /// Instead of the official sources: a folder that holds the files, or a base URL.
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
}

register_command!("fetch-data", 10, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let names: Vec<&str> = DatasetInfo::fetchable().map(|known| known.name).collect();
    let chosen = match args.name.as_str() {
        "all" => names,
        name if names.contains(&name) || DatasetInfo::find(name).is_ok() => vec![name],
        name => {
            return Err(Error::not_found("data set to fetch", name, names.into_iter().chain(["all"])));
        }
    };
    for name in chosen {
        let mut show = Show { bar: None };
        let mut progress = |event: Event<'_>| show.event(event);
        let options =
            FetchOptions::new(manifest(name)?, &args.dir).from(args.from.as_deref()).progress(&mut progress);
        let fetched = fetch(options)?;
        output::line(format_args!(
            "{name}: {} files fetched, {} were there already, in {}",
            fetched.fetched,
            fetched.present,
            fetched.folder.display()
        ))?;
    }
    Ok(())
}

/// Shows what happens on standard error: a bar on a terminal, lines elsewhere.
struct Show {
    bar: Option<ProgressBar>,
}

impl Show {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Present { file } => self.say(format!("{file}: there already, checksum right")),
            Event::Damaged { file, why } => self.say(format!("{file}: damaged ({why}), fetched again")),
            Event::Start { file, from, done, size } => {
                let resumed = if done > 0 { format!(", going on at byte {done}") } else { String::new() };
                self.say(format!("{file}: {size} bytes from {from}{resumed}"));
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
            Event::Failed { file, from, why } => self.say(format!("{file}: {from} failed: {why}")),
            Event::Done { file } => self.say(format!("{file}: done, checksum right")),
            _ => {}
        }
    }

    fn say(&mut self, text: String) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        output::note(format_args!("{text}"));
    }
}
