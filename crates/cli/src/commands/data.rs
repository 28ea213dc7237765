//! `data`: the data sets, a contact sheet of augmentations, export of images, and packed files of folders.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use neocog_base::file::check_output_dir;
use neocog_base::text::count;
use neocog_data::catalog::{DEFAULT_DATASET, datasets};
use neocog_data::dataset::mean_and_std;
use neocog_data::{DataOptions, DataSource, Dataset, DatasetInfo, Part, Split};
use neocog_tensor::{ErrorKind, Result};
use serde::Serialize;

use crate::arguments::DataDirArg;
use crate::help::examples;
use crate::output::{self, thousands};
use crate::outputs;
use crate::register_command;

mod export;
mod pack;
mod show;

/// List data sets, draw augmentations, export images, or pack a folder of images.
///
/// Without --show, --export and --pack, lists the data sets with their sizes, classes, and mean and standard deviation per channel.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog data
  neocog data --show --data fashion-mnist --out augmentation.png
  neocog data --export images --count 20 --data fashion-mnist
  neocog data --pack flowers.pack --data ./flowers
  neocog train resnet --data flowers.pack"))]
struct Args {
    /// Data set, or a folder of images [default: all; digits for --show and --export].
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Draw a contact sheet: images of different classes, original and after each augmentation of `train`.
    #[arg(long, conflicts_with_all = ["export", "pack"])]
    show: bool,
    /// Output file of --show.
    #[arg(long, value_name = "FILE.png", default_value = "augmentation.png")]
    out: PathBuf,
    /// Random seed of --show: selects the images and the random transforms.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Write the first images to DIR as NUMBER-CLASS.png; `predict` reads the class from the name.
    #[arg(long, value_name = "DIR", conflicts_with = "pack")]
    export: Option<PathBuf>,
    /// Write all images of the folder --data to one file, as they are: `--data FILE` then reads it wherever it reads a folder, with
    /// the same results, faster where files are small or far away. The file is mapped to memory: do not change it while it is used.
    #[arg(long, value_name = "FILE", requires = "data")]
    pack: Option<PathBuf>,
    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_broken: bool,
    /// Number of images [default: 8 for --show, 20 for --export].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Split of the data set [default: train for --show, test for --export].
    #[arg(long, value_enum, value_name = "SPLIT")]
    part: Option<SplitArg>,
    /// Print one JSON object per data set.
    #[arg(long, conflicts_with_all = ["show", "export", "pack"])]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SplitArg {
    Test,
    Train,
}

