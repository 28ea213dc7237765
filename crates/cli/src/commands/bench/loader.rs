//! `bench loader`: reading and augmenting images.

use neocog_bench::loader::{Options, bench_loader};
use neocog_bench::python::Python;
use neocog_data::{DataOptions, DataSource};
use neocog_tensor::{Error, Result};

use super::display::number;
use crate::arguments::{pixels, positive};
use crate::help::examples;
use crate::output;

/// Benchmark the loading of images.
///
/// Measures the images per second that are read from a folder, decoded, augmented as in ImageNet's training (a random crop that is
/// resized, a flip, normalization) and put into batches, without a network.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog bench loader ./flowers
  neocog bench loader ./flowers --workers 2 --against torch"))]
pub struct LoaderArgs {
    /// Folder of images, or a packed file.
    #[arg(value_name = "DIR")]
    data: String,
    /// Number of worker threads, and of worker processes of PyTorch.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive)]
    workers: usize,
    /// Batch size.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    batch: usize,
    /// Height and width of the images in the batches.
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = pixels)]
    size: usize,
    /// Run interleaved with torchvision's ImageFolder and v2 transforms.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    against: Vec<Peer>,
    /// Number of interleaved rounds, of one epoch each.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Python interpreter with PyTorch and torchvision.
    #[arg(long, value_name = "COMMAND", default_value = "python3")]
    python: String,
    /// Print a JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// An implementation to compare with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Peer {
    /// torchvision, with Pillow.
    Torch,
}

/// Runs the command.
pub fn run(args: &LoaderArgs) -> Result<()> {
    let DataSource::Folder(path) = DataSource::find(&args.data)? else {
        return Err(Error::invalid_argument(format!("{} is not a folder of images", args.data)));
    };
    let python = args.against.first().map(|Peer::Torch| Python::new(&args.python));
    if python.is_some() && !path.is_dir() {
        return Err(Error::invalid_argument("torchvision reads folders, not packed files: give the folder"));
    }
    let split = DataSource::Folder(path.clone()).read("".as_ref(), &DataOptions::new())?;
    // The folder of the training part, for torchvision: a folder `train` is never a class.
    let train = path.join("train");
    let folder = if train.is_dir() { &train } else { &path };
    let options = Options::new().workers(args.workers).batch(args.batch).size(args.size).rounds(args.rounds);
    let timing = bench_loader(&split.train, folder, &options, python.as_ref())?;
    if args.json {
        return output::json(&timing);
    }
    let [ratio, min, max] = timing.ratio.map_or([None; 3], |ratio| ratio.map(Some));
    let row = [
        timing.images.to_string(),
        timing.workers.to_string(),
        number(Some(timing.images_per_s), 0),
        number(timing.baseline_images_per_s, 0),
        number(ratio, 2),
        number(min, 2),
        number(max, 2),
    ];
    let head = ["images", "workers", "images/s", "torchvision", "ratio", "min", "max"];
    output::line(output::table(head, [true; 7], vec![row]))
}
