//! Evaluation on a data set.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use neocog_autograd::{Tape, Var};
use neocog_base::text::count;
use neocog_data::{Dataset, Loader};
use neocog_layers::builder::output_shape;
use neocog_layers::{Layer, Predictor};
use neocog_tensor::{Device, Error, ErrorKind, Result};
use serde::Serialize;

use crate::meter::{BatchValues, Meter, Totals, batch_metrics, to_device};
use crate::predictions::Predictions;
use crate::ranks::Ranks;

/// The metrics of a network on a data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: u64,
    /// Mean cross-entropy per image.
    pub loss: f64,
    /// Accuracy, from 0 to 1.
    pub accuracy: f64,
    /// Images per second.
    pub images_per_s: f64,
}

/// Evaluates a network, whose parameters are on `device`, on all batches of `loader`, in evaluation mode.
///
/// # Errors
/// When shapes do not match, the device fails, or the loss is not finite.
pub fn evaluate(predictor: &Predictor, loader: &Loader, device: &Device) -> Result<Evaluation> {
    let never = AtomicBool::new(false);
    let evaluation = evaluate_until(predictor, loader, device, &never)?;
    evaluation.ok_or_else(|| Error::new(ErrorKind::Internal, "the evaluation stopped without being asked to"))
}

/// As [`evaluate`], until the end of the batch during which `stop` becomes true: then the result is `None`.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_until(
    predictor: &Predictor,
    loader: &Loader,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>> {
    let stop = || stop.load(Ordering::Relaxed);
    evaluate_batches(&Ranks::single(), predictor, loader, device, &stop, None)
}

/// As [`evaluate`], and returns the prediction for each image; `None` when `stop` becomes true between two batches.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_images(
    predictor: &Predictor,
    loader: &Loader,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(Evaluation, Predictions)>> {
    let mut predictions = Predictions::default();
    let ranks = Ranks::single();
    let evaluation = evaluate_batches(&ranks, predictor, loader, device, stop, Some(&mut predictions))?;
    Ok(evaluation.map(|evaluation| (evaluation, predictions)))
}

/// As [`evaluate_images`], of the batches of all ranks; the predictions are added to `predictions`, if that is given.
pub(crate) fn evaluate_batches(
    ranks: &Ranks,
    predictor: &Predictor,
    loader: &Loader,
    device: &Device,
    stop: &dyn Fn() -> bool,
    mut predictions: Option<&mut Predictions>,
) -> Result<Option<Evaluation>> {
    let start = Instant::now();
    let mut meter = Meter::keeping();
    let (mut numbers, mut stopped) = (Vec::new(), false);
    for (number, batch) in loader.epoch(0)?.enumerate() {
        if stop() {
            stopped = true;
            break;
        }
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        let (images, labels) = to_device(batch.shape(), &batch.pixels, &batch.labels, device)?;
        let tape = Tape::no_grad();
        let logits = Var::constant(predictor.run(&images)?);
        if let Some(predictions) = &mut predictions {
            predictions.push_batch(logits.tensor(), &batch)?;
        }
        meter.add(batch_metrics(&tape, &logits, &labels)?)?;
        // In the order of the whole data set, whoever evaluates the batch.
        numbers.push(number * ranks.size() + ranks.rank());
    }
    meter.flush()?;
    if ranks.any(stopped)? {
        return Ok(None);
    }
    let own: Vec<(usize, BatchValues)> = numbers.into_iter().zip(meter.into_batches()).collect();
    let mut batches = ranks.collect(own)?.concat();
    batches.sort_by_key(|(number, _)| *number);
    let mut sums = Totals::default();
    batches.iter().for_each(|(_, values)| sums.add(values));
    if let Some(predictions) = &mut predictions {
        let all = ranks.collect(std::mem::take(*predictions))?;
        **predictions = Predictions::merged(all);
    }
    if sums.images == 0 {
        return Err(Error::format("no image could be read").context(loader.dataset().name()));
    }
    sums.seconds = start.elapsed().as_secs_f64();
    Ok(Some(Evaluation {
        images: sums.images,
        loss: sums.mean_loss(),
        accuracy: sums.accuracy(),
        images_per_s: sums.images_per_second(),
    }))
}

/// Checks that a network with inputs of shape `input`, `[c, h, w]`, can be trained and evaluated on `data`.
///
/// # Errors
/// `Shape` when the number of channels differs, or the output is not `[n, classes]` with at least the classes of the data.
pub fn check_fits(network: &dyn Layer, input: [usize; 3], data: &dyn Dataset) -> Result<()> {
    check_channels(input, data)?;
    check_classes(network, input, data.classes(), data.name())
}

/// Checks that images of `data` can be inputs of shape `input`, `[c, h, w]`.
///
/// # Errors
/// `Shape` when the number of channels differs.
pub fn check_channels(input: [usize; 3], data: &dyn Dataset) -> Result<()> {
    let c = input[0];
    let channels = data.channels();
    // Between these, images are converted.
    let converted = [1, 3].contains(&c) && [1, 3].contains(&channels);
    if channels != c && !converted {
        return Err(Error::shape(format!(
            "the network expects images of {}, those of {} have {channels}",
            count(c, "channel"),
            data.name()
        )));
    }
    Ok(())
}

/// Checks that the output of a network with inputs of shape `input`, `[c, h, w]`, is `[n, classes]` with at least the
/// `classes` of the data set called `data`.
///
/// # Errors
/// `Shape` when it is not.
pub fn check_classes(network: &dyn Layer, input: [usize; 3], classes: usize, data: &str) -> Result<()> {
    let [c, h, w] = input;
    let output = output_shape(network, &[1, c, h, w].into())?;
    if output.rank() != 2 || output[1] < classes {
        return Err(Error::shape(format!(
            "the output of the network for one image is {output}, but the {classes} classes of {data} need [1, {classes}]"
        )));
    }
    Ok(())
}
