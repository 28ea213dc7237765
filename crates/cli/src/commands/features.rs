//! `features`: the feature maps of an image, and the kernels of a network.

use std::path::PathBuf;

use neocog_base::file::check_output_dir;
use neocog_data::resize::ResizeCache;
use neocog_insight::features::{draw_feature_maps, draw_kernels, feature_maps};
use neocog_tensor::{Context as _, Result, Tensor};
use neocog_viz::save;
use serde::Serialize;

use super::network::WeightsArgs;
use crate::arguments::DeviceArg;
use crate::help::{examples, usages};
use crate::output;
use crate::outputs;
use crate::register_command;

/// Draw the feature maps of an image and the kernels of a network.
///
/// Writes DIR/feature_maps.png, with up to eight feature maps of up to eight layers, and DIR/kernels.png, the kernels of the first
/// convolution. Prints a table of all layers.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = usages(&[
        "features [OPTIONS] <CHECKPOINT> <IMAGE>",
        "features [OPTIONS] --weights <FILE> <--network <NAME>|--spec <FILE>> <IMAGE>",
    ]),
    after_help = examples("Examples:
  neocog features runs/lenet-digits/best.ckpt seven.png
  neocog features runs/resnet-flowers/best.ckpt rose.jpg --to rose"))]
struct Args {
    /// Checkpoint and image; with --weights, the image only.
    #[arg(required = true, value_name = "FILE", num_args = 1..=2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Directory of the images.
    #[arg(long, value_name = "DIR", default_value = "features")]
    to: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    /// Print one JSON object per layer.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    layer: &'a str,
    kind: &'a str,
    output: &'a [usize],
    mean: f64,
    zeros: f64,
}

register_command!("features", 52, Args, run);

/// Runs the command.
fn run(args: &Args) -> Result<()> {
    let (file, image) = args.weights.checkpoint_and_input(&args.files, "image");
    check_output_dir(&args.to)?;
    let written = [args.to.join("feature_maps.png"), args.to.join("kernels.png")];
    outputs::check(args.files.iter().map(PathBuf::as_path), written.iter().map(PathBuf::as_path))?;
    output::go_on_without_reader();
    let trained = args.weights.open(file, None, &args.device.device)?;
    let input = trained.preprocessing.read(image, &mut ResizeCache::default())?;
    let [c, h, w] = trained.input;
    let x = Tensor::from_f32([1, c, h, w], &input.pixels, &args.device.device)?;
    let maps = feature_maps(&*trained.network, &x).context(|| image.display().to_string())?;
    save(&draw_feature_maps(&trained.name, &x, &maps)?, &written[0])?;
    save(&draw_kernels(&trained.name, &*trained.network, x.shape())?, &written[1])?;
    let mut rows = Vec::new();
    for map in &maps {
        let values = map.output.to_f64()?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        let output = map.output.shape();
        if args.json {
            output::json(&JsonRow { layer: &map.path, kind: &map.label, output, mean, zeros })?;
        }
        rows.push([
            map.path.clone(),
            map.label.clone(),
            output.to_string(),
            format!("{mean:.3}"),
            format!("{zeros:.2}"),
        ]);
    }
    if !args.json {
        let head = ["layer", "kind", "output", "mean", "fraction of zeros"];
        output::line(output::table(head, [false, false, false, true, true], rows))?;
    }
    output::note(format_args!("wrote {} and {}", written[0].display(), written[1].display()));
    Ok(())
}
