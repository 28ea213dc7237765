//! `eval`: loss and accuracy of a trained network.

use std::io::Write;
use std::path::{Path, PathBuf};

use neocog_base::text::count;
use neocog_data::{Dataset, Loader, LoaderOptions};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Error, ErrorKind, Result};
use neocog_train::{MemoryNeed, Predictions, check_fits, evaluate, evaluate_images};
use serde::Serialize;

use super::network::WeightsArgs;
use super::onnx_network::is_onnx;
use super::part_selection::{PartSelection, elsewhere};
use super::trained_network::TrainedNetwork;
use crate::arguments::{DataDirArg, DeviceArg, PartArg, positive};
use crate::csv;
use crate::help::{examples, usages};
use crate::output;
use crate::outputs;
use crate::register_command;

/// Evaluate a trained network on a data set.
///
/// Prints the mean loss and the accuracy.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "eval [OPTIONS] <CHECKPOINT>",
        "eval [OPTIONS] <MODEL.onnx> --data <NAME>",
        "eval [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> --data <NAME>",
    ]),
    after_help = examples("Examples:
  neocog eval runs/lenet-digits/best.ckpt
  neocog eval runs/lenet-fashion-mnist/last.ckpt --part train --json
  neocog eval runs/lenet-digits/best.ckpt --limit 100
  neocog eval runs/lenet-digits/best.ckpt --predictions predictions.csv
  neocog eval net.onnx --data fashion-mnist
  neocog eval --network resnet --weights resnet.safetensors --data fashion-mnist"))]
struct Args {
    /// Checkpoint, or ONNX model.
    #[arg(
        value_name = "CHECKPOINT",
        required_unless_present = "weights",
        conflicts_with_all = WeightsArgs::IN_PLACE_OF_CHECKPOINT
    )]
    file: Option<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Data set, or folder of images [default: the one the checkpoint was trained on].
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Part of the data set [default: test, or validation if there is no test part; all images of a folder without parts].
    #[arg(long, value_enum, value_name = "PART")]
    part: Option<PartArg>,
    /// Use only the first N images of the split [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Batch size; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive)]
    batch: usize,
    /// Number of data loader threads; affects speed only.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_broken: bool,
    /// Write a table of all images to FILE: index, file, label, prediction, and the probability of each class.
    #[arg(long, value_name = "FILE.csv")]
    predictions: Option<PathBuf>,
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
    images: u64,
    loss: f64,
    acc: f64,
    images_per_s: f64,
}

