//! `explain`: which parts of an image a prediction depends on.

use std::path::{Path, PathBuf};

use neocog_data::Preprocessed;
use neocog_data::resize::ResizeCache;
use neocog_insight::explain::{self, Attribution};
use neocog_layers::Predictor;
use neocog_tensor::{Context as _, Error, Result, Tensor};
use neocog_train::predict;
use neocog_viz::{CaptionStyle, ContactSheet, Image, Thumbnail, save};
use serde::Serialize;

use super::network::WeightsArgs;
use super::trained_network::TrainedNetwork;
use crate::arguments::{DeviceArg, positive, steps};
use crate::array;
use crate::help::{examples, usages};
use crate::output;
use crate::outputs;
use crate::register_command;

/// The default of --steps.
const STEPS: usize = 50;

/// Explain what a prediction depends on.
///
/// Draws the image and the attribution of a class to its parts: red speaks for the class, blue against it. Methods: gradcam
/// (Grad-CAM), the regions of a layer's feature map that the class depends on; saliency, the gradient of the class's logit;
/// integrated-gradients, gradients along the line from a black image; occlusion, how much the logit drops when a square is
/// black.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "explain [OPTIONS] <CHECKPOINT> <IMAGE>",
        "explain [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> <IMAGE>",
    ]),
    after_help = examples("Examples:
  neocog explain runs/resnet-flowers/best.ckpt rose.jpg
  neocog explain runs/lenet-digits/best.ckpt seven.png --method occlusion --class 1 --to why-one.png
  neocog explain runs/resnet-flowers/best.ckpt rose.jpg --method gradcam --layer 6
  neocog explain runs/lenet-digits/best.ckpt seven.png --method integrated-gradients --values ig.npy"))]
struct Args {
    /// Checkpoint and image; with --weights, the image only.
    #[arg(required = true, value_name = "FILE", num_args = 1..=2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Data set that names the classes, with --weights.
    #[arg(long, value_name = "NAME", requires = "weights")]
    data: Option<String>,
    /// Method.
    #[arg(long, value_enum, value_name = "NAME", default_value = "gradcam")]
    method: Method,
    /// Layer of gradcam, by its dotted name; `summary` lists them [default: the last one with a feature map].
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Class to explain, by name or number [default: the predicted one].
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Number of steps of integrated-gradients [default: 50].
    #[arg(long, value_name = "N", value_parser = steps)]
    steps: Option<usize>,
    /// Width of the square of occlusion, in pixels [default: an eighth of the image].
    #[arg(long, value_name = "N", value_parser = positive)]
    window: Option<usize>,
    /// Image to write.
    #[arg(long, value_name = "FILE.png", default_value = "explanation.png")]
    to: PathBuf,
    /// Also write the values [c, h, w] as a NumPy array.
    #[arg(long, value_name = "FILE.npy")]
    values: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    Gradcam,
    Saliency,
    IntegratedGradients,
    Occlusion,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    file: String,
    method: &'a str,
    layer: Option<&'a str>,
    class: String,
    probability: f64,
    predicted: String,
}

register_command!("explain", 51, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let (file, image) = args.weights.checkpoint_and_input(&args.files, "image");
    output::image_format(&args.to);
    check_options(args);
    let written = [Some(&args.to), args.values.as_ref()].into_iter().flatten();
    outputs::check(args.files.iter().map(PathBuf::as_path), written.map(PathBuf::as_path))?;
    output::go_on_without_reader();
    let trained = args.weights.open(file, args.data.as_deref(), &args.device.device)?;
    let input = trained.preprocessing.read(image, &mut ResizeCache::default())?;
    let [c, h, w] = trained.input;
    let tensor = |pixels: &[f32]| Tensor::from_f32([1, c, h, w], pixels, &args.device.device);
    let x = tensor(&input.pixels)?;
    let prediction = predict(&Predictor::new(trained.network.clone()), &x)?.swap_remove(0);
    let predicted = prediction.classes.first().map_or(0, |class| class.0);
    let class = args.class.as_deref().map_or(Ok(predicted), |class| class_number(&trained, class))?;
    let probability =
        prediction.classes.iter().find(|(other, _)| *other == class).map_or(0.0, |class| class.1);
    let layer = layer(args, &trained)?;
    let attribution =
        attribution(args, &trained, &x, class, layer.as_deref()).context(|| image.display().to_string())?;
    if attribution.values.iter().all(|value| *value == 0.0) {
        output::note(format_args!(
            "warning: {} of this class is 0 everywhere: {}",
            args.method.name(),
            layer.as_deref().map_or("the class does not depend on the image".to_string(), |layer| format!(
                "nothing in the output of layer {layer} raises the class; another layer may show more"
            ))
        ));
    }
    if let Some(values) = &args.values {
        array::write(values, &attribution.shape, attribution.values.clone())?;
    }
    save(
        &sheet(args, &trained, &input, &attribution, (class, probability), layer.as_deref())?.draw()?,
        &args.to,
    )?;
    let (class, predicted) = (trained.class_name(class), trained.class_name(predicted));
    let (file, method) = (image.display().to_string(), args.method.name());
    if args.json {
        return output::json(&JsonRow {
            file,
            method,
            layer: layer.as_deref(),
            class,
            probability,
            predicted,
        });
    }
    output::line(format_args!(
        "{file}: {method} of {class} ({:.1} %){}, written to {}",
        100.0 * probability,
        layer.map_or(String::new(), |layer| format!(" at layer {layer}")),
        args.to.display()
    ))
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Gradcam => "gradcam",
            Method::Saliency => "saliency",
            Method::IntegratedGradients => "integrated-gradients",
            Method::Occlusion => "occlusion",
        }
    }
}

