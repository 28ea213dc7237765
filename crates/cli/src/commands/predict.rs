//! `predict`: classification of image files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use neocog_base::file::{check_distinct, check_output_file};
use neocog_base::text::count;
use neocog_data::{SampleId, Transform, resize};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Error, ErrorKind, Result, Tensor};
use neocog_train::{MemoryNeed, Prediction, predict};
use neocog_viz::{CaptionStyle, ContactSheet, Image, Thumbnail, save};
use serde::Serialize;

use super::network::{TrainedNetwork, WeightsArgs};
use crate::arguments::{DeviceArg, positive};
use crate::decode;
use crate::help::{examples, usages};
use crate::image_file::class_in_name;
use crate::output;
use crate::register_command;

/// Classify images with a trained network.
///
/// Prints the most likely classes and their probabilities. Images (PNG or JPEG) are converted to grayscale, with white behind
/// transparent pixels, and resized to the network's input. The data sets show bright objects on a dark background, so
/// images with a bright border are inverted; see --invert. Files that cannot be classified are reported and skipped; the exit
/// code is then 1.
///
/// If a file name ends with - and a class, as written by `data --export`, the prediction is compared with that class.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "predict [OPTIONS] <CHECKPOINT> <IMAGE>...",
        "predict [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> <IMAGE>...",
    ]),
    after_help = examples("Examples:
  neocog predict runs/lenet-digits/best.ckpt seven.png
  neocog predict runs/lenet-fashion-mnist/best.ckpt a.jpg b.jpg --top 1 --json
  neocog predict --network resnet --weights resnet.safetensors --data fashion-mnist a.jpg
  neocog data --export images --count 20 --data fashion-mnist
  neocog predict runs/lenet-fashion-mnist/best.ckpt images/*.png --invert no --picture predictions.png"))]
struct Args {
    /// Checkpoint and images; with --weights, images only.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Data set that names the classes, with --weights.
    #[arg(long, value_name = "NAME", requires = "weights")]
    data: Option<String>,
    /// Number of classes to print.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    top: usize,
    /// Invert intensities; auto: if the border is bright.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    invert: Invert,
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
        args.files.iter().try_for_each(|input| check_distinct(input, sheet))?;
        check_output_file(sheet)?;
        output::image_format(sheet);
        output::go_on_without_reader();
    }
    let device = &args.device.device;
    let trained = args.weights.open(file, args.data.as_deref(), device).map_err(|e| match e.kind() {
        ErrorKind::Format if file.is_some() => {
            Error::format(format!("{e}; the first file must be a checkpoint, the others are images"))
        }
        _ => e,
    })?;
    let [c, ..] = trained.input;
    if c != 1 {
        return Err(Error::invalid_argument(format!(
            "predict supports grayscale networks only; the input of {} has {c} channels",
            trained.name
        )));
    }
    let predictor = Predictor::new(trained.network.clone());
    let [_, h, w] = trained.input;
    output::memory_warning(&MemoryNeed::of_inference(&predictor, [1, c, h, w], 0, device)?);
    let transforms = trained.transforms();
    let mut classified = Vec::new();
    for path in paths {
        match classify(args, &trained, &predictor, &transforms, path) {
            Ok(result) => {
                print(args, &trained, path, &result)?;
                classified.push(result);
            }
            // The other images are classified all the same.
            Err(e) => output::note(format_args!("error: {e}")),
        }
    }
    if let Some(file) = args.picture.as_ref().filter(|_| !classified.is_empty()) {
        save(&sheet(&trained, &classified)?.draw(), file)?;
    }
    Ok(if classified.len() == paths.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Classifies the image at `path`.
fn classify(
    args: &Args,
    trained: &TrainedNetwork,
    predictor: &Predictor,
    transforms: &impl Transform,
    path: &Path,
) -> Result<Classified> {
    let [_, h, w] = trained.input;
    let gray = GrayImage::read(path)?;
    let inverted = match args.invert {
        Invert::Auto => gray.border_is_bright(),
        fixed => fixed == Invert::Yes,
    };
    let location = || path.display().to_string();
    let pixels = gray.preprocess((h, w), inverted).context(location)?;
    let mut input = pixels.clone();
    transforms.apply(&mut input, [1, h, w], SampleId::default()).context(location)?;
    let image = Tensor::from_f32([1, 1, h, w], &input, &args.device.device)?;
    let prediction = predict(predictor, &image).context(location)?.swap_remove(0);
    let truth = class_in_name(path, &trained.class_names);
    Ok(Classified { pixels, prediction, truth, inverted })
}

/// An image and its predicted classes.
struct Classified {
    /// `[h, w]`, resized but not normalized.
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
    let [_, h, w] = trained.input;
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
            let cell = Thumbnail::new(Image::from_values(&image.pixels, [1, h, w])?)
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

/// A grayscale image, `[height, width]`.
struct GrayImage {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl GrayImage {
    /// Reads a PNG or JPEG file, with white behind transparent pixels.
    ///
    /// # Errors
    /// When the file cannot be read or decoded.
    fn read(path: &Path) -> Result<Self> {
        let image = decode::read(path)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let pixels = image
            .into_luma_alpha8()
            .pixels()
            .map(|pixel| {
                let [gray, alpha] = pixel.0.map(u32::from);
                ((gray * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            })
            .collect();
        Ok(GrayImage { height, width, pixels })
    }

    /// Whether the mean of the outermost pixels is above half of the maximum.
    fn border_is_bright(&self) -> bool {
        let (mut sum, mut count) = (0u64, 0u64);
        for (y, row) in self.pixels.chunks_exact(self.width.max(1)).enumerate() {
            for (x, &pixel) in row.iter().enumerate() {
                if x == 0 || y == 0 || x + 1 == self.width || y + 1 == self.height {
                    sum += u64::from(pixel);
                    count += 1;
                }
            }
        }
        sum > 127 * count
    }

    /// Resizes to `[h, w]`, and inverts if `inverted`; values are from 0 to 1.
    ///
    /// # Errors
    /// When the image is empty.
    fn preprocess(&self, (h, w): (usize, usize), inverted: bool) -> Result<Vec<f32>> {
        let resized = resize::resize(&self.pixels, (self.height, self.width), (h, w))?;
        Ok(resized.into_iter().map(|p| resize::unit(if inverted { 255 - p } else { p })).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_a_bright_border_are_inverted() {
        let mut pixels = vec![250; 25];
        pixels[12] = 3;
        let gray = GrayImage { height: 5, width: 5, pixels };
        assert!(gray.border_is_bright());
        let inverted = gray.preprocess((5, 5), true).unwrap();
        assert_eq!((inverted[12], inverted[0]), (252.0 / 255.0, 5.0 / 255.0));
        assert!(!GrayImage { height: 1, width: 2, pixels: vec![0, 254] }.border_is_bright());
    }

    #[test]
    fn images_become_gray_on_white() {
        use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let pixels = [[9, 9, 9, 0], [0, 0, 0, 255], [255, 255, 255, 255], [0, 0, 0, 128]];
        let image = RgbaImage::from_fn(2, 2, |x, y| Rgba(pixels[(2 * y + x) as usize]));
        DynamicImage::from(image).save_with_format(&path, ImageFormat::Png).unwrap();
        let gray = GrayImage::read(&path).unwrap();
        assert_eq!((gray.height, gray.width, gray.pixels), (2, 2, vec![255, 0, 255, 127]));

        // The format is detected from the contents, not from the name.
        let image = RgbImage::from_pixel(16, 8, Rgb([90, 90, 90]));
        DynamicImage::from(image).save_with_format(&path, ImageFormat::Jpeg).unwrap();
        let gray = GrayImage::read(&path).unwrap();
        assert_eq!((gray.height, gray.width), (8, 16));
        assert!(gray.pixels.iter().all(|p| p.abs_diff(90) <= 2));

        std::fs::write(&path, "no image").unwrap();
        let e = GrayImage::read(&path).err().unwrap().to_string();
        assert!(e.contains("is not a PNG or JPEG image"), "{e}");
        assert!(GrayImage::read(&folder.path().join("none.png")).is_err());
    }
}
