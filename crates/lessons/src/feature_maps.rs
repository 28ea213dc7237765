//! Feature maps and kernels of a trained network.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use neocog_autograd::{Tape, Var};
use neocog_base::text;
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::Seen;
use neocog_layers::{Context, Layer, Observer, Predictor, state};
use neocog_tensor::{Result, Tensor};
use neocog_train::{Checkpoint, NoProgress, TrainConfig, Trainer, predict};
use neocog_viz::{CaptionStyle, ContactSheet, Image, RgbImage, Thumbnail};

use crate::page::Page;
use crate::register_lesson;

/// Maximum number of feature maps drawn per layer.
const MAX_MAPS: usize = 8;
/// Maximum number of layers drawn.
const MAX_LAYERS: usize = 8;

register_lesson!(70, "feature_maps", "feature maps and kernels of a trained network", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(
        "The output of a convolutional layer is one image per channel: its feature maps. Those of early layers resemble the input\n\
         with its edges highlighted; those of deeper layers are smaller and show where a feature was found rather than what it looks\n\
         like.\n",
    )?;
    let trained = match page.options().checkpoint.clone() {
        Some(file) => Checkpoint::read(&file)?,
        None => train(page)?,
    };
    let device = page.device();
    let predictor = Predictor::new(trained.network(&device)?);
    let network = predictor.network();
    let [c, h, w] = trained.input;

    let data = trained.config.load_data(&page.options().data_dir)?;
    let data = Arc::clone(data.test.as_ref().map_or_else(|| data.evaluated().map(|(_, part)| part), Ok)?);
    let augment = trained.config.transforms.fixed().into_augment(0);
    let options = LoaderOptions::new().batch_size(1).image_size((h, w)).channels(Some(c)).augment(augment);
    let loader = Loader::new(data, options)?;
    let batch = loader.epoch(0)?.next().expect("the test set is not empty")?;
    let image = Tensor::from_f32([1, c, h, w], &batch.pixels, &device)?;
    let (class, probability) = predict(&predictor, &image)?.swap_remove(0).classes[0];
    let names = &trained.class_names;
    let name = |class: usize| names.get(class).map_or("(unnamed)", String::as_str);
    page.print(format!(
        "  The class of the first test image is {}; the network predicts {} ({:.1} %).\n",
        name(batch.labels[0] as usize),
        name(class),
        100.0 * probability
    ))?;

    let recorder = MapRecorder::default();
    let tape = Tape::no_grad();
    Context::eval(&tape).observed(&recorder).run(network, &Var::constant(image.clone()))?;
    let maps = recorder.0.into_inner();
    let mut rows = Vec::new();
    for (path, label, map) in &maps {
        let values = map.to_f64()?;
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let [_, channels, h, w] = *map.shape().extents() else { continue };
        rows.push([
            format!("{path} {label}"),
            channels.to_string(),
            format!("{h}x{w}"),
            format!("{mean:.3}"),
            format!("{zeros:.2}"),
        ]);
    }
    page.table(["layer", "channels", "size", "mean", "fraction of zeros"], rows)?;
    page.check("each layer has feature maps that differ", maps_differ(&maps)?)?;
    page.image("feature_maps", || draw_maps(&trained.config.network, &image, &maps))?;
    page.image("kernels", || draw_kernels(&trained.config.network, network))
}

/// Trains lenet with batch normalization on the embedded digits, which takes a few seconds.
fn train(page: &mut Page<'_>) -> Result<Checkpoint> {
    let mut config = TrainConfig::for_network("lenet_bn", "digits")?;
    config.epochs = 8;
    let data = config.load_data(&page.options().data_dir)?;
    let mut trainer = Trainer::new(config, &*data.train, &page.device())?;
    trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
    let accuracy = trainer.history().last().map_or(0.0, |report| report.eval_acc);
    page.check(
        format!("lenet_bn, trained on digits for 8 epochs, has a test accuracy of {:.1} %", accuracy * 100.0),
        accuracy > 0.8,
    )?;
    trainer.checkpoint()
}

