//! Class probabilities of images.

use neocog_layers::Predictor;
use neocog_tensor::ops::Softmax;
use neocog_tensor::{Error, ErrorKind, Result, Tensor, run_single};

/// The class probabilities of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Classes and their probabilities, in descending order of probability.
    pub classes: Vec<(usize, f64)>,
}

/// Predicts the classes of `images` `[n, c, h, w]`.
///
/// # Errors
/// When the shape of the images does not fit the network, or the device fails. [`ErrorKind::Diverged`] when a probability is not
/// finite.
pub fn predict(predictor: &Predictor, images: &Tensor) -> Result<Vec<Prediction>> {
    let logits = predictor.run(images)?;
    let classes = logits.shape().last().copied().unwrap_or(1).max(1);
    let probabilities = run_single(&Softmax { dim: 1 }, &[&logits])?.to_f64()?;
    if let Some(at) = probabilities.iter().position(|p| !p.is_finite()) {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!(
                "the outputs of the network for image {} of {} are not finite: the probability of class {} is {}",
                at / classes + 1,
                images.shape()[0],
                at % classes,
                probabilities[at]
            ),
        ));
    }
    Ok(probabilities
        .chunks_exact(classes)
        .map(|row| {
            let mut classes: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
            classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            Prediction { classes }
        })
        .collect())
}
