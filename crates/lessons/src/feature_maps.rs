//! Feature maps and kernels of a trained network.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use neocog_data::{Loader, LoaderOptions};
use neocog_insight::features::{FeatureMap, draw_feature_maps, draw_kernels, feature_maps};
use neocog_layers::Predictor;
use neocog_tensor::{Result, Tensor};
use neocog_train::{Checkpoint, NoProgress, TrainConfig, Trainer, predict};

use crate::page::Page;
use crate::register_lesson;

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

    let maps = feature_maps(network, &image)?;
    let mut rows = Vec::new();
    for FeatureMap { path, label, output } in &maps {
        let values = output.to_f64()?;
        let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / values.len() as f64;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let [_, channels, h, w] = *output.shape().extents() else { continue };
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
    page.image("feature_maps", || draw_feature_maps(&trained.config.network, &image, &maps))?;
    page.image("kernels", || draw_kernels(&trained.config.network, network, image.shape()))
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

/// Returns whether there are layers, and each layer with several channels has different feature maps.
fn maps_differ(maps: &[FeatureMap]) -> Result<bool> {
    for FeatureMap { output, .. } in maps {
        let [_, channels, h, w] = *output.shape().extents() else { return Ok(false) };
        let values = output.to_f32()?;
        if channels > 1 && values.chunks_exact(h * w).all(|channel| *channel == values[..h * w]) {
            return Ok(false);
        }
    }
    Ok(!maps.is_empty())
}