/// Records the outputs of all layers without children that are feature maps: path, label, and output.
#[derive(Default)]
struct MapRecorder(RefCell<Vec<(String, String, Tensor)>>);

impl Observer for MapRecorder {
    fn output(&self, seen: &Seen<'_>) {
        let Seen { path, layer, output, .. } = *seen;
        let is_map = matches!(*output.shape().extents(), [_, _, h, w] if h * w > 1);
        if is_map && !state::has_children(layer) {
            let entry = (path.to_string(), layer.label().to_string(), output.tensor().clone());
            self.0.borrow_mut().push(entry);
        }
    }
}

/// Returns whether there are layers, and each layer with several channels has different feature maps.
fn maps_differ(maps: &[(String, String, Tensor)]) -> Result<bool> {
    for (_, _, map) in maps {
        let [_, channels, h, w] = *map.shape().extents() else { return Ok(false) };
        let values = map.to_f32()?;
        if channels > 1 && values.chunks_exact(h * w).all(|channel| *channel == values[..h * w]) {
            return Ok(false);
        }
    }
    Ok(!maps.is_empty())
}

fn draw_maps(network: &str, image: &Tensor, maps: &[(String, String, Tensor)]) -> Result<RgbImage> {
    let [.., h, w] = *image.shape().extents() else { unreachable!("images have four dimensions") };
    let pixels = image.to_f32()?;
    let mut sheet = ContactSheet::new(format!("Feature maps of {network}"))
        .note(format!(
            "Up to {MAX_MAPS} feature maps per layer, each normalized from its minimum (black) to its maximum (white)."
        ))
        .row("input", [Thumbnail::new(Image::normalized(&pixels[..h * w], [h, w])?)]);
    let step = maps.len().div_ceil(MAX_LAYERS).max(1);
    for (path, label, map) in maps.iter().step_by(step) {
        let [_, channels, h, w] = *map.shape().extents() else { continue };
        let values = map.to_f32()?;
        let thumbnails = values
            .chunks_exact(h * w)
            .take(MAX_MAPS)
            .map(|channel| Ok(Thumbnail::new(Image::normalized(channel, [h, w])?)));
        let thumbnails = thumbnails.collect::<Result<Vec<_>>>()?;
        let count = if channels > MAX_MAPS {
            format!("{MAX_MAPS} of {channels} channels")
        } else {
            text::count(channels, "channel")
        };
        sheet = sheet.row(&format!("{path} {label}\n{h}x{w}\n{count}"), thumbnails);
    }
    Ok(sheet.draw())
}

/// Draws the kernels of the first convolution.
fn draw_kernels(network: &str, net: &dyn Layer) -> Result<RgbImage> {
    let mut sheet = ContactSheet::new(format!("Kernels of {network}"))
        .note("First convolution: positive weights are red, negative weights blue.");
    let params = state::params(net);
    let first = params.iter().find(|(_, param)| param.shape().rank() == 4);
    let Some((name, param)) = first else { return Ok(sheet.draw()) };
    let [out, inputs, kh, kw] = *param.shape().extents() else { return Ok(sheet.draw()) };
    let weights = param.value().to_f32()?;
    let limit = weights.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
    let mut thumbnails = Vec::new();
    for (i, kernel) in weights.chunks_exact(inputs * kh * kw).enumerate() {
        let image = Image::diverging(&kernel[..kh * kw], [kh, kw], limit)?;
        thumbnails.push(Thumbnail::new(image).caption(format!("channel {}", i + 1), CaptionStyle::Plain));
    }
    for (i, row) in thumbnails.chunks(MAX_MAPS).enumerate() {
        let label = if i == 0 {
            format!("{name}\n{} of {kh}x{kw}", text::count(out, "kernel"))
        } else {
            String::new()
        };
        sheet = sheet.row(&label, row.to_vec());
    }
    Ok(sheet.draw())
}
