//! `predict`: classification of image files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use neocog_base::file::{read_regular, text_of};
use neocog_base::text::count;
use neocog_data::resize::ResizeCache;
use neocog_data::{Inversion, Preprocessed, folder};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Error, ErrorKind, Result, Tensor};
use neocog_train::{MemoryNeed, Prediction, predict};
use neocog_viz::{CaptionStyle, ContactSheet, Image, Thumbnail, save};
use rayon::prelude::*;
use serde::Serialize;

use super::network::WeightsArgs;
use super::onnx_network::is_onnx;
use super::trained_network::TrainedNetwork;
use crate::arguments::{DeviceArg, positive};
use crate::csv;
use crate::help::{examples, usages};
use crate::image_file::class_in_name;
use crate::output;
use crate::outputs;
use crate::register_command;

/// Maximum size of a list of images.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// Most images on a contact sheet.
const MAX_DRAWN: usize = 500;

/// Classify images with a trained network.
///
/// Prints the most likely classes and their probabilities. Images are JPEG, PNG, WebP, BMP, GIF or TIFF files, folders of them,
/// and lists of paths in .txt files. They are prepared as in training: converted to grayscale or RGB, turned as their EXIF data
/// say, and resized. The data sets of handwriting and clothing show bright objects on a dark background: for networks that
/// were trained on them, white is put behind transparent pixels, and images with a bright border are inverted; see --invert.
/// A file that cannot be classified is reported, and the others are classified; the exit code is then 1.
///
/// If a file name ends with - and a class, as written by `data --export`, the prediction is compared with that class.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "predict [OPTIONS] <CHECKPOINT|MODEL.onnx> <IMAGE>...",
        "predict [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> <IMAGE>...",
    ]),
    after_help = examples("Examples:
  neocog predict runs/lenet-digits/best.ckpt seven.png
  neocog predict runs/lenet-fashion-mnist/best.ckpt a.jpg b.jpg --top 1 --json
  neocog predict --network resnet --weights resnet.safetensors --data fashion-mnist a.jpg
  neocog predict runs/resnet-flowers/best.ckpt holiday/ --csv predictions.csv
  neocog predict net.onnx a.jpg --normalize 0.485,0.456,0.406/0.229,0.224,0.225
  neocog data --export images --count 20 --data fashion-mnist
  neocog predict runs/lenet-fashion-mnist/best.ckpt images/*.png --invert no --picture predictions.png"))]
struct Args {
    /// Checkpoint or ONNX model, and images: files, folders and .txt lists; with --weights, images only.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Data set that names the classes, with --weights or an ONNX model.
    #[arg(long, value_name = "NAME")]
    data: Option<String>,
    /// Number of classes to print.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    top: usize,
    /// Invert intensities; auto: if the border is bright [default: auto for networks trained on bright objects on a dark
    /// background, or with --network on unknown grayscale images; else no].
    #[arg(long, value_enum, value_name = "WHEN")]
    invert: Option<Invert>,
    /// Number of images that are classified at once; affects speed, memory and the last digits.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    batch: usize,
    /// Write a table of all images to FILE, with the error of those that cannot be classified.
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Draw the preprocessed images with their predicted classes.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print one JSON object per image.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Invert {
    Auto,
    Yes,
    No,
}

#[derive(Serialize)]
struct JsonRow {
    file: String,
    class: String,
    probability: f64,
    inverted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<String>,
    top: Vec<(String, f64)>,
}

register_command!("predict", 50, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<ExitCode> {
    let (file, paths) = match args.files.split_first() {
        Some((file, paths)) if !args.weights.is_given() => (Some(file.as_path()), paths),
        _ => (None, args.files.as_slice()),
    };
    if paths.is_empty() {
        output::usage_error("no images given; list their files after the checkpoint");
    }
    if let Some(sheet) = &args.picture {
        output::image_format(sheet);
    }
    let written: Vec<&Path> =
        [&args.picture, &args.csv].into_iter().flatten().map(PathBuf::as_path).collect();
    if !written.is_empty() {
        output::go_on_without_reader();
    }
    outputs::check(args.files.iter().map(PathBuf::as_path), written)?;
    args.csv.as_deref().map_or(Ok(()), csv::check_directory)?;
    if args.data.is_some() && file.is_some_and(|file| !is_onnx(file)) {
        output::usage_error("a checkpoint names its classes; use --data with --weights or an ONNX model");
    }
    let opened = args.weights.open(file, args.data.as_deref(), &args.device.device);
    let mut trained = opened.map_err(|e| match e.kind() {
        ErrorKind::Format if file.is_some() => Error::format(format!(
            "{e}; the first file must be a checkpoint or an ONNX model, the others are images"
        )),
        _ => e,
    })?;
    match args.invert {
        None => {}
        Some(Invert::Auto) => trained.preprocessing.inversion = Inversion::Auto,
        Some(Invert::Yes) => trained.preprocessing.inversion = Inversion::Always,
        Some(Invert::No) => trained.preprocessing.inversion = Inversion::Never,
    }
    let predictor = Predictor::new(trained.network.clone());
    let paths = expand(paths)?;
    let [c, h, w] = trained.input;
    let size = trained.batch_size(args.batch);
    let batch = [size.min(paths.len()), c, h, w];
    output::memory_warning(&MemoryNeed::of_inference(&predictor, batch, 0, &args.device.device)?);
    output::layer_by_layer(predictor.reason(&batch.into(), &args.device.device)?);
    let (mut drawn, mut table, mut failed) = (Vec::new(), Vec::new(), 0);
    for paths in paths.chunks(size) {
        for (path, result) in paths.iter().zip(classify(args, &trained, &predictor, paths)) {
            if args.csv.is_some() {
                table.push(csv_line(&trained, path, &result));
            }
            match result {
                Ok(result) => {
                    print(args, &trained, path, &result)?;
                    if args.picture.is_some() && drawn.len() < MAX_DRAWN {
                        drawn.push(result);
                    }
                }
                // The other images are classified all the same.
                Err(e) => {
                    failed += 1;
                    output::note(format_args!("error: {e}"));
                }
            }
        }
    }
    if let Some(file) = args.picture.as_ref().filter(|_| !drawn.is_empty()) {
        save(&sheet(&trained, &drawn)?.draw()?, file)?;
    }
    if let Some(file) = &args.csv {
        csv::write(file, "file,class,probability,error", |out| {
            table.iter().try_for_each(|line| writeln!(out, "{line}"))
        })?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The image files that are meant: those in folders, and those that lists name.
///
/// # Errors
/// When a folder or a list cannot be read, or there are no images.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(folder::image_files(path)?);
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt")) {
            let cannot_read = |e| Error::io(format!("cannot read the list {}", path.display()), e);
            let text = read_regular(path, MAX_LIST_BYTES).and_then(text_of).map_err(cannot_read)?;
            files.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(PathBuf::from));
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Err(Error::invalid_argument("there are no images in the folders and lists"));
    }
    Ok(files)
}

/// Classifies the images at `paths` in one batch; the images are decoded by all threads.
fn classify(
    args: &Args,
    trained: &TrainedNetwork,
    predictor: &Predictor,
    paths: &[PathBuf],
) -> Vec<Result<Classified>> {
    let read = |path: &PathBuf| trained.preprocessing.read(path, &mut ResizeCache::default());
    let images: Vec<Result<Preprocessed>> = paths.par_iter().map(read).collect();
    let good: Vec<&Preprocessed> = images.iter().flatten().collect();
    let mut predictions = predict_all(args, trained, predictor, &good).into_iter();
    images
        .into_iter()
        .zip(paths)
        .map(|(image, path)| {
            let image = image?;
            let prediction =
                predictions.next().unwrap_or_else(|| Err(Error::invalid_argument("no prediction")));
            let prediction = prediction.context(|| path.display().to_string())?;
            let truth = class_in_name(path, &trained.class_names);
            Ok(Classified { pixels: image.shown, prediction, truth, inverted: image.inverted })
        })
        .collect()
}

/// Predicts the classes of images in one batch, or one by one if one of them has no finite prediction.
fn predict_all(
    args: &Args,
    trained: &TrainedNetwork,
    predictor: &Predictor,
    images: &[&Preprocessed],
) -> Vec<Result<Prediction>> {
    if images.is_empty() {
        return Vec::new();
    }
    let pixels: Vec<f32> = images.iter().flat_map(|image| image.pixels.iter().copied()).collect();
    let [c, h, w] = trained.input;
    let batch = Tensor::from_f32([images.len(), c, h, w], &pixels, &args.device.device);
    match batch.and_then(|batch| predict(predictor, &batch)) {
        Ok(predictions) => predictions.into_iter().map(Ok).collect(),
        Err(e) if e.kind() == ErrorKind::Diverged && images.len() > 1 => {
            images.chunks(1).flat_map(|image| predict_all(args, trained, predictor, image)).collect()
        }
        Err(e) => {
            let (kind, text) = (e.kind(), e.to_string());
            images.iter().map(|_| Err(Error::new(kind, text.clone()))).collect()
        }
    }
}

/// A line of the table: file, class, probability, error.
fn csv_line(trained: &TrainedNetwork, path: &Path, result: &Result<Classified>) -> String {
    let file = csv::field(path.display());
    match result {
        Ok(result) => {
            let (class, probability) = result.best();
            format!("{file},{},{probability:.6},", csv::field(trained.class_name(class)))
        }
        Err(e) => format!("{file},,,{}", csv::field(e)),
    }
}

/// An image and its predicted classes.
struct Classified {
    /// `[c, h, w]`, resized but not normalized.
    pixels: Vec<f32>,
    prediction: Prediction,
    /// The class, if the file name contains it.
    truth: Option<usize>,
    /// Whether the intensities were inverted.
    inverted: bool,
}

impl Classified {
    /// The most likely class and its probability.
    fn best(&self) -> (usize, f64) {
        self.prediction.classes[0]
    }
}

fn print(args: &Args, trained: &TrainedNetwork, path: &Path, result: &Classified) -> Result<()> {
    let inverted = result.inverted;
    let classes = result.prediction.classes.iter().take(args.top);
    let top: Vec<(String, f64)> = classes.map(|&(class, p)| (trained.class_name(class), p)).collect();
    if args.json {
        let (class, probability) = top[0].clone();
        let truth = result.truth.map(|class| trained.class_name(class));
        let file = path.display().to_string();
        return output::json(&JsonRow { file, class, probability, inverted, truth, top });
    }
    let classes: Vec<String> = top.iter().map(|(class, p)| format!("{class} {:.1} %", p * 100.0)).collect();
    let inverted = if inverted { " (inverted)" } else { "" };
    let wrong = match result.truth {
        Some(truth) if truth != result.best().0 => format!("; wrong, expected {}", trained.class_name(truth)),
        _ => String::new(),
    };
    output::line(format_args!("{}: {}{inverted}{wrong}", path.display(), classes.join(", ")))
}

/// Draws the images with their predicted classes.
fn sheet(trained: &TrainedNetwork, classified: &[Classified]) -> Result<ContactSheet> {
    const COLUMNS: usize = 5;
    let [c, h, w] = trained.input;
    let checkpoint = trained.checkpoint.as_ref().map_or(String::new(), |checkpoint| {
        format!("{} after {}; ", checkpoint.config.data, count(checkpoint.position.epoch, "epoch"))
    });
    let mut sheet = ContactSheet::new(format!("Predictions of {}", trained.name))
        .note(format!("{checkpoint}most likely class and its probability"))
        .thumbnail_width(if w.max(h) > 84 { 96 } else { 84 });
    let labeled: Vec<&Classified> = classified.iter().filter(|image| image.truth.is_some()).collect();
    if !labeled.is_empty() {
        let correct = labeled.iter().filter(|image| image.truth == Some(image.best().0)).count();
        sheet = sheet.note(format!("{correct} of {} correct (green)", labeled.len()));
    }
    for row in classified.chunks(COLUMNS) {
        let cells = row.iter().map(|image| {
            let (class, probability) = image.best();
            let tone = match image.truth {
                None => CaptionStyle::Strong,
                Some(truth) if truth == class => CaptionStyle::Good,
                Some(_) => CaptionStyle::Bad,
            };
            let cell = Thumbnail::new(Image::from_values(&image.pixels, [c, h, w])?)
                .caption(trained.class_name(class), tone)
                .caption(format!("{:.1} %", probability * 100.0), CaptionStyle::Plain);
            Ok(match image.truth {
                Some(truth) if truth != class => {
                    cell.caption(format!("expected {}", trained.class_name(truth)), CaptionStyle::Strong)
                }
                _ => cell,
            })
        });
        sheet = sheet.row("", cells.collect::<Result<Vec<_>>>()?);
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_lists_are_expanded() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("images/more")).unwrap();
        for file in ["images/b.PNG", "images/more/a.jpg", "images/notes.md"] {
            std::fs::write(path(file), "").unwrap();
        }
        std::fs::write(path("list.txt"), "x.png\n\n  y.webp \n").unwrap();
        let found = expand(&[path("images"), path("list.txt"), path("z")]).unwrap();
        let expected =
            [path("images/b.PNG"), path("images/more/a.jpg"), "x.png".into(), "y.webp".into(), path("z")];
        assert_eq!(found, expected);
        std::fs::create_dir(path("empty")).unwrap();
        assert!(expand(&[path("empty")]).unwrap_err().to_string().contains("no images"));
    }
}