/// The number of a class that is given by its name or number.
fn class_number(trained: &TrainedNetwork, class: &str) -> Result<usize> {
    if let Some(number) = trained.class_names.iter().position(|name| name == class) {
        return Ok(number);
    }
    class
        .parse()
        .map_err(|_| Error::not_found("class", class, trained.class_names.iter().map(String::as_str)))
}

/// Ends the program if an option of another method is given.
fn check_options(args: &Args) {
    let given = [
        ("--layer", args.layer.is_some(), Method::Gradcam),
        ("--steps", args.steps.is_some(), Method::IntegratedGradients),
        ("--window", args.window.is_some(), Method::Occlusion),
    ];
    if let Some((option, _, method)) =
        given.iter().find(|(_, given, method)| *given && *method != args.method)
    {
        output::usage_error(format!("{option} is for --method {}", method.name()));
    }
}

/// The layer of Grad-CAM; `None` for other methods.
fn layer(args: &Args, trained: &TrainedNetwork) -> Result<Option<String>> {
    if args.method != Method::Gradcam {
        return Ok(None);
    }
    if args.layer.is_some() {
        return Ok(args.layer.clone());
    }
    let [c, h, w] = trained.input;
    // On the Meta device, only shapes are computed; the network's parameters have no values there.
    let layers = explain::feature_layers(&*trained.network, &[1, c, h, w].into())?;
    let no_map = || Error::invalid_argument(format!("no layer of {} has a feature map", trained.name));
    layers.into_iter().next_back().ok_or_else(no_map).map(Some)
}

fn attribution(
    args: &Args,
    trained: &TrainedNetwork,
    x: &Tensor,
    class: usize,
    layer: Option<&str>,
) -> Result<Attribution> {
    let network = &*trained.network;
    let baseline = || black(trained, x);
    match args.method {
        Method::Gradcam => explain::grad_cam(network, x, class, layer.unwrap_or_default()),
        Method::Saliency => explain::saliency(network, x, class),
        Method::IntegratedGradients => {
            explain::integrated_gradients(network, x, &baseline()?, class, args.steps.unwrap_or(STEPS))
        }
        Method::Occlusion => {
            let [_, h, w] = trained.input;
            let window = args.window.unwrap_or((h.min(w) / 8).max(1));
            explain::occlusion(network, x, &baseline()?, class, window, window.div_ceil(2))
        }
    }
}

/// A black image as the input of the network.
fn black(trained: &TrainedNetwork, x: &Tensor) -> Result<Tensor> {
    let [c, h, w] = trained.input;
    let mut image = neocog_data::ByteImage::default();
    image.reset(h, w, c).fill(0);
    let mut preprocessing = trained.preprocessing.clone();
    preprocessing.inversion = neocog_data::Inversion::Never;
    let pixels = preprocessing.apply(image, &mut ResizeCache::default())?.pixels;
    Tensor::from_f32(*x.shape(), &pixels, &x.device())
}

/// Draws the image, the attribution, and both together.
fn sheet(
    args: &Args,
    trained: &TrainedNetwork,
    input: &Preprocessed,
    attribution: &Attribution,
    (class, probability): (usize, f64),
    layer: Option<&str>,
) -> Result<ContactSheet> {
    let [c, h, w] = trained.input;
    let values = attribution.per_pixel();
    let limit = values.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
    let image = match c {
        1 | 3 => Image::from_values(&input.shown, [c, h, w])?,
        _ => Image::normalized(&input.shown[..h * w], [h, w])?,
    };
    let heat = Image::diverging(&values, [h, w], limit)?;
    let overlay = image.blend(&heat, 0.6)?;
    let caption = |image, text: &str| Thumbnail::new(image).caption(text, CaptionStyle::Plain);
    let class = trained.class_name(class);
    let name = args.files.last().map_or(Path::new(""), PathBuf::as_path);
    let at = layer.map_or(String::new(), |layer| format!(" at layer {layer}"));
    Ok(ContactSheet::new(format!("{} of {class} ({:.1} %)", args.method.name(), 100.0 * probability))
        .note(format!("{}, {}{at}: red speaks for the class, blue against it", name.display(), trained.name))
        .thumbnail_width(224usize.next_multiple_of(w.max(1)).min(448))
        .row("", [caption(image, "image"), caption(heat, "attribution"), caption(overlay, "both")]))
}
