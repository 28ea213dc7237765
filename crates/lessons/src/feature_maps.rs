//! Feature maps of a trained network.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use neocog_autograd::{Tape, Var};
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::Seen;
use neocog_layers::{Context, Layer, Observer, Predictor, state};
use neocog_tensor::{Result, Tensor};
use neocog_train::{Checkpoint, NoProgress, TrainConfig, Trainer, predict};
use neocog_viz::{Cell, Image, RgbImage, Sheet, Tone};

use crate::page::Page;

/// Maps of a layer that are shown.
const SHOWN: usize = 8;
/// Layers that are shown.
const LAYERS: usize = 8;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(
        "What a layer makes of a picture is a stack of pictures, one for each channel: its feature maps. Early ones look like\n\
         the picture with its edges drawn; later ones are smaller and say where something was found, not what it looked like.\n",
    )?;
    let trained = match page.options().checkpoint.clone() {
        Some(file) => Checkpoint::read(&file)?,
        None => train(page)?,
    };
    let device = page.device();
    let network = trained.network(&device)?;
    let [c, h, w] = trained.input;

    let data = trained.config.load_data(&page.options().data_dir)?.test;
    let augment = trained.config.transforms.fixed().into_augment(0);
    let options = LoaderOptions { batch: 1, size: (h, w), augment, ..LoaderOptions::default() };
    let loader = Loader::new(data, options)?;
    let batch = loader.epoch(0)?.next().expect("there are test images")?;
    let picture = Tensor::from_f32([1, c, h, w], &batch.pixels, &device)?;
    let (class, probability) = predict(&Predictor::new(&*network), &picture)?.swap_remove(0).classes[0];
    let names = &trained.class_names;
    let name = |class: usize| names.get(class).map_or("(no name)", String::as_str);
    page.say(format!(
        "  The first test image is of the class {}; the network takes it for {} ({:.1} %).\n",
        name(batch.labels[0] as usize),
        name(class),
        100.0 * probability
    ))?;

    let maps = Maps::default();
    let tape = Tape::no_grad();
    Context::eval(&tape).observed(&maps).run(&*network, &Var::constant(picture.clone()))?;
    let maps = maps.0.into_inner();
    let mut rows = Vec::new();
    for (path, label, map) in &maps {
        let numbers = map.to_f64()?;
        let silent = numbers.iter().filter(|v| **v == 0.0).count() as f64 / numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let [_, channels, h, w] = *map.shape().extents() else { continue };
        let numbers =
            [channels.to_string(), format!("{h}x{w}"), format!("{mean:.3}"), format!("{silent:.2}")];
        let [channels, size, mean, silent] = numbers;
        rows.push([format!("{path} {label}"), channels, size, mean, silent]);
    }
    page.table(["layer", "maps", "size", "mean", "share of zeros"], rows)?;
    page.holds("there are maps, and they are not all alike", differ(&maps)?)?;
    page.picture("feature_maps", || draw(&trained.config.network, &picture, &maps))?;
    page.picture("kernels", || kernels(&trained.config.network, &*network))
}

/// Trains lenet with batch norm on the embedded digits for some seconds.
fn train(page: &mut Page<'_>) -> Result<Checkpoint> {
    let mut plan = TrainConfig::for_network("lenet_bn", "digits")?;
    plan.epochs = 8;
    let data = plan.load_data(&page.options().data_dir)?;
    let mut training = Trainer::new(plan, &data.train, &page.device())?;
    training.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
    let accuracy = training.history().last().map_or(0.0, |report| report.test_acc);
    page.holds(
        format!(
            "lenet_bn, trained on digits for 8 epochs, is right in {:.1} % of the test images",
            accuracy * 100.0
        ),
        accuracy > 0.8,
    )?;
    training.checkpoint()
}

/// Collects the outputs of layers that give pictures.
#[derive(Default)]
struct Maps(RefCell<Vec<(String, String, Tensor)>>);

impl Observer for Maps {
    fn output(&self, seen: &Seen<'_>) {
        let Seen { path, layer, output, .. } = *seen;
        let is_picture = matches!(*output.shape().extents(), [_, _, h, w] if h * w > 1);
        if is_picture && !state::has_children(layer) {
            let entry = (path.to_string(), layer.label().to_string(), output.tensor().clone());
            self.0.borrow_mut().push(entry);
        }
    }
}

/// Whether each layer has maps that differ from each other.
fn differ(maps: &[(String, String, Tensor)]) -> Result<bool> {
    for (_, _, map) in maps {
        let [_, channels, h, w] = *map.shape().extents() else { return Ok(false) };
        let numbers = map.to_f32()?;
        if channels > 1 && numbers.chunks_exact(h * w).all(|plane| *plane == numbers[..h * w]) {
            return Ok(false);
        }
    }
    Ok(!maps.is_empty())
}

fn draw(network: &str, picture: &Tensor, maps: &[(String, String, Tensor)]) -> Result<RgbImage> {
    let [.., h, w] = *picture.shape().extents() else { unreachable!("pictures have four axes") };
    let pixels = picture.to_f32()?;
    let mut sheet = Sheet::new(format!("Feature maps of {network}"))
        .note(format!(
            "At most {SHOWN} maps of a layer; each from its smallest number (black) to its largest (white)."
        ))
        .row("the picture", [Cell::new(Image::stretched(&pixels[..h * w], [h, w])?)]);
    let step = maps.len().div_ceil(LAYERS).max(1);
    for (path, label, map) in maps.iter().step_by(step) {
        let [_, channels, h, w] = *map.shape().extents() else { continue };
        let numbers = map.to_f32()?;
        let cells = numbers
            .chunks_exact(h * w)
            .take(SHOWN)
            .map(|plane| Ok(Cell::new(Image::stretched(plane, [h, w])?)));
        let cells = cells.collect::<Result<Vec<_>>>()?;
        let shown =
            if channels > SHOWN { format!("{SHOWN} of {channels} maps") } else { format!("{channels} maps") };
        sheet = sheet.row(&format!("{path} {label}\n{h}x{w}\n{shown}"), cells);
    }
    Ok(sheet.draw())
}

/// The kernels of the first convolution.
fn kernels(network: &str, net: &dyn Layer) -> Result<RgbImage> {
    let mut sheet = Sheet::new(format!("What {network} looks for"))
        .note("The kernels of its first convolution: red above 0, blue below.");
    let params = state::params(net);
    let first = params.iter().find(|(_, param)| param.shape().rank() == 4);
    let Some((name, param)) = first else { return Ok(sheet.draw()) };
    let [out, inputs, kh, kw] = *param.shape().extents() else { return Ok(sheet.draw()) };
    let numbers = param.value().to_f32()?;
    let largest = numbers.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
    let mut cells = Vec::new();
    for (i, kernel) in numbers.chunks_exact(inputs * kh * kw).enumerate() {
        let picture = Image::signed(&kernel[..kh * kw], [kh, kw], largest)?;
        cells.push(Cell::new(picture).caption(format!("map {}", i + 1), Tone::Plain));
    }
    for (i, row) in cells.chunks(SHOWN).enumerate() {
        let label = if i == 0 { format!("{name}\n{out} kernels of {kh}x{kw}") } else { String::new() };
        sheet = sheet.row(&label, row.to_vec());
    }
    Ok(sheet.draw())
}
