//! `spec`: a network as JSON.

use std::io::Write;
use std::path::PathBuf;

use neocog_base::file::replace;
use neocog_tensor::{Error, Result};

use super::network::InputArgs;
use crate::help::examples;
use crate::output;
use crate::outputs;
use crate::register_command;

/// Write a network as JSON, to edit and train with `train --spec`.
///
/// The object has the fields name, about, recipe (input, batch, epochs, learning_rate, optimizer) and network; all but
/// network are optional. `layers` lists the layers and their fields.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog spec lenet
  neocog spec resnet --input 3x64x64 --classes 100 --to my.json
  neocog train --spec my.json"))]
struct Args {
    /// Network; `summary` lists them.
    network: String,
    #[command(flatten)]
    size: InputArgs,
    /// Output file [default: standard output].
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

register_command!("spec", 80, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    outputs::check(None, args.to.as_deref())?;
    let model = neocog_models::find(&args.network)?;
    let text = args.size.file_of(&model)?.to_json()?;
    let Some(path) = &args.to else { return output::line(text) };
    replace(path, |file| writeln!(file, "{text}"))
        .map_err(|e| Error::io(format!("cannot write the network to {}", path.display()), e))?;
    output::line(format_args!("wrote {} to {}", model.name, path.display()))
}
