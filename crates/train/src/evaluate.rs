//! What a network is worth: accuracy and loss on a data set, and the classes of single images.

use std::time::Instant;

use neocog_autograd::{Tape, Var};
use neocog_data::{Dataset, Loader};
use neocog_layers::builder::output_shape;
use neocog_layers::{Layer, Predictor};
use neocog_tensor::ops::Softmax;
use neocog_tensor::{Device, Error, Result, Tensor, run_single};
use serde::Serialize;

use crate::meter::{Meter, measure, to_device};

/// How a network does on a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many images there were.
    pub images: u64,
    /// The mean cross-entropy of an image.
    pub loss: f64,
    /// The share of images that were classified rightly.
    pub accuracy: f64,
    /// Images in a second.
    pub images_per_s: f64,
}

/// Runs `network`, which lives on `device`, in prediction mode over all that `loader` gives.
///
/// # Errors
/// When shapes do not fit, the device fails, or the loss is not a finite number.
pub fn evaluate(network: &dyn Layer, loader: &Loader, device: &Device) -> Result<Evaluation> {
    let start = Instant::now();
    let mut meter = Meter::default();
    let predictor = Predictor::new(network);
    for batch in loader.epoch(0)? {
        let (images, labels) = to_device(&batch?, device)?;
        let tape = Tape::no_grad();
        let logits = Var::constant(predictor.run(&images)?);
        meter.add(measure(&tape, &logits, &labels)?.1)?;
    }
    let mut sums = meter.settle()?;
    sums.seconds = start.elapsed().as_secs_f64();
    Ok(Evaluation {
        images: sums.images,
        loss: sums.mean_loss(),
        accuracy: sums.accuracy(),
        images_per_s: sums.images_per_second(),
    })
}

/// Checks that a network with inputs `[n, c, h, w]`, of which `input` is `[c, h, w]`, can learn and be judged by `data`.
///
/// # Errors
/// When the channels differ, or the network does not give `[n, classes]` with a class for each of the data's.
pub fn check_fits(network: &dyn Layer, input: [usize; 3], data: &Dataset) -> Result<()> {
    let c = input[0];
    let channels = data.shape()[0];
    if channels != c {
        return Err(Error::shape(format!(
            "the network takes images of {c} channels, those of {} have {channels}",
            data.name()
        )));
    }
    check_classes(network, input, data.classes(), data.name())
}

/// Checks that a network with inputs `[n, c, h, w]`, of which `input` is `[c, h, w]`, gives `[n, classes]` with a class for
/// each of the `classes` of a data set.
///
/// # Errors
/// When it does not.
pub fn check_classes(network: &dyn Layer, input: [usize; 3], classes: usize, data: &str) -> Result<()> {
    let [c, h, w] = input;
    let output = output_shape(network, &[1, c, h, w].into())?;
    if output.rank() != 2 || output[1] < classes {
        return Err(Error::shape(format!(
            "the network gives {output} for one image, but the {classes} classes of {data} need [1, {classes}]"
        )));
    }
    Ok(())
}

/// What a network takes an image for.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// All classes with their probabilities, the likeliest first.
    pub classes: Vec<(usize, f64)>,
}

/// What a network takes each of `images`, `[n, c, h, w]`, for.
///
/// # Errors
/// When the images do not fit the network, or the device fails.
pub fn predict(predictor: &Predictor<'_>, images: &Tensor) -> Result<Vec<Prediction>> {
    let logits = predictor.run(images)?;
    let classes = logits.shape().last().copied().unwrap_or(1).max(1);
    let probabilities = run_single(&Softmax { dim: 1 }, &[&logits])?.to_f64()?;
    Ok(probabilities
        .chunks_exact(classes)
        .map(|row| {
            let mut classes: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
            classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            Prediction { classes }
        })
        .collect())
}