register_command!("data", 20, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<ExitCode> {
    let name = args.data.as_deref().unwrap_or(DEFAULT_DATASET);
    if args.show {
        outputs::check(None, [args.out.as_path()])?;
        output::image_format(&args.out);
        let data = split(args, name, SplitArg::Train)?;
        let count = args.count.unwrap_or(8) as usize;
        show::show(&*data, name, count, args.seed, &args.out)?;
    } else if let Some(folder) = &args.export {
        check_output_dir(folder)?;
        let data = split(args, name, SplitArg::Test)?;
        let count = args.count.unwrap_or(20) as usize;
        return export::export(&*data, count, folder);
    } else if let Some(file) = &args.pack {
        pack::pack(name, file, args.skip_broken)?;
    } else {
        print(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the data sets, or the one that is asked for.
fn print(args: &Args) -> Result<()> {
    let root = &args.data_dir.data_dir;
    let sets = match &args.data {
        Some(name) => match DataSource::find(name)? {
            DataSource::Registered(info) => vec![info],
            other => return print_folder(args, name, &other),
        },
        None => datasets()?,
    };
    if args.json { print_json(&sets, root) } else { print_table(&sets, root) }
}

fn split(args: &Args, name: &str, default: SplitArg) -> Result<Arc<dyn Dataset>> {
    let options = DataOptions::new().skip_broken(args.skip_broken);
    let loaded = DataSource::find(name)?.read(&args.data_dir.data_dir, &options)?;
    output::warnings(&loaded);
    let part = match (args.part, default) {
        (Some(SplitArg::Train), _) | (None, SplitArg::Train) => Part::Train,
        // A folder without parts.
        (None, SplitArg::Test) if loaded.test.is_none() => Part::Train,
        _ => Part::Test,
    };
    loaded.part(part).cloned()
}

/// A folder of images, or a packed file.
#[derive(Serialize)]
struct JsonFolder<'a> {
    name: &'a str,
    train: usize,
    #[serde(rename = "val")]
    validation: Option<usize>,
    test: Option<usize>,
    channels: usize,
    class_names: &'a [String],
}

/// Prints the parts and classes of a folder of images, or of a packed file.
fn print_folder(args: &Args, name: &str, source: &DataSource) -> Result<()> {
    let split = source.read(&args.data_dir.data_dir, &DataOptions::new().skip_broken(args.skip_broken))?;
    output::warnings(&split);
    let length = |part: &Option<Arc<dyn Dataset>>| part.as_ref().map(|part| part.len());
    let row = JsonFolder {
        name,
        train: split.train.len(),
        validation: length(&split.validation),
        test: length(&split.test),
        channels: split.train.channels(),
        class_names: split.train.class_names(),
    };
    if args.json {
        return output::json(&row);
    }
    let number = |count: Option<usize>| count.map_or("-".to_string(), |count| thousands(count as u64));
    let cells = [name.to_string(), number(Some(row.train)), number(row.validation), number(row.test)];
    let head = ["folder", "train", "val", "test"];
    output::line(output::table(head, [false, true, true, true], vec![cells]))?;
    let colors = if row.channels == 1 { "grayscale" } else { "color" };
    output::line(format_args!(
        "\n{colors} images in {}:\n  {}",
        count(row.class_names.len(), "class"),
        row.class_names.join(", ")
    ))
}

#[derive(Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    about: &'a str,
    #[serde(rename = "place")]
    location: String,
    #[serde(flatten)]
    properties: Option<Properties>,
    class_names: &'a [&'a str],
}

/// Properties of a data set that is available.
#[derive(Serialize)]
struct Properties {
    shape: [usize; 3],
    train: usize,
    test: usize,
    mean: Vec<f64>,
    std: Vec<f64>,
}

/// Loads a data set for its properties; `None` if it is not fetched yet.
fn properties(known: &DatasetInfo, root: &Path) -> Result<Option<Properties>> {
    match known.load(root) {
        Ok(loaded) => {
            output::warnings(&loaded);
            let Split { train, test, .. } = loaded;
            let (mean, std) = mean_and_std(&*train)?;
            let (h, w) = train.size().unwrap_or((0, 0));
            let shape = [train.channels(), h, w];
            let (train, test) = (train.len(), test.map_or(0, |test| test.len()));
            Ok(Some(Properties { shape, train, test, mean, std }))
        }
        // A download that failed leaves an empty directory.
        Err(e) if e.kind() == ErrorKind::Io && is_missing_or_empty(&known.folder(root)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_missing_or_empty(directory: &Path) -> bool {
    directory.read_dir().map_or(!directory.exists(), |mut entries| entries.next().is_none())
}

fn print_json(sets: &[&DatasetInfo], root: &Path) -> Result<()> {
    for known in sets {
        let properties = properties(known, root)?;
        let location = match (&properties, known.manifest) {
            (_, None) => "compiled in".to_string(),
            (Some(_), Some(_)) => known.folder(root).display().to_string(),
            (None, Some(_)) => format!("not there: {}", known.fetch_command(root)),
        };
        let DatasetInfo { name, about, class_names, .. } = **known;
        output::json(&JsonRow { name, about, location, properties, class_names })?;
    }
    Ok(())
}

fn print_table(sets: &[&DatasetInfo], root: &Path) -> Result<()> {
    let mut rows = Vec::new();
    for known in sets {
        let properties = properties(known, root)?;
        let location = match (&properties, known.manifest) {
            (_, None) => "embedded".to_string(),
            (Some(_), Some(_)) => known.folder(root).display().to_string(),
            (None, Some(_)) => format!("not fetched; run: {}", known.fetch_command(root)),
        };
        let [train, test, size, mean, std] = properties.map_or([const { String::new() }; 5], |properties| {
            let Properties { shape: [c, h, w], train, test, mean, std } = properties;
            let list = |values: Vec<f64>| {
                values.into_iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ")
            };
            let [train, test] = [train as u64, test as u64].map(thousands);
            [train, test, format!("{c}x{h}x{w}"), list(mean), list(std)]
        });
        rows.push([known.name.to_string(), train, test, size, mean, std, location]);
    }
    let head = ["data set", "train", "test", "size", "mean", "std", "location"];
    output::line(output::table(head, [false, true, true, true, true, true, false], rows))?;
    sets.iter().try_for_each(|known| {
        let classes = known.class_names.join(", ");
        output::line(format_args!("\n{}: {}\n  {classes}", known.name, known.about))
    })
}
