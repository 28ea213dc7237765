//! `lesson`: what there is to know about convolutional networks, to be read.

use std::path::PathBuf;

use neocog_data::catalog::DEFAULT_ROOT;
use neocog_lessons::{LessonOptions, Page, find, lessons};
use neocog_tensor::{Context as _, Device, Result};

use crate::help::examples;
use crate::output;
use crate::register_command;

/// Shows one thing about convolutional networks: explains it, computes it, and checks that it is so. Lists the lessons if none is
/// named; each is a short program in lessons/src.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog lesson
  neocog lesson edges --out pictures
  neocog lesson feature_maps --checkpoint runs/lenet-digits/best.ckpt --out pictures
  neocog lesson all --out pictures"))]
struct Args {
    /// The lesson, or all.
    name: Option<String>,
    /// The folder for pictures (PNG); none are drawn without.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// For feature_maps: a trained network, instead of one that is trained on the spot.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The folder that holds a folder for each data set, for a checkpoint of another than the digits.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    data_dir: PathBuf,
    /// Where to compute: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference (double
    /// precision, plain loops, slow).
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
}

register_command!("lesson", 110, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let chosen = match args.name.as_deref() {
        None => {
            let rows =
                lessons().into_iter().map(|lesson| [lesson.name.to_string(), lesson.about.to_string()]);
            return output::line(output::table(["lesson", "what it shows"], [false, false], rows.collect()));
        }
        Some("all") => lessons(),
        Some(name) => vec![find(name)?],
    };
    for (i, lesson) in chosen.iter().enumerate() {
        if i > 0 {
            output::line("\n")?;
        }
        output::line(format_args!("{}: {}\n{}\n", lesson.name, lesson.about, "=".repeat(72)))?;
        let options = LessonOptions::new(args.device.clone())
            .out(args.out.clone())
            .checkpoint(args.checkpoint.clone())
            .data_dir(&args.data_dir);
        lesson.run(&mut Page::new(options, |text| output::line(text))).context(|| lesson.name)?;
    }
    Ok(())
}
