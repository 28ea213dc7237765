//! `spec`: a network as a file.

use std::io::Write;
use std::path::PathBuf;

use neocog_base::file::replace;
use neocog_tensor::{Error, Result};

use super::network::InputArgs;
use crate::help::examples;
use crate::output;
use crate::register_command;

/// Writes a registered network as JSON, with its recipe: to be read, edited, and trained with `train --spec`.
///
/// The file has the fields name, about, recipe (input, batch, epochs, learning_rate, optimizer) and network; all but the
/// network may be left out. `layers` lists the layers with their fields.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog spec lenet
  neocog spec resnet --input 3x64x64 --classes 100 --to my.json
  neocog train --spec my.json"))]
struct Args {
    /// The network; `summary` lists them.
    network: String,
    #[command(flatten)]
    size: InputArgs,
    /// The file to write, in place of standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

register_command!("spec", 80, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let model = neocog_models::find(&args.network)?;
    let text = args.size.file_of(&model)?.to_json()?;
    let Some(path) = &args.to else { return output::line(text) };
    replace(path, |file| writeln!(file, "{text}"))
        .map_err(|e| Error::io(format!("cannot write the network to {}", path.display()), e))?;
    output::line(format_args!("wrote {} to {}", model.name, path.display()))
}
