//! `lesson`: lessons about convolutional networks.

use std::path::PathBuf;

use neocog_base::file::check_output_dir;
use neocog_lessons::{LessonOptions, Page, find, lessons};
use neocog_tensor::{Context as _, Result};

use crate::arguments::{DataDirArg, DeviceArg};
use crate::help::examples;
use crate::output;
use crate::register_command;

/// Run a lesson.
///
/// A lesson explains a topic, computes an example and checks the result. Without a name, lists the lessons.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog lesson
  neocog lesson edges --out images
  neocog lesson feature_maps --checkpoint runs/lenet-digits/best.ckpt --out images
  neocog lesson all --out images"))]
struct Args {
    /// Lesson, or all.
    name: Option<String>,
    /// Directory for images (PNG) [default: no images].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Checkpoint of a trained network for feature_maps [default: train one].
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    device: DeviceArg,
}

register_command!("lesson", 110, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let chosen = match args.name.as_deref() {
        None => {
            let rows =
                lessons().into_iter().map(|lesson| [lesson.name.to_string(), lesson.about.to_string()]);
            return output::line(output::table(["lesson", "topic"], [false, false], rows.collect()));
        }
        Some("all") => lessons(),
        Some(name) => vec![find(name)?],
    };
    args.out.as_deref().map_or(Ok(()), check_output_dir)?;
    for (i, lesson) in chosen.iter().enumerate() {
        if i > 0 {
            output::line("\n")?;
        }
        output::line(format_args!("{}: {}\n{}\n", lesson.name, lesson.about, "=".repeat(72)))?;
        let options = LessonOptions::new(args.device.device)
            .out(args.out.clone())
            .checkpoint(args.checkpoint.clone())
            .data_dir(&args.data_dir.data_dir);
        lesson.run(&mut Page::new(options, |text| output::line(text))).context(|| lesson.name)?;
    }
    Ok(())
}
