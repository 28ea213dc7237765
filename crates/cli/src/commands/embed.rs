//! `embed`: the images of a data set as vectors.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neocog_base::file::{check_output_dir, replace};
use neocog_base::text::count;
use neocog_data::{Dataset, Loader, LoaderOptions};
use neocog_insight::features::{Embeddings, embed};
use neocog_tensor::{Context as _, Error, Result};
use neocog_train::check_channels;
use serde::Serialize;

use super::network::WeightsArgs;
use super::onnx_network::is_onnx;
use super::part_selection::PartSelection;
use crate::arguments::{DataDirArg, DeviceArg, PartArg, positive};
use crate::array;
use crate::help::examples;
use crate::output;
use crate::outputs;
use crate::register_command;

/// Write the images of a data set as vectors: the output of a layer.
///
/// Writes a NumPy array [n, d] of float32, in the order of the data set. Without --layer, the vectors are the input of the last layer
/// with parameters, which computes the classes. The layers of an ONNX model are its nodes. With --projector, also writes files for TensorBoard's projector.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog embed runs/lenet-digits/best.ckpt digits --to e.npy
  neocog embed runs/resnet-flowers/best.ckpt ./flowers --part test --to e.npy --projector logs/flowers
  neocog embed runs/lenet-digits/best.ckpt digits --layer conv2 --to e.npy"))]
struct Args {
    /// Checkpoint and data set, by its name or folder; with --weights, the data set only.
    #[arg(required = true, value_name = "CHECKPOINT|DATA", num_args = 1..=2)]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// File to write.
    #[arg(long, value_name = "FILE.npy")]
    to: PathBuf,
    /// Also write the classes [n] as an array of int64.
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Layer, by its dotted name; `summary` lists them [default: the input of the last layer with parameters].
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Directory for TensorBoard's projector.
    #[arg(long, value_name = "DIR")]
    projector: Option<PathBuf>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Part of the data set [default: test, or validation if there is no test part; all images of a folder without parts].
    #[arg(long, value_enum, value_name = "PART")]
    part: Option<PartArg>,
    /// Use only the first N images [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_broken: bool,
    /// Batch size; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    batch: usize,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    workers: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    network: &'a str,
    data: &'a str,
    part: &'a str,
    layer: Option<&'a str>,
    images: usize,
    width: usize,
    file: String,
}

register_command!("embed", 53, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let (file, data) = args.weights.checkpoint_and_input(&args.inputs, "data set");
    let written = [Some(&args.to), args.labels.as_ref()].into_iter().flatten();
    outputs::check(file, written.map(PathBuf::as_path))?;
    args.projector.as_deref().map_or(Ok(()), check_output_dir)?;
    output::go_on_without_reader();
    let data = data.to_string_lossy();
    let device = &args.device.device;
    let trained = args.weights.open(file, None, device)?;
    let selection = PartSelection {
        data: &data,
        root: &args.data_dir.data_dir,
        part: args.part,
        limit: args.limit,
        skip_broken: args.skip_broken,
    };
    let (part, dataset) = selection.open(trained.checkpoint.as_ref().map(|checkpoint| &checkpoint.config))?;
    let [c, h, w] = trained.input;
    check_channels(trained.input, &*dataset)?;
    let options = LoaderOptions::new()
        .batch_size(trained.batch_size(args.batch))
        .image_size((h, w))
        .channels(Some(c))
        .augment(trained.transforms().clone().into_augment(0))
        .workers(args.workers);
    let loader = Loader::new(Arc::clone(&dataset), options)?;
    let found =
        embed(&*trained.network, &loader, args.layer.as_deref(), device).context(|| trained.name.as_str())?;
    for (_, message) in loader.unreadable() {
        output::note(format_args!("warning: left out: {message}"));
    }
    if args.layer.is_none() && file.is_some_and(is_onnx) {
        output::note(format_args!("the vectors are the input of the node {}", found.layer));
    }
    let images = found.labels.len();
    if let Some(dir) = &args.projector {
        write_projector(dir, &found, &*dataset)?;
    }
    if let Some(labels) = &args.labels {
        array::write(labels, &[images], found.labels.iter().map(|&label| i64::from(label)).collect())?;
    }
    array::write(&args.to, &[images, found.width], found.values)?;
    let file = args.to.display().to_string();
    if args.json {
        return output::json(&JsonRow {
            network: &trained.name,
            data: &data,
            part,
            layer: args.layer.as_deref(),
            images,
            width: found.width,
            file,
        });
    }
    output::line(format_args!(
        "wrote {} of {data} ({part}) as [{images}, {}] to {file}",
        count(images, "image"),
        found.width
    ))
}

/// Writes the vectors, the classes and a configuration as TensorBoard's projector reads them.
fn write_projector(dir: &Path, found: &Embeddings, data: &dyn Dataset) -> Result<()> {
    let mut vectors = String::new();
    for row in found.values.chunks_exact(found.width.max(1)) {
        let row: Vec<String> = row.iter().map(f32::to_string).collect();
        vectors += &row.join("\t");
        vectors.push('\n');
    }
    let mut metadata = "class\timage\n".to_string();
    for (&label, index) in found.labels.iter().zip(&found.indices) {
        let name = data.class_names().get(label as usize).map_or("", String::as_str);
        let _ = writeln!(metadata, "{}\t{index}", name.replace(['\t', '\n', '\r'], " "));
    }
    let config = "embeddings {\n  tensor_name: \"images\"\n  tensor_path: \"embeddings.tsv\"\n  metadata_path: \"metadata.tsv\"\n}\n";
    fs::create_dir_all(dir)
        .map_err(|e| Error::io(format!("cannot create the directory {}", dir.display()), e))?;
    for (name, text) in [
        ("embeddings.tsv", vectors.as_str()),
        ("metadata.tsv", &metadata),
        ("projector_config.pbtxt", config),
    ] {
        let path = dir.join(name);
        replace(&path, |file| file.write_all(text.as_bytes()))
            .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
    }
    Ok(())
}