register_command!("eval", 40, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let has_no_data = args.file.as_deref().is_none_or(is_onnx);
    if has_no_data && args.data.is_none() {
        output::usage_error("no data set given; use --data NAME");
    }
    if let Some(file) = &args.predictions {
        outputs::check(args.file.as_deref(), [file.as_path()])?;
        csv::check_directory(file)?;
        output::go_on_without_reader();
    }
    let device = &args.device.device;
    let trained = args.weights.open(args.file.as_deref(), args.data.as_deref(), device)?;
    let config = trained.checkpoint.as_ref().map(|checkpoint| &checkpoint.config);
    let data = match (&args.data, config) {
        (Some(data), _) => data.as_str(),
        (None, Some(config)) => config.data.as_str(),
        (None, None) => return Err(Error::invalid_argument("no data set given; use --data NAME")),
    };
    let selection = PartSelection {
        data,
        root: &args.data_dir.data_dir,
        part: args.part,
        limit: args.limit,
        skip_broken: args.skip_broken,
    };
    let (part, dataset) = selection.open(config).map_err(|e| match (e.kind(), &args.data) {
        (ErrorKind::NotFound, None) => e.context(elsewhere(data)),
        _ => e,
    })?;
    let [c, h, w] = trained.input;
    check_same_classes(&trained, &*dataset)?;
    check_fits(&*trained.network, trained.input, &*dataset).context(|| trained.name.as_str())?;
    let augment = trained.transforms().clone().into_augment(0);
    let batch = trained.batch_size(args.batch);
    let options =
        LoaderOptions::new().batch_size(batch).image_size((h, w)).channels(Some(c)).augment(augment);
    let predictor = Predictor::new(trained.network);
    let loader = Loader::new(dataset, options.workers(args.workers))?;
    let shape = [batch.min(loader.dataset().len()), c, h, w];
    output::memory_warning(&MemoryNeed::of_inference(&predictor, shape, args.workers, device)?);
    output::layer_by_layer(predictor.reason(&shape.into(), device)?);
    let result = match &args.predictions {
        None => evaluate(&predictor, &loader, device)?,
        Some(file) => {
            let all = evaluate_images(&predictor, &loader, device, &|| false)?;
            let (result, predictions) = all.ok_or_else(|| {
                Error::new(ErrorKind::Internal, "the evaluation stopped without being asked to")
            })?;
            write_predictions(file, &predictions, &**loader.dataset(), &trained.class_names)?;
            output::note(format_args!(
                "wrote {} to {}",
                count(predictions.len(), "prediction"),
                file.display()
            ));
            result
        }
    };
    for (_, message) in loader.unreadable() {
        output::note(format_args!("warning: left out: {message}"));
    }
    if args.json {
        return output::json(&JsonRow {
            network: &trained.name,
            data,
            part,
            images: result.images,
            loss: result.loss,
            acc: result.accuracy,
            images_per_s: result.images_per_s,
        });
    }
    let epochs = trained
        .checkpoint
        .as_ref()
        .map_or(String::new(), |checkpoint| format!(" after {}", count(checkpoint.position.epoch, "epoch")));
    output::line(format_args!(
        "{}{epochs} on {} of {data} ({part}): loss {:.4}, accuracy {:.4}, {:.0} images/s",
        trained.name,
        count(result.images, "image"),
        result.loss,
        result.accuracy,
        result.images_per_s
    ))
}

/// Writes a line for each image: its index, its file if it has one, number and name of its class and of the predicted one, and
/// the probability of each class.
fn write_predictions(
    path: &Path,
    predictions: &Predictions,
    data: &dyn Dataset,
    class_names: &[String],
) -> Result<()> {
    let names = if class_names.is_empty() { data.class_names() } else { class_names };
    let name = |class: usize| names.get(class).map_or_else(|| format!("class {class}"), csv::field);
    let mut header = "index,file,label,label_name,prediction,prediction_name".to_string();
    (0..predictions.classes()).for_each(|class| header += &format!(",p{class}"));
    csv::write(path, &header, |out| {
        for i in 0..predictions.len() {
            let (index, label, predicted) =
                (predictions.index(i), predictions.label(i), predictions.predicted(i));
            let file = data.file(index).map_or(String::new(), |(path, _)| csv::field(path.display()));
            write!(out, "{index},{file},{label},{},{predicted},{}", name(label), name(predicted))?;
            predictions.probabilities(i).iter().try_for_each(|p| write!(out, ",{p}"))?;
            writeln!(out)?;
        }
        Ok(())
    })
}

/// Checks that the classes of a folder are those that the network was trained on.
fn check_same_classes(trained: &TrainedNetwork, data: &dyn Dataset) -> Result<()> {
    let (names, found) = (&trained.class_names, data.class_names());
    if !data.is_on_disk() || names.is_empty() || names == found {
        return Ok(());
    }
    let differing = names.iter().zip(found).position(|(a, b)| a != b).unwrap_or(names.len().min(found.len()));
    let name = |names: &[String]| names.get(differing).cloned().unwrap_or_else(|| "none".into());
    Err(Error::new(
        ErrorKind::Mismatch,
        format!(
            "the {} classes of {} are not the {} classes of {}: class {differing} is {} there and {} here",
            found.len(),
            data.name(),
            names.len(),
            trained.name,
            name(names),
            name(found)
        ),
    ))
}
