//! `predict`: what a trained network takes pictures for.

use std::path::{Path, PathBuf};

use image::ImageReader;
use neocog_data::{SampleId, Transform, resize};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Device, Error, Result, Tensor};
use neocog_train::{Prediction, predict};
use neocog_viz::{Cell, Image, Sheet, Tone, save};
use serde::Serialize;

use super::network::{Trained, Weights};
use crate::help::examples;
use crate::output;
use crate::pictures::class_in_name;
use crate::register_command;

/// Tells what a trained network takes pictures for: the likeliest classes with their probabilities.
///
/// A picture (PNG or JPEG) is made grey, laid on white where it is transparent, and stretched to the network's input.
/// All data sets here show bright things on a dark ground; a picture with a bright border is therefore inverted, unless
/// --invert says otherwise.
///
/// A file's name that ends with - and a class, as `data --export` writes it, tells what is right.
#[derive(Debug, clap::Args)]
#[command(after_help = examples("Examples:
  neocog predict runs/lenet-digits/best.ckpt seven.png
  neocog predict runs/lenet-fashion-mnist/best.ckpt a.jpg b.jpg --top 1 --json
  neocog predict --network resnet --weights resnet.safetensors --data fashion-mnist a.jpg
  neocog data --export pictures --count 20 --data fashion-mnist
  neocog predict runs/lenet-fashion-mnist/best.ckpt pictures/*.png --invert no --picture predictions.png"))]
struct Args {
    /// The checkpoint, and the pictures; with --weights the pictures alone.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: Weights,
    /// With --weights, the data set that names the classes.
    #[arg(long, value_name = "NAME", requires = "weights")]
    data: Option<String>,
    /// How many classes are shown.
    #[arg(long, default_value_t = 3)]
    top: usize,
    /// Whether dark and bright change places; auto: when the border is bright.
    #[arg(long, value_enum, default_value = "auto")]
    invert: Invert,
    /// Draws all pictures, as the network sees them, with their likeliest class.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
    /// Where to compute: cpu, opencl (also opencl:PLATFORM:DEVICE or opencl:NAME; see `devices`), or reference (double
    /// precision, plain loops, slow).
    #[arg(long, default_value_t = Device::Cpu)]
    device: Device,
    /// One line of JSON for each picture instead.
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
fn run(args: &Args) -> Result<()> {
    let (file, images) = match args.files.split_first() {
        Some((file, images)) if !args.weights.given() => (Some(file.as_path()), images),
        _ => (None, args.files.as_slice()),
    };
    if images.is_empty() {
        return Err(Error::invalid_argument("say which pictures: their files follow the checkpoint"));
    }
    let trained = args.weights.open(file, args.data.as_deref(), &args.device)?;
    let [c, h, w] = trained.input;
    if c != 1 {
        return Err(Error::invalid_argument(format!(
            "pictures are made grey, but this network takes {c} channels"
        )));
    }
    let transforms = trained.transforms();
    let predictor = Predictor::new(&*trained.network);
    let mut seen = Vec::new();
    for path in images {
        let grey = Grey::read(path)?;
        let inverted = match args.invert {
            Invert::Auto => grey.border_is_bright(),
            fixed => fixed == Invert::Yes,
        };
        let place = || path.display().to_string();
        let pixels = grey.prepared((h, w), inverted).context(place)?;
        let mut input = pixels.clone();
        transforms.apply(&mut input, [1, h, w], SampleId::default()).context(place)?;
        let image = Tensor::from_f32([1, 1, h, w], &input, &args.device)?;
        let prediction = predict(&predictor, &image)?.swap_remove(0);
        let truth = class_in_name(path, &trained.class_names);
        let top: Vec<(String, f64)> = prediction
            .classes
            .iter()
            .take(args.top.max(1))
            .map(|&(class, p)| (trained.class_name(class), p))
            .collect();
        if args.json {
            let (class, probability) = top[0].clone();
            let truth = truth.map(|class| trained.class_name(class));
            output::json(&JsonRow { file: place(), class, probability, inverted, truth, top })?;
        } else {
            let classes: Vec<String> =
                top.iter().map(|(class, p)| format!("{class} {:.1} %", p * 100.0)).collect();
            let note = if inverted { " (inverted)" } else { "" };
            let wrong = truth.filter(|&truth| truth != prediction.classes[0].0);
            let wrong =
                wrong.map_or(String::new(), |truth| format!("; wrong, it is {}", trained.class_name(truth)));
            output::line(format_args!("{}: {}{note}{wrong}", path.display(), classes.join(", ")))?;
        }
        seen.push(Seen { pixels, prediction, truth });
    }
    if let Some(file) = &args.picture {
        save(&sheet(&trained, &seen)?.draw(), file)?;
    }
    Ok(())
}

/// A picture and what it was taken for.
struct Seen {
    /// `[h, w]`, as the network sees it, but not normalised.
    pixels: Vec<f32>,
    prediction: Prediction,
    /// What is right, if it is known.
    truth: Option<usize>,
}

fn sheet(trained: &Trained, seen: &[Seen]) -> Result<Sheet> {
    const COLUMNS: usize = 5;
    let [_, h, w] = trained.input;
    let history = trained.checkpoint.as_ref().map_or(String::new(), |checkpoint| {
        format!("{} after {} epochs; ", checkpoint.config.data, checkpoint.position.epoch)
    });
    let mut sheet = Sheet::new(format!("What {} takes pictures for", trained.name))
        .note(format!("{history}the likeliest class and its probability"))
        .cell(if w.max(h) > 84 { 96 } else { 84 });
    let known: Vec<&Seen> = seen.iter().filter(|one| one.truth.is_some()).collect();
    if !known.is_empty() {
        let right = known.iter().filter(|one| one.truth == Some(one.prediction.classes[0].0)).count();
        sheet = sheet.note(format!("{right} of {} are right (green)", known.len()));
    }
    for row in seen.chunks(COLUMNS) {
        let cells = row.iter().map(|Seen { pixels, prediction, truth }| {
            let (class, probability) = prediction.classes[0];
            let tone = match truth {
                None => Tone::Strong,
                Some(truth) if *truth == class => Tone::Good,
                Some(_) => Tone::Bad,
            };
            let cell =
                Cell::new(Image::of_values(pixels, [1, h, w])?).caption(trained.class_name(class), tone);
            let cell = cell.caption(format!("{:.1} %", probability * 100.0), Tone::Plain);
            Ok(match truth {
                Some(truth) if *truth != class => {
                    cell.caption(format!("is: {}", trained.class_name(*truth)), Tone::Strong)
                }
                _ => cell,
            })
        });
        sheet = sheet.row("", cells.collect::<Result<Vec<_>>>()?);
    }
    Ok(sheet)
}

/// A grey picture, `[height, width]`.
struct Grey {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Grey {
    fn read(path: &Path) -> Result<Self> {
        let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
        let reader =
            reader.map_err(|e| Error::io(format!("cannot read the picture {}", path.display()), e))?;
        let picture = reader.decode().map_err(|e| {
            Error::format(format!("{} is no PNG or JPEG picture", path.display())).with_source(e)
        })?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pixels = picture
            .into_luma_alpha8()
            .pixels()
            .map(|pixel| {
                let [grey, alpha] = pixel.0.map(u32::from);
                ((grey * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            })
            .collect();
        Ok(Grey { height, width, pixels })
    }

    /// Whether the mean of the outermost pixels is in the bright half.
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

    /// As a network sees it, `[h, w]`, values 0 to 1.
    fn prepared(&self, (h, w): (usize, usize), inverted: bool) -> Result<Vec<f32>> {
        let resized = resize::resize(&self.pixels, (self.height, self.width), (h, w))?;
        Ok(resized.into_iter().map(|p| resize::unit(if inverted { 255 - p } else { p })).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dark_stroke_on_white_is_inverted() {
        let mut pixels = vec![250; 25];
        pixels[12] = 3;
        let grey = Grey { height: 5, width: 5, pixels };
        assert!(grey.border_is_bright());
        let seen = grey.prepared((5, 5), true).unwrap();
        assert_eq!((seen[12], seen[0]), (252.0 / 255.0, 5.0 / 255.0));
        assert!(!Grey { height: 1, width: 2, pixels: vec![0, 254] }.border_is_bright());
    }

    #[test]
    fn pictures_become_grey_and_lie_on_white() {
        use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let colours = [[9, 9, 9, 0], [0, 0, 0, 255], [255, 255, 255, 255], [0, 0, 0, 128]];
        let picture = RgbaImage::from_fn(2, 2, |x, y| Rgba(colours[(2 * y + x) as usize]));
        DynamicImage::from(picture).save_with_format(&path, ImageFormat::Png).unwrap();
        let grey = Grey::read(&path).unwrap();
        assert_eq!((grey.height, grey.width, grey.pixels), (2, 2, vec![255, 0, 255, 127]));

        // The bytes tell what it is, not the name.
        let picture = RgbImage::from_pixel(16, 8, Rgb([90, 90, 90]));
        DynamicImage::from(picture).save_with_format(&path, ImageFormat::Jpeg).unwrap();
        let grey = Grey::read(&path).unwrap();
        assert_eq!((grey.height, grey.width), (8, 16));
        assert!(grey.pixels.iter().all(|p| p.abs_diff(90) <= 2));

        std::fs::write(&path, "no picture").unwrap();
        let e = Grey::read(&path).err().unwrap().to_string();
        assert!(e.contains("is no PNG or JPEG picture"), "{e}");
        assert!(Grey::read(&folder.path().join("none.png")).is_err());
    }
}
