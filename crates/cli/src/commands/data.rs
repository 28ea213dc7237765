//! `data`: the data sets, what augmentation does to their pictures, and pictures as files.

use std::path::PathBuf;

use neocog_data::catalog::{DATASETS, DEFAULT_DATASET, DEFAULT_ROOT};
use neocog_data::{Dataset, DatasetInfo, Split};
use neocog_tensor::{ErrorKind, Result};
use serde::Serialize;

use crate::help::examples;
use crate::output::{self, thousands};
use crate::register_command;

mod export;
mod show;

/// Lists the data sets; with --show draws what augmentation does to pictures, with --export writes pictures as files.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog data
  neocog data --show --data fashion-mnist --out augmentation.png
  neocog data --export pictures --count 20 --data fashion-mnist"))]
struct Args {
    /// Only this data set. If absent: all in the list, digits for --show and --export.
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// The folder that holds a folder for each data set.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_ROOT)]
    data_dir: PathBuf,
    /// Draws a sheet: pictures of different classes, as they are and after each step that `train` has an option for.
    #[arg(long, conflicts_with = "export")]
    show: bool,
    /// The file of the sheet, PNG.
    #[arg(long, value_name = "FILE.png", default_value = "augmentation.png")]
    out: PathBuf,
    /// Decides which pictures are shown, and all chances.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Writes the first pictures to this folder as NUMBER-CLASS.png; `predict` tells from these names what is right.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// How many pictures. If absent: 8 for --show, 20 for --export.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// NetworkArgs pictures. If absent: train for --show, test for --export.
    #[arg(long, value_enum)]
    part: Option<SplitArg>,
    /// One line of JSON for each data set instead of the list.
    #[arg(long, conflicts_with_all = ["show", "export"])]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    Test,
    Train,
}

register_command!("data", 20, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let name = args.data.as_deref().unwrap_or(DEFAULT_DATASET);
    if args.show {
        let data = part_of(args, name, SplitArg::Train)?;
        let count = args.count.unwrap_or(8) as usize;
        return show::show(&data, name, count, args.seed, &args.out);
    }
    if let Some(folder) = &args.export {
        let data = part_of(args, name, SplitArg::Test)?;
        let count = args.count.unwrap_or(20) as usize;
        return export::export(&data, count, folder);
    }
    match &args.data {
        Some(name) => list(args, [DatasetInfo::find(name)?]),
        None => list(args, &DATASETS),
    }
}

fn part_of(args: &Args, name: &str, usual: SplitArg) -> Result<std::sync::Arc<Dataset>> {
    let Split { train, test, .. } = neocog_data::load(name, &args.data_dir)?;
    Ok(match args.part.unwrap_or(usual) {
        SplitArg::Train => train,
        SplitArg::Test => test,
    })
}

#[derive(Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    about: &'a str,
    place: String,
    #[serde(flatten)]
    content: Option<Content>,
    class_names: &'a [&'a str],
}

/// What is known of a data set that is there.
#[derive(Serialize)]
struct Content {
    shape: [usize; 3],
    train: usize,
    test: usize,
    mean: Vec<f64>,
    std: Vec<f64>,
}

fn list<'a>(args: &Args, sets: impl IntoIterator<Item = &'a DatasetInfo>) -> Result<()> {
    let mut rows = Vec::new();
    let mut names = Vec::new();
    for known in sets {
        let content = match known.load(&args.data_dir) {
            Ok(Split { train, test, .. }) => {
                let (mean, std) = train.mean_and_std();
                Some(Content { shape: train.shape(), train: train.len(), test: test.len(), mean, std })
            }
            // One that was not fetched is no mistake; one that is damaged is.
            Err(e) if e.kind() == ErrorKind::Io && !known.folder(&args.data_dir).exists() => None,
            Err(e) => return Err(e),
        };
        let place = match (&content, known.manifest()) {
            (_, None) => "compiled in".to_string(),
            (Some(_), Some(_)) => known.folder(&args.data_dir).display().to_string(),
            (None, Some(_)) => format!("not there: {}", known.fetch_command(&args.data_dir)),
        };
        if args.json {
            let DatasetInfo { name, about, class_names, .. } = *known;
            output::json(&JsonRow { name, about, place, content, class_names })?;
            continue;
        }
        let [images, tests, size, mean, std] = match &content {
            None => [const { String::new() }; 5],
            Some(Content { shape: [c, h, w], train, test, mean, std }) => {
                let each =
                    |values: &[f64]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
                let [train, test] = [*train as u64, *test as u64].map(thousands);
                [train, test, format!("{c}x{h}x{w}"), each(mean), each(std)]
            }
        };
        rows.push([known.name.to_string(), images, tests, size, mean, std, place]);
        names.push(format!("{}: {}\n  {}", known.name, known.about, known.class_names.join(", ")));
    }
    if args.json {
        return Ok(());
    }
    let head = ["data set", "train", "test", "size", "mean", "std", "where"];
    output::line(output::table(head, [false, true, true, true, true, true, false], rows))?;
    names.into_iter().try_for_each(|text| output::line(format_args!("\n{text}")))
}
